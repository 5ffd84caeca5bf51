import type { Run } from '../../run/run.js'

/** Made-up ids that fit a smallint. Too common as numbers to be recognised elsewhere, so their later use is not reported. */
const BASE = 30_000
const SPAN = 2_768

const taken = new WeakMap<Run, Set<string>>()

export function smallId(run: Run): string {
  let own = taken.get(run)
  if (own === undefined) {
    own = new Set()
    taken.set(run, own)
  }
  const id = String(BASE + (own.size % SPAN))
  own.add(id)
  return id
}

/** True for ids this run has made up, whatever their size. */
export function isMadeUp(run: Run, value: string): boolean {
  return run.syntheticIds.has(value) || taken.get(run)?.has(value) === true
}
