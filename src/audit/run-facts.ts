import type { IntegrityProblem } from '../journal/reader.js'
import type { EffectRecord, JournalRecord } from '../journal/record.js'
import { AttemptFinder } from './attempts.js'

export type Verdict = 'clean' | 'unblocked' | 'guard_failed' | 'incomplete'

export interface Totals {
  blocked: number
  forwarded: number
  /** Writes (and effects that cannot be told apart from one) that were let through. */
  allowedWrites: number
  unblocked: number
  failed: number
  reads: number
}

/** What a verdict and an exit code depend on. */
export interface Findings {
  /** A write left that nobody decided on. */
  readonly unblocked: boolean
  /** The fence refused egress no integration knows: nobody can say what it would have done. */
  readonly unclassified: boolean
  readonly guardFailed: boolean
  /** Records may be missing or changed. */
  readonly damaged: boolean
}

/** The verdict on a run: the worst finding decides. */
export function verdictOf(findings: Findings): Verdict {
  if (findings.unblocked) return 'unblocked'
  if (findings.guardFailed) return 'guard_failed'
  if (findings.damaged || findings.unclassified) return 'incomplete'
  return 'clean'
}

/**
 * True for raw egress the fence refused. Only the fence speaks of the system
 * `net`; whichever rule refused, what was behind the connection is unknown.
 */
export function isFenceRefusal(effect: Pick<EffectRecord, 'system' | 'outcome'>): boolean {
  return effect.system === 'net' && (effect.outcome === 'blocked' || effect.outcome === 'failed')
}

/** What is known of a run without holding its records: enough for a table of runs. Made by adding the run's records one by one. */
export class RunFacts {
  readonly id: string
  readonly services = new Set<string>()
  readonly traceIds = new Set<string>()
  /** The writers whose journals hold records of the run. */
  readonly processes = new Set<string>()
  readonly totals: Totals = { blocked: 0, forwarded: 0, allowedWrites: 0, unblocked: 0, failed: 0, reads: 0 }
  /** Defects of the journal that may have cost records of this run. */
  readonly integrity: IntegrityProblem[] = []
  fenceRefusals = 0
  /** How often an entry of the application, or a handler in the run, ended with an error of its own. */
  applicationErrors = 0
  startedAt = ''
  lastAt = ''
  /** Null while no process has said that the run ended. */
  endedAt: string | null = null
  #entry: { readonly at: string; readonly entry: string } | undefined
  readonly #attempts = new AttemptFinder()
  #unblocked = false
  #guardFailed = false

  constructor(id: string) {
    this.id = id
  }

  /** How the run began; `unknown` when the record that says so is missing. */
  get entry(): string {
    return this.#entry?.entry ?? 'unknown'
  }

  get entrySeen(): boolean {
    return this.#entry !== undefined
  }

  get findings(): Findings {
    return {
      unblocked: this.#unblocked,
      unclassified: this.fenceRefusals > 0,
      guardFailed: this.#guardFailed,
      damaged: this.integrity.length > 0 || !this.entrySeen,
    }
  }

  /** @param service name of the service whose process wrote the record, when known. */
  add(process: string, record: JournalRecord, service?: string): void {
    if (record.type === 'problem') {
      if (record.kind === 'unblocked') this.#unblocked = true
      if (record.kind === 'guard_failed') this.#guardFailed = true
      if (record.kind === 'run_error') this.applicationErrors += 1
      // A problem of the whole process says nothing about when or where the run was.
      if (record.runId == null) return
    }
    this.processes.add(process)
    if (service !== undefined) this.services.add(service)
    if (this.startedAt === '' || record.at < this.startedAt) this.startedAt = record.at
    if (record.at > this.lastAt) this.lastAt = record.at
    if ('traceId' in record && record.traceId !== null && /[1-9a-f]/.test(record.traceId))
      this.traceIds.add(record.traceId)
    switch (record.type) {
      case 'run':
        if (this.#entry === undefined || record.at < this.#entry.at)
          this.#entry = { at: record.at, entry: record.entry }
        break
      case 'run_end':
        if (record.error != null) this.applicationErrors += 1
        if (this.endedAt === null || record.at > this.endedAt) this.endedAt = record.at
        break
      case 'effect':
        this.services.add(record.service)
        // One call that its client tries again is one write.
        if ((this.#attempts.add(process, record)?.count ?? 1) === 1) this.#count(record)
        break
    }
  }

  #count(effect: EffectRecord): void {
    if (isFenceRefusal(effect)) this.fenceRefusals += 1
    switch (effect.outcome) {
      case 'blocked':
      case 'forwarded':
        this.totals[effect.outcome] += 1
        break
      case 'allowed':
        this.totals[effect.effect === 'read' ? 'reads' : 'allowedWrites'] += 1
        break
      case 'failed':
        this.totals.failed += 1
        this.#guardFailed = true
        break
      default:
        // `unblocked`, and an outcome this version does not know: not counted as safe.
        this.totals.unblocked += 1
        this.#unblocked = true
    }
  }
}
