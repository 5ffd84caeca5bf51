import type { Attempt, EffectRecord } from '../journal/record.js'

/** The attempts of one call, in the order of their records. */
export interface Attempts {
  /** How many so far. */
  readonly count: number
}

interface Group {
  count: number
  last: Seen
}

/** What is kept of the last attempt. */
interface Seen extends Attempt {
  readonly at: number
  readonly traceId: string
}

/** Milliseconds between two attempts, where nothing but their likeness says that they are of one call. */
const SUCCESSION = 30_000

/**
 * Finds the retries among a run's blocked requests, record by record, in each
 * process in the order of its journal. Two calls that happen to be equal stay
 * two: equal requests are one call only where the client gave both the same
 * key, where it says itself that it tries again, or where the same span made
 * the second soon after the first was answered with a failure.
 */
export class AttemptFinder {
  readonly #groups = new Map<string, Group[]>()

  /** The attempts this record is the latest of; undefined for what has none. Ask once per record. */
  add(process: string, record: EffectRecord): Attempts | undefined {
    const { attempt, outcome, traceId } = record
    if (attempt == null || typeof attempt.request !== 'string' || outcome !== 'blocked') return undefined
    const seen: Seen = { ...attempt, at: Date.parse(record.at), traceId }
    const key = `${process} ${attempt.request}`
    let groups = this.#groups.get(key)
    if (groups === undefined) {
      groups = []
      this.#groups.set(key, groups)
    }
    const group = groups.findLast(({ last }) => triesAgain(last, seen))
    if (group !== undefined) {
      group.count += 1
      group.last = seen
      return group
    }
    const first: Group = { count: 1, last: seen }
    groups.push(first)
    return first
  }
}

function triesAgain(before: Seen, now: Seen): boolean {
  if (before.intent !== undefined || now.intent !== undefined) return before.intent === now.intent
  if (before.caller !== now.caller) return false
  // Two calls at once, each of which fails: the second was on its way already.
  if (!(now.began > before.recorded)) return false
  if (now.number !== undefined || before.number !== undefined) {
    return before.number !== undefined && now.number === before.number + 1
  }
  const failed = before.answer === null || before.answer >= 400
  return failed && now.caller !== null && before.traceId === now.traceId && now.at - before.at <= SUCCESSION
}
