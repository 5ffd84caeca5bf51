import { randomBytes, randomInt } from 'node:crypto'
import type { Run } from '../run/run.js'

/**
 * Made-up ids. They lie outside what a real system hands out and are easy to
 * recognise: integers between 2,000,000,000 and the end of int4 (never a
 * sequence's next value, which live traffic would take meanwhile), UUIDs that
 * begin with `d27ace`, strings that begin with `dry_`.
 */
const INTEGER_BASE = 2_000_000_000
const INTEGER_SPAN = 140_000_000
const UUID_PREFIX = 'd27ace'
const CANDIDATE = /\b2[01]\d{8}\b|\bd27ace[0-9a-f]{2}-[0-9a-f-]{27}\b|\bdry_[a-z0-9]+_\d+\b/g

/** Ids remembered per run; past it they are still unmistakable, but their use goes unnoticed. */
const MAX_REMEMBERED = 10_000

const offsets = new WeakMap<Run, number>()

export function syntheticId(run: Run, kind: 'integer' | 'uuid' | 'string', standsFor = ''): string {
  const id = make(run, kind)
  if (run.syntheticIds.size < MAX_REMEMBERED) run.syntheticIds.set(id, standsFor)
  return id
}

function make(run: Run, kind: 'integer' | 'uuid' | 'string'): string {
  // A random start, so that two runs do not hand out the same ids.
  const next = (offsets.get(run) ?? randomInt(INTEGER_SPAN)) + 1
  offsets.set(run, next)
  switch (kind) {
    case 'integer':
      return String(INTEGER_BASE + (next % INTEGER_SPAN))
    case 'string':
      return `dry_${run.fallbackTraceId.slice(0, 6)}_${next}`
    case 'uuid': {
      const hex = UUID_PREFIX + randomBytes(13).toString('hex')
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
    }
  }
}

/** Which of the run's made-up ids show up in a text. */
export function findSyntheticIds(run: Run, text: string): string[] {
  if (run.syntheticIds.size === 0) return []
  return [...new Set(text.match(CANDIDATE) ?? [])].filter((candidate) => run.syntheticIds.has(candidate))
}
