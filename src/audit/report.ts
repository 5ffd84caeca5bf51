import type { IntegrityProblem } from '../journal/reader.js'
import type {
  Action,
  Attestation,
  DecisionRecord,
  EffectKind,
  EffectRecord,
  FieldChange,
  JournalRecord,
  Outcome,
  OverlaidBy,
  Payload,
  Preview,
  ProblemKind,
  ProblemRecord,
  RunRecord,
} from '../journal/record.js'
import { AttemptFinder } from './attempts.js'
import { readsBesideOtherProcesses } from './other-process.js'
import { RunFacts, type Totals, type Verdict, verdictOf } from './run-facts.js'

export const REPORT_SCHEMA = 'drytrace.report/1'

/** Everything one run did and would have done: the document `drytrace report --json` prints. */
export interface Report {
  readonly schema: typeof REPORT_SCHEMA
  readonly run: ReportRun
  readonly totals: Readonly<Totals>
  /** Reads too, in the order in which they happened. */
  readonly effects: readonly ReportEffect[]
  readonly decisions: readonly ReportDecision[]
  readonly problems: readonly ReportProblem[]
  readonly attestation: Attestation
}

export interface ReportRun {
  readonly id: string
  readonly traceIds: readonly string[]
  /** `http`, `process`, `dryRun`, `message`; `unknown` when the record that says so is missing. */
  readonly entry: string
  readonly service: readonly string[]
  /** ISO 8601, UTC. */
  readonly startedAt: string
  /** Null when no process recorded the end of the run. */
  readonly endedAt: string | null
  readonly verdict: Verdict
}

export interface ReportEffect {
  /** From 1, in the order of the report. */
  readonly seq: number
  readonly at: string
  readonly traceId: string
  readonly spanId: string
  readonly service: string
  readonly system: string
  readonly action: Action | null
  readonly effect: EffectKind
  readonly outcome: Outcome
  readonly target: string
  readonly summary: string
  readonly rule: string
  readonly reason: string
  /** Method `none` where there is no preview. */
  readonly preview: { readonly method: Preview['method']; readonly rows: number; readonly diff: readonly FieldChange[] }
  readonly payload?: Payload
  readonly error?: { readonly code: string | null; readonly message: string }
  /** What the preview could not see or does not promise, and the predicted native error. */
  readonly notes?: readonly string[]
  /** Ids made up for the simulated result. */
  readonly syntheticIds?: readonly string[]
  /** Absent unless the call uses an id that an earlier simulated result of this run made up. */
  readonly syntheticUsed?: boolean
  /** How often the client tried this one call; absent for once. The row is the first attempt, and each is a record. */
  readonly attempts?: number
  /** Spans of the attempts after the first. */
  readonly attemptSpanIds?: readonly string[]
  /** The blocked writes of this run that a read was answered with. */
  readonly overlaidBy?: readonly OverlaidBy[]
}

export interface ReportDecision {
  readonly at: string
  readonly traceId: string
  readonly kind: 'llm' | 'tool'
  readonly name: string
  readonly model: string | null
  readonly promptName: string | null
  readonly promptVersion: string | null
  readonly input?: unknown
  readonly output?: unknown
}

export interface ReportProblem {
  readonly kind: ProblemKind
  readonly message: string
  readonly spanId: string | null
}

/** What a source hands over about one run. */
export interface RunMaterial {
  readonly runId: string
  /** Records of the run, and those of its processes that belong to no run, with the service that wrote each. */
  readonly records: readonly SourcedRecord[]
  /** Defects of the journal that may have cost records of this run. */
  readonly integrity: readonly IntegrityProblem[]
}

export interface SourcedRecord {
  readonly process: string
  readonly service: string | undefined
  readonly record: JournalRecord
}

/** Builds the report document of one run. Pure: equal records give an equal document. */
export function buildReport({ runId, records, integrity }: RunMaterial): Report {
  const facts = new RunFacts(runId)
  facts.integrity.push(...integrity)
  for (const { process, service, record } of records) facts.add(process, record, service)
  const retries = retriesIn(records)

  const sorted = records.toSorted(byTime)
  const ordered = sorted.map((sourced) => sourced.record)
  const effects = ordered.filter((record) => record.type === 'effect')
  const runs = ordered.filter((record) => record.type === 'run')
  return {
    schema: REPORT_SCHEMA,
    run: {
      id: runId,
      traceIds: [...facts.traceIds],
      entry: facts.entry,
      service: [...facts.services].sort(),
      startedAt: facts.startedAt,
      endedAt: facts.endedAt,
      verdict: verdictOf(facts.findings),
    },
    totals: facts.totals,
    effects: effects
      .filter((record) => !retries.all.has(record))
      .map((record, index) => withAttempts(reportEffect(record, index + 1), retries.of.get(record))),
    decisions: ordered.filter((record) => record.type === 'decision').map(reportDecision),
    problems: [
      ...problemsOf(ordered, effects, runs, facts),
      ...readsBesideOtherProcesses(sorted).map((message) => ({ kind: 'gap' as const, message, spanId: null })),
    ],
    attestation: attestationOf(runs),
  }
}

/** The report of a run nothing is known about but that it was asked for, for example a program that never loaded the guard. */
export function emptyReport(runId: string, startedAt: string, endedAt: string, message: string): Report {
  return {
    schema: REPORT_SCHEMA,
    run: { id: runId, traceIds: [], entry: 'process', service: [], startedAt, endedAt, verdict: 'incomplete' },
    totals: new RunFacts(runId).totals,
    effects: [],
    decisions: [],
    problems: [{ kind: 'gap', message, spanId: null }],
    attestation: attestationOf([]),
  }
}

function byTime(a: SourcedRecord, b: SourcedRecord): number {
  if (a.record.at !== b.record.at) return a.record.at < b.record.at ? -1 : 1
  return a.record.seq - b.record.seq || (a.process < b.process ? -1 : a.process > b.process ? 1 : 0)
}

interface Retries {
  /** By the record of the first attempt. */
  readonly of: ReadonlyMap<EffectRecord, readonly EffectRecord[]>
  readonly all: ReadonlySet<EffectRecord>
}

function retriesIn(records: readonly SourcedRecord[]): Retries {
  const finder = new AttemptFinder()
  const firsts = new Map<object, EffectRecord>()
  const of = new Map<EffectRecord, EffectRecord[]>()
  const all = new Set<EffectRecord>()
  for (const { process, record } of records) {
    const attempts = record.type === 'effect' ? finder.add(process, record) : undefined
    if (record.type !== 'effect' || attempts === undefined) continue
    const first = firsts.get(attempts)
    if (first === undefined) {
      firsts.set(attempts, record)
      continue
    }
    of.set(first, [...(of.get(first) ?? []), record])
    all.add(record)
  }
  return { of, all }
}

function withAttempts(effect: ReportEffect, retries: readonly EffectRecord[] = []): ReportEffect {
  if (retries.length === 0) return effect
  const ids = [...(effect.syntheticIds ?? []), ...retries.flatMap((record) => record.syntheticIds ?? [])]
  return {
    ...effect,
    ...(ids.length === 0 ? {} : { syntheticIds: ids }),
    ...(retries.some((record) => record.syntheticUsed) ? { syntheticUsed: true } : {}),
    attempts: retries.length + 1,
    attemptSpanIds: retries.map(({ spanId }) => spanId),
  }
}

function reportEffect(record: EffectRecord, seq: number): ReportEffect {
  const { at, traceId, spanId, service, system, action, effect, outcome, target, summary, rule, reason } = record
  const { method, rows, diff } = record.preview ?? { method: 'none' as const, rows: 0, diff: [] }
  const notes = [...(record.preview?.notes ?? []), ...(record.note == null ? [] : [record.note])]
  return {
    ...{
      seq,
      at,
      traceId,
      spanId,
      service,
      system,
      action: action ?? null,
      effect,
      outcome,
      target,
      summary,
      rule,
      reason,
    },
    preview: { method, rows, diff },
    ...(record.payload == null ? {} : { payload: record.payload }),
    ...(record.error == null ? {} : { error: record.error }),
    ...(notes.length === 0 ? {} : { notes }),
    ...(record.syntheticIds === undefined || record.syntheticIds.length === 0
      ? {}
      : { syntheticIds: record.syntheticIds }),
    ...(record.syntheticUsed ? { syntheticUsed: true } : {}),
    ...(record.overlaidBy == null ? {} : { overlaidBy: record.overlaidBy }),
  }
}

function reportDecision(record: DecisionRecord): ReportDecision {
  const { at, traceId, kind, name, model = null, promptName = null, promptVersion = null } = record
  return {
    ...{ at, traceId, kind, name, model, promptName, promptVersion },
    ...(record.input === undefined ? {} : { input: record.input }),
    ...(record.output === undefined ? {} : { output: record.output }),
  }
}

/** The recorded problems, and those that other records imply and nobody recorded as one. */
function problemsOf(
  ordered: readonly JournalRecord[],
  effects: readonly EffectRecord[],
  runs: readonly RunRecord[],
  facts: RunFacts,
): ReportProblem[] {
  const recorded = ordered.filter((record): record is ProblemRecord => record.type === 'problem')
  const problems: ReportProblem[] = recorded.map(({ kind, message, spanId }) => ({
    kind,
    message,
    spanId: spanId ?? null,
  }))

  const known = new Set(problems.map(({ kind, spanId }) => `${kind} ${spanId}`))
  const implied = (kind: ProblemKind, effect: EffectRecord, message: string) => {
    if (!known.has(`${kind} ${effect.spanId}`)) problems.push({ kind, message, spanId: effect.spanId })
  }
  for (const effect of effects) {
    if (effect.outcome === 'unblocked')
      implied('unblocked', effect, `${effect.summary} was not blocked: ${effect.reason}`)
    if (effect.outcome === 'failed') {
      implied('guard_failed', effect, `${effect.summary}: ${effect.error?.message ?? effect.reason}`)
    }
    if (effect.syntheticUsed) implied('synthetic_used', effect, `${effect.summary} uses an id this run made up`)
  }

  const messages = new Set(problems.map((problem) => problem.message))
  const add = (kind: ProblemKind, message: string) => {
    if (!messages.has(message)) problems.push({ kind, message, spanId: null })
    messages.add(message)
  }
  for (const run of runs) {
    if (!run.conflict) continue
    const carriers = run.carriers.join(', ')
    add('flag_lost', `the carriers of the flag (${carriers}) disagreed, or one was malformed; the run was kept dry`)
  }
  // Each entry that failed is a failure of its own, even in the same words.
  const told = new Set(messages)
  for (const record of ordered) {
    if (record.type !== 'run_end' || record.error == null || told.has(record.error)) continue
    problems.push({ kind: 'run_error', message: record.error, spanId: null })
  }
  const policies = new Set(runs.map((run) => run.attestation.policyHash))
  if (policies.size > 1) add('gap', `the processes of this run had ${policies.size} different policies`)
  if (!facts.entrySeen) add('gap', 'journal: no record says how this run was entered, so its beginning is missing')
  for (const { message } of facts.integrity) add('gap', `journal: ${message}`)
  return problems
}

function attestationOf(runs: readonly RunRecord[]): Attestation {
  return {
    hooks: [...new Set(runs.flatMap((run) => run.attestation.hooks))],
    gaps: [...new Set(runs.flatMap((run) => run.attestation.gaps))],
    policyHash: runs.map((run) => run.attestation.policyHash).find((hash) => hash != null) ?? null,
  }
}
