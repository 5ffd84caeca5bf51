/**
 * Journal records, one JSON object a line, append-only. A file belongs to one
 * process; `seq` counts from 1 within the file and `chain` is the SHA-256 of
 * the previous line, so a missing, reordered or torn line is found on reading.
 */
export const JOURNAL_SCHEMA = 'drytrace.journal/1'

/** `unknown` is treated as a write everywhere. */
export type EffectKind = 'read' | 'write' | 'unknown'

export type Action =
  | 'create'
  | 'update'
  | 'upsert'
  | 'delete'
  | 'send'
  | 'publish'
  | 'enqueue'
  | 'schedule'
  | 'charge'
  | 'execute'
  | 'ddl'
  | 'settle'

/** One field of one record, before and after. Values are JSON; `null` is SQL NULL, absent is "no such row". */
export interface FieldChange {
  readonly target: string
  /** Identifies the record within the target, for example `id=42`; null where there is no key. */
  readonly key: string | null
  readonly field: string
  readonly before?: unknown
  readonly after?: unknown
}

/** The would-be change, worked out without making it. */
export interface Preview {
  readonly method: 'select' | 'rollback' | 'synthesized' | 'none'
  /** How many records would change. */
  readonly rows: number
  readonly diff: readonly FieldChange[]
  /** What the preview could not see or does not promise, one sentence each: triggers, cascades, predicted violations. */
  readonly notes?: readonly string[]
  /** What else would happen because of the change, besides the diff. */
  readonly secondary?: readonly SecondaryEffect[]
}

/** An effect of a write that the write itself does not name. */
export interface SecondaryEffect {
  readonly kind: 'trigger' | 'policy' | 'rule' | 'cascade'
  /** The table it belongs to, or for a cascade the one it would change. */
  readonly target: string
  /** Name of the trigger, policy, rule or foreign key. */
  readonly name: string
  /** Records it would change, where they were counted. */
  readonly rows?: number
}

/** The would-be payload, redacted and capped before it gets here. */
export interface Payload {
  /** SHA-256 of the whole payload, hex. */
  readonly digest: string
  /** Bytes of the whole payload. */
  readonly size: number
  readonly contentType?: string
  /** A redacted, capped excerpt for the report; JSON where the payload is JSON. */
  readonly excerpt?: unknown
}

/** A blocked write whose planned result a read was answered with. */
export interface OverlaidBy {
  readonly summary: string
  /** Of the write's own record. */
  readonly spanId: string
}

/**
 * What tells the retry of a call from a second call that happens to be equal.
 * Digests only: neither URLs nor keys.
 */
export interface Attempt {
  /** Of method, URL and body. */
  readonly request: string
  /** Of the key by which the client itself marks the attempts of one call. */
  readonly intent?: string
  /** Which attempt the client says it is, from 0. */
  readonly number?: number
  /** The span the call was made in, leaving out what the client library makes for each attempt. */
  readonly caller: string | null
  /** Status the caller got; null for none. */
  readonly answer: number | null
  /** On the run's own clock, which only counts: when the call was decided, and when it went on record. */
  readonly began: number
  readonly recorded: number
}

export type Outcome = 'blocked' | 'allowed' | 'forwarded' | 'failed' | 'unblocked'

/** `exact`: what the live call would have returned but for synthetic ids; `plausible`: right shape, made-up content; `empty`. */
export type Fidelity = 'exact' | 'plausible' | 'empty'

interface RecordBase {
  readonly seq: number
  /** ISO 8601 with milliseconds, UTC. */
  readonly at: string
  /** SHA-256 (hex) of the previous line without its newline; of the empty string for the first. */
  readonly chain: string
}

/** First line of every file. */
export interface ProcessRecord extends RecordBase {
  readonly type: 'process'
  readonly schema: typeof JOURNAL_SCHEMA
  readonly pid: number
  readonly service: string
  readonly node: string
  readonly drytrace: string
  readonly argv: readonly string[]
}

/** A run was entered in this process. A run that crosses processes has one in each. */
export interface RunRecord extends RecordBase {
  readonly type: 'run'
  readonly runId: string
  readonly traceId: string | null
  readonly entry: string
  readonly carriers: readonly string[]
  readonly conflict: boolean
  readonly caseId: string | null
  readonly attestation: Attestation
}

/** What guarded the run: also on the local root span. */
export interface Attestation {
  readonly hooks: readonly string[]
  readonly gaps: readonly string[]
  readonly policyHash: string | null
}

export interface RunEndRecord extends RecordBase {
  readonly type: 'run_end'
  readonly runId: string
  /** The application's own error, if the entry ended with one. */
  readonly error: string | null
}

export interface EffectRecord extends RecordBase {
  readonly type: 'effect'
  readonly runId: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | null
  readonly service: string
  readonly system: string
  readonly action: Action | null
  readonly effect: EffectKind
  readonly outcome: Outcome
  readonly target: string
  readonly summary: string
  readonly rule: string
  readonly reason: string
  readonly hook: { readonly name: string; readonly version: string | null }
  readonly fingerprint: string
  readonly fidelity: Fidelity | null
  readonly preview: Preview | null
  readonly payload: Payload | null
  readonly syntheticIds: readonly string[]
  readonly syntheticUsed: boolean
  readonly note: string | null
  /** Reads only; absent unless the answer shows what the run would have changed. */
  readonly overlaidBy?: readonly OverlaidBy[]
  /** Blocked HTTP requests only. */
  readonly attempt?: Attempt
  readonly error: { readonly code: string | null; readonly message: string } | null
}

export type ProblemKind = 'unblocked' | 'guard_failed' | 'flag_lost' | 'synthetic_used' | 'gap' | 'run_error'

export interface ProblemRecord extends RecordBase {
  readonly type: 'problem'
  readonly runId: string | null
  readonly kind: ProblemKind
  readonly message: string
  readonly traceId: string | null
  readonly spanId: string | null
}

/** A model or tool call the run made: what the workflow decided, beside what it would do. */
export interface DecisionRecord extends RecordBase {
  readonly type: 'decision'
  readonly runId: string
  readonly traceId: string
  readonly spanId: string
  readonly kind: 'llm' | 'tool'
  readonly name: string
  readonly model: string | null
  readonly promptName: string | null
  readonly promptVersion: string | null
  /** Redacted and capped; absent unless the policy records payloads. */
  readonly input?: unknown
  readonly output?: unknown
}

export type JournalRecord = ProcessRecord | RunRecord | RunEndRecord | EffectRecord | ProblemRecord | DecisionRecord

/** A record as its author gives it: the writer adds `seq`, `at` and `chain`. */
export type JournalEntry = JournalRecord extends infer R
  ? R extends RecordBase
    ? Omit<R, 'seq' | 'at' | 'chain'>
    : never
  : never
