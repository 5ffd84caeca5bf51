import { randomBytes } from 'node:crypto'

/** One dry run, as this process knows it. */
export interface Run {
  readonly id: string
  /** `http`, `process`, `dryRun`, `message`: how this process was entered. */
  readonly entry: string
  /** Which carriers brought the flag: `baggage`, `tracestate`, `header`, `env`, `message`, `api`. */
  readonly carriers: readonly string[]
  /** Carriers disagreed or one was malformed. The run is dry all the same. */
  readonly conflict: boolean
  readonly caseId: string | null
  /** The signed form of the flag, when one came with it. */
  readonly token: string | null
  readonly startedAt: number
  /** True for `DRY_RUN=1`: everything in this process belongs to the run and no live queue is consumed. */
  readonly processWide: boolean
  /** True once the run has been admitted or has met its first effect: from then on the journal knows it. */
  begun: boolean
  /** How many entries (requests, calls of `dryRun`, handlers) are open. */
  holds: number
  /** Set when the last entry has ended; work it caused may still go on for a while. */
  endedAt: number | undefined
  lastSeenAt: number
  /** Trace id used where no SDK records one, so that the effects of a run stay together. */
  readonly fallbackTraceId: string
  /** Spent so far of the run's budget. */
  readonly spent: { writes: number; readonly repeats: Map<string, number> }
  /** Ids made up for simulated results, with what they stand for, so that their later use is reported. */
  readonly syntheticIds: Map<string, string>
}

/** Charset and length that every carrier can hold unescaped (tracestate is the tightest). */
const RUN_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$/

export function isRunId(value: string): boolean {
  return RUN_ID.test(value)
}

/** Sorts by time, and is short enough to read out on the phone. */
export function createRunId(now = Date.now()): string {
  return `dr-${now.toString(36)}-${randomBytes(4).toString('hex')}`
}

export interface RunOptions {
  readonly id?: string
  readonly entry: string
  readonly carriers: readonly string[]
  readonly conflict?: boolean
  readonly caseId?: string | null
  readonly token?: string | null
  readonly processWide?: boolean
}

export function createRun(options: RunOptions): Run {
  const now = Date.now()
  return {
    id: options.id ?? createRunId(now),
    entry: options.entry,
    carriers: options.carriers,
    conflict: options.conflict ?? false,
    caseId: options.caseId ?? null,
    token: options.token ?? null,
    startedAt: now,
    processWide: options.processWide ?? false,
    begun: false,
    holds: 0,
    endedAt: undefined,
    lastSeenAt: now,
    fallbackTraceId: randomBytes(16).toString('hex'),
    spent: { writes: 0, repeats: new Map() },
    syntheticIds: new Map(),
  }
}
