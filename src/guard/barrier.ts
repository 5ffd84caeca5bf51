import { shared } from '../run/store.js'

/**
 * - `armed`: every copy seen is guarded.
 * - `not loaded`: the library has not been loaded.
 * - `too late`: it was loaded before `drytrace/register`, so its calls cannot be met.
 * - `unsupported version`: outside the tested range.
 * - `failed`: patching it threw, or the self-check did not see it.
 */
export type HookStatus = 'armed' | 'not loaded' | 'too late' | 'unsupported version' | 'failed'

/** One client library, as `armed()` lists it. */
export interface HookReport {
  readonly name: string
  readonly status: HookStatus
  /** Versions of the copies seen. */
  readonly versions: readonly string[]
  /** Why, when it is not armed. */
  readonly detail: string | null
}

interface Sighting {
  readonly status: HookStatus
  readonly version: string | null
  readonly detail: string | null
}

const SEVERITY: readonly HookStatus[] = ['not loaded', 'armed', 'unsupported version', 'too late', 'failed']

/**
 * Knows what is guarded. Dry runs are refused as long as a write-capable
 * client is loaded and not armed: a run that is only half guarded is worse
 * than none.
 */
export interface Barrier {
  expect(name: string): void
  saw(name: string, sighting: Sighting): void
  /** A gap that is not a library: an invalid policy, a loader that does not run. */
  gap(message: string): void
  /** Gaps that come and go; asked whenever the gate is. */
  watch(gaps: () => readonly string[]): void
  hooks(): readonly HookReport[]
  /** `pg@8.23.1` for each armed copy; for the attestation. */
  armedNames(): readonly string[]
  /** Why dry runs are refused; empty when the gate is open. */
  gaps(): readonly string[]
}

export function createBarrier(): Barrier {
  const seen = new Map<string, Sighting[]>()
  const others: string[] = []
  const watched: (() => readonly string[])[] = []

  function report(name: string, sightings: readonly Sighting[]): HookReport {
    const worst = sightings.reduce<Sighting | undefined>(
      (a, b) => (a === undefined || SEVERITY.indexOf(b.status) > SEVERITY.indexOf(a.status) ? b : a),
      undefined,
    )
    return {
      name,
      status: worst?.status ?? 'not loaded',
      versions: [...new Set(sightings.flatMap(({ version }) => (version === null ? [] : [version])))],
      detail: worst?.detail ?? null,
    }
  }

  const hooks = () => [...seen].map(([name, sightings]) => report(name, sightings))

  // Asked at every decision, and changed only while libraries are loaded.
  let standing: readonly string[] | undefined
  const findStanding = (): readonly string[] => [
    ...others,
    ...hooks().flatMap(({ name, status, versions, detail }) =>
      status === 'armed' || status === 'not loaded'
        ? []
        : [
            `${name}${versions.length === 0 ? '' : `@${versions.join(', ')}`}: ${status}${detail === null ? '' : ` (${detail})`}`,
          ],
    ),
  ]
  return {
    expect(name) {
      if (!seen.has(name)) seen.set(name, [])
    },
    saw(name, sighting) {
      const sightings = seen.get(name) ?? []
      seen.set(name, [...sightings, sighting])
      standing = undefined
    },
    gap(message) {
      others.push(message)
      standing = undefined
    },
    watch(gaps) {
      watched.push(gaps)
    },
    hooks,
    armedNames: () =>
      hooks().flatMap(({ name, status, versions }) =>
        status !== 'armed' ? [] : versions.length === 0 ? [name] : versions.map((version) => `${name}@${version}`),
      ),
    gaps: () => {
      standing ??= findStanding()
      let all = standing
      for (const gaps of watched) {
        const now = gaps()
        if (now.length > 0) all = [...all, ...now]
      }
      return all
    },
  }
}

/** The barrier of this process, once `drytrace/register` has run. */
export function processBarrier(): Barrier | undefined {
  return shared.slots.get('barrier') as Barrier | undefined
}
