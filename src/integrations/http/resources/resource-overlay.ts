import { isItem, isList } from './json-value.js'
import { applyChange, NotOverlaid, type PlannedChange } from './planned-change.js'
import { lastSegment, namesItem, parentOf, type ResourceKey } from './resource-key.js'

/** A blocked write, by the span it is on record with. */
export interface OverlaidWrite {
  readonly summary: string
  readonly spanId: string
}

/** What a resource is before the run's changes: what the service says, nothing, or what the run would have created. */
export type Base = { readonly kind: 'real' } | { readonly kind: 'gone' } | Planned

export interface Planned {
  readonly kind: 'planned'
  readonly value: unknown
  readonly contentType: string
}

interface Change {
  readonly change: PlannedChange
  /** A POST changes the resource at its path only if that is an item. */
  readonly post: boolean
}

/** One resource, as the run would have left it. */
export interface Resource {
  readonly key: ResourceKey
  readonly base: Base
  /** On top of the real one, in order. */
  readonly changes: readonly Change[]
  readonly writes: readonly OverlaidWrite[]
  /** Why it cannot be said what it would be. */
  readonly unknown: string | undefined
  /** Digest of the credentials of the last write. */
  readonly caller: string
  readonly bytes: number
}

export interface Limits {
  /** Resources of one run. */
  readonly resources: number
  /** Bytes of the bodies kept for one resource. */
  readonly resourceBytes: number
  /** Bytes of all bodies of a run. */
  readonly runBytes: number
}

export const LIMITS: Limits = { resources: 2_000, resourceBytes: 256 * 1024, runBytes: 8 * 1024 * 1024 }

const MAX_CHANGES = 200
const REAL: Base = { kind: 'real' }

/** What one run would have done to the resources of HTTP services: in this process, and no longer than the run. */
export class ResourceOverlay {
  readonly #limits: Limits
  /** By path, then by query. */
  readonly #resources = new Map<string, Map<string, Resource>>()
  /** Paths whose entries the run would have changed, with the last write that did. */
  readonly #collections = new Map<string, OverlaidWrite>()
  #count = 0
  #bytes = 0
  /** What the report has been told already. */
  readonly told = new Set<string>()

  constructor(limits: Limits = LIMITS) {
    this.#limits = limits
  }

  find({ path, query }: ResourceKey): Resource | undefined {
    const known = this.#resources.get(path)
    const plain = known?.get('')
    // What only this run knows is meant whatever else is asked.
    return known?.get(query) ?? (plain?.base.kind === 'planned' ? plain : undefined)
  }

  /** The last write to this path that named another resource by its query. */
  besides({ path, query }: ResourceKey): OverlaidWrite | undefined {
    const others = [...(this.#resources.get(path) ?? [])].filter(([each]) => each !== query)
    return others.at(-1)?.[1].writes.at(-1)
  }

  /** The last write to an entry of this collection. */
  entriesOf({ path }: ResourceKey): OverlaidWrite | undefined {
    return this.#collections.get(path)
  }

  /** A write to an entry of this collection, or of one in it. */
  entriesUnder(path: string): OverlaidWrite | undefined {
    const below = `${path}/`
    for (const [collection, write] of this.#collections) {
      if (collection === path || collection.startsWith(below)) return write
    }
    return undefined
  }

  /** The write that would have deleted something this path lies in. */
  goneAbove(key: ResourceKey): OverlaidWrite | undefined {
    for (let path = parentOf(key); path !== undefined; path = parentOf({ path, query: '' })) {
      const above = this.#resources.get(path)?.get('')
      if (above?.base.kind === 'gone') return above.writes.at(-1)
    }
    return undefined
  }

  /** A write to the resource at its own path. @returns false when the run's bounds are spent. */
  change(
    key: ResourceKey,
    change: PlannedChange,
    from: { write: OverlaidWrite; post: boolean; caller: string; size: number },
  ): boolean {
    const { write, post, caller, size } = from
    const before = this.find(key)
    const writes = [...(before?.writes ?? []), write].slice(-MAX_CHANGES)
    const bytes = (change.kind === 'replace' || change.kind === 'delete' ? 0 : (before?.bytes ?? 0)) + size
    const next = { key: before?.key ?? key, writes, caller, bytes }
    const kept = this.#keep({ ...next, ...this.#changed(key, before, { change, post }, bytes) })
    const parent = parentOf(key)
    // A POST to a collection says nothing of what the collection lies in.
    if (parent !== undefined && (!post || namesItem(key))) this.#collections.set(parent, write)
    return kept
  }

  #changed(
    key: ResourceKey,
    before: Resource | undefined,
    { change, post }: Change,
    bytes: number,
  ): Pick<Resource, 'base' | 'changes' | 'unknown'> {
    const base = before?.base ?? REAL
    const changes = before?.changes ?? []
    // A collection that is deleted is empty afterwards, not gone: that takes a look at it.
    if (change.kind === 'delete') {
      return base.kind !== 'real' || namesItem(key)
        ? { base: { kind: 'gone' }, changes: [], unknown: undefined }
        : { base, changes: [{ change, post }], unknown: undefined }
    }
    const unknown = (reason: string) => ({ base, changes, unknown: before?.unknown ?? reason })
    if (bytes > this.#limits.resourceBytes)
      return unknown(`more than ${this.#limits.resourceBytes} bytes were written to it`)
    if (change.kind === 'replace' && base.kind === 'real')
      return { base, changes: [{ change, post }], unknown: undefined }
    if (before?.unknown !== undefined) return unknown(before.unknown)
    if (base.kind === 'real') {
      if (change.kind === 'unknown' && !post) return unknown(change.reason)
      if (changes.length >= MAX_CHANGES) return unknown(`it was written more than ${MAX_CHANGES} times`)
      return { base, changes: [...changes, { change, post }], unknown: undefined }
    }
    const contentType = base.kind === 'planned' ? base.contentType : 'application/json'
    try {
      // What changes what is gone fails, and it stays gone; a PUT makes it anew.
      if (base.kind === 'gone' && change.kind !== 'replace') return { base, changes: [], unknown: undefined }
      const value = applyChange(base.kind === 'planned' ? base.value : undefined, change)
      return { base: { kind: 'planned', value, contentType }, changes: [], unknown: undefined }
    } catch (error) {
      if (!(error instanceof NotOverlaid)) throw error
      return unknown(error.message)
    }
  }

  /** A resource that only this run knows. @returns false when the run's bounds are spent. */
  create(
    key: ResourceKey,
    planned: Omit<Planned, 'kind'>,
    from: { write: OverlaidWrite; caller: string; size: number },
  ): boolean {
    const { write, caller, size } = from
    const parent = parentOf(key)
    if (parent !== undefined) this.#collections.set(parent, write)
    if (size > this.#limits.resourceBytes) return false
    return this.#keep({
      ...{ key, caller, bytes: size, changes: [], unknown: undefined },
      base: { kind: 'planned', ...planned },
      writes: [write],
    })
  }

  #keep(resource: Resource): boolean {
    const { path, query } = resource.key
    const known = this.#resources.get(path) ?? new Map<string, Resource>()
    const before = known.get(query)
    const bytes = this.#bytes - (before?.bytes ?? 0) + resource.bytes
    const full = bytes > this.#limits.runBytes || (before === undefined && this.#count >= this.#limits.resources)
    if (full && before === undefined) return false
    // What is known of it already must not be taken for all there is.
    const kept = full
      ? { ...resource, changes: [], base: REAL, bytes: 0, unknown: 'the run wrote more than is kept' }
      : resource
    this.#bytes += kept.bytes - (before?.bytes ?? 0)
    if (before === undefined) this.#count += 1
    this.#resources.set(path, known.set(query, kept))
    return !full
  }
}

/**
 * The real resource as the run would have left it; undefined when it would be gone.
 *
 * @param real undefined where the service has none
 * @throws NotOverlaid
 */
export function asPlanned({ key, changes, unknown }: Resource, real: unknown): unknown {
  if (unknown !== undefined) throw new NotOverlaid(unknown)
  const segment = lastSegment(key)
  return changes.reduce<unknown>((value, { change, post }) => {
    if ((change.kind === 'delete' || post) && isList(value)) throw new NotOverlaid('what is read is a list')
    if (post && !isItem(value, segment) && !isItem(value, segment.replace(/\.json$/, ''))) {
      throw new NotOverlaid('what a POST to it does is not known')
    }
    return applyChange(value, change)
  }, real)
}
