import { randomBytes } from 'node:crypto'
import type { Attributes, Span } from '@opentelemetry/api'
import { DryTraceError, messageOf } from '../errors.js'
import type { FieldChange, Outcome } from '../journal/record.js'
import type { Journal } from '../journal/writer.js'
import { otel } from '../otel-api.js'
import * as semconv from '../semconv.js'
import { VERSION } from '../version.js'
import type { EffectDetail } from './effect.js'
import type { Decision, Recorded } from './guard.js'
import { annotateLibrarySpan } from './library-span.js'
import type { Redactor } from './redact.js'
import { findSyntheticIds } from './synthetic-ids.js'

export interface GuardObserver {
  outcome(system: string, outcome: string): void
  failure(hook: string): void
}

export interface RecorderOptions {
  readonly journal: Journal
  readonly redactor: Redactor
  readonly service: string
  readonly observer: GuardObserver | undefined
}

export interface Recorder {
  record(decision: Decision, detail?: EffectDetail): Recorded
  fail(decision: Decision, error: unknown, detail?: EffectDetail): Error
  /** Records a decision that is an error of ours, and hands it back. */
  refuse(decision: Decision): Decision
}

/** Characters of the diff on a span; the journal has it whole. */
const MAX_DIFF_ATTRIBUTE = 16_384
const MAX_IDS = 32

const PRODUCER_ACTIONS: ReadonlySet<string | undefined> = new Set(['publish', 'enqueue', 'send', 'schedule'])

/** Writes each effect down: journal first, then the span. */
export function createRecorder({ journal, redactor, service, observer }: RecorderOptions): Recorder {
  const recorded = new WeakMap<Decision, Recorded>()

  function write(decision: Decision, given: EffectDetail, outcome: Outcome, error: Error | undefined): Recorded {
    const before = recorded.get(decision)
    if (before !== undefined) return before
    const { run, effect, hook } = decision
    const detail = redactDetail(given, redactor)
    // Nobody but us is asked for it.
    const used =
      given.unsent === true
        ? []
        : findSyntheticIds(run, searchable(decision, given)).filter((id) => !given.syntheticIds?.includes(id))

    const parent = otel().trace.getSpan(decision.context)
    // An allowed read is the library's own span, where there is one: a second would only be noise.
    const plain = given.overlaidBy === undefined && given.ownRead !== true
    const span =
      outcome === 'allowed' && effect.kind === 'read' && plain
        ? undefined
        : startSpan(decision, detail, outcome, used, error)
    const ids = idsOf(span ?? decision.librarySpan ?? parent, decision)
    recorded.set(decision, ids)
    try {
      journal.append({
        type: 'effect',
        runId: run.id,
        ...ids,
        parentSpanId: parentIdOf(parent, decision),
        service,
        system: effect.system,
        action: effect.action ?? null,
        effect: effect.kind,
        outcome,
        target: effect.target,
        summary: effect.summary,
        rule: decision.rule,
        reason: decision.reason,
        hook,
        fingerprint: effect.fingerprint,
        fidelity: detail.fidelity ?? null,
        preview: detail.preview ?? null,
        payload: detail.payload ?? null,
        syntheticIds: detail.syntheticIds ?? [],
        syntheticUsed: used.length > 0,
        note: detail.note ?? null,
        ...(detail.overlaidBy === undefined ? {} : { overlaidBy: detail.overlaidBy }),
        ...(detail.attempt === undefined ? {} : { attempt: detail.attempt }),
        error:
          error === undefined
            ? null
            : { code: error instanceof DryTraceError ? error.code : null, message: error.message },
      })
      if (used.length > 0) {
        journal.append({
          type: 'problem',
          runId: run.id,
          kind: 'synthetic_used',
          message: `${effect.summary} uses ${used.length === 1 ? 'an id' : 'ids'} made up for a simulated result: ${used.slice(0, MAX_IDS).join(', ')}`,
          ...ids,
        })
      }
    } catch (cause) {
      recorded.delete(decision)
      span?.setAttribute(semconv.ATTR_OUTCOME, 'failed')
      span?.setStatus({ code: otel().SpanStatusCode.ERROR, message: messageOf(cause) })
      span?.end()
      observer?.failure(hook.name)
      throw cause
    }
    if (decision.librarySpan !== undefined)
      annotateLibrarySpan(decision.librarySpan, decision, outcome, given.unsent === true)
    span?.end()
    if (effect.kind !== 'read' || outcome !== 'allowed') observer?.outcome(effect.system, outcome)
    if (outcome === 'failed') observer?.failure(hook.name)
    return ids
  }

  function refuse(decision: Decision): Decision {
    try {
      write(decision, {}, 'failed', decision.error)
      return decision
    } catch (cause) {
      // Blocked either way; the caller gets the error that says the audit trail has a hole.
      return { ...decision, error: cause as Error }
    }
  }

  return {
    record: (decision, detail = {}) => write(decision, detail, outcomeOf(decision), decision.error),
    fail(decision, cause, detail = {}) {
      const error =
        cause instanceof DryTraceError
          ? cause
          : new DryTraceError(
              'DRY_GUARD_FAILED',
              `dry run: ${decision.effect.summary} was blocked, our own code failed: ${messageOf(cause)}`,
              {
                cause,
              },
            )
      try {
        if (recorded.has(decision)) {
          observer?.failure(decision.hook.name)
          journal.append({
            type: 'problem',
            runId: decision.run.id,
            kind: 'guard_failed',
            message: `${decision.effect.summary}: ${messageOf(cause)}`,
            ...(recorded.get(decision) as Recorded),
          })
        } else write(decision, detail, 'failed', error)
      } catch (journalError) {
        return journalError as Error
      }
      return error
    },
    refuse,
  }
}

function outcomeOf(decision: Decision): Outcome {
  return decision.verdict === 'allow'
    ? 'allowed'
    : decision.verdict === 'loopback' || decision.verdict === 'forward'
      ? 'forwarded'
      : 'blocked'
}

function redactDetail(detail: EffectDetail, redactor: Redactor): EffectDetail {
  return {
    ...detail,
    ...(detail.preview === undefined
      ? {}
      : { preview: { ...detail.preview, diff: redactor.changes(detail.preview.diff) } }),
    ...(detail.payload?.excerpt === undefined
      ? {}
      : { payload: { ...detail.payload, excerpt: redactor.value(detail.payload.excerpt) } }),
  }
}

/** Where an id that was made up earlier could show up. */
function searchable(decision: Decision, detail: EffectDetail): string {
  if (decision.run.syntheticIds.size === 0) return ''
  const after = detail.preview?.diff.map((change: FieldChange) => [change.key, change.after])
  return JSON.stringify([decision.effect.match, decision.effect.target, after, detail.payload?.excerpt]) ?? ''
}

function startSpan(
  decision: Decision,
  detail: EffectDetail,
  outcome: Outcome,
  syntheticUsed: readonly string[],
  error: Error | undefined,
): Span {
  const { effect, librarySpan } = decision
  const { SpanKind, trace } = otel()
  const kind =
    librarySpan !== undefined
      ? SpanKind.INTERNAL
      : PRODUCER_ACTIONS.has(effect.action)
        ? SpanKind.PRODUCER
        : SpanKind.CLIENT
  const span = trace
    .getTracer('drytrace', VERSION)
    .startSpan(
      `${outcome} ${effect.summary}`,
      { kind, startTime: decision.startedAt, attributes: attributesOf(decision, detail, outcome, syntheticUsed) },
      decision.context,
    )
  if (error !== undefined) {
    span.setAttribute(semconv.ATTR_ERROR_TYPE, error instanceof DryTraceError ? error.code : error.name)
    if (outcome === 'failed') span.setStatus({ code: otel().SpanStatusCode.ERROR, message: error.message })
  }
  return span
}

function attributesOf(
  decision: Decision,
  detail: EffectDetail,
  outcome: Outcome,
  syntheticUsed: readonly string[],
): Attributes {
  const { run, effect, hook } = decision
  const { preview, payload } = detail
  return {
    ...effect.attributes,
    ...detail.attributes,
    [semconv.ATTR_ENABLED]: true,
    [semconv.ATTR_RUN_ID]: run.id,
    [semconv.ATTR_CASE_ID]: run.caseId ?? undefined,
    [semconv.ATTR_EFFECT]: effect.kind,
    [semconv.ATTR_OUTCOME]: outcome,
    [semconv.ATTR_ACTION]: effect.action,
    [semconv.ATTR_SYSTEM]: effect.system,
    [semconv.ATTR_TARGET]: effect.target,
    [semconv.ATTR_RULE]: decision.rule,
    [semconv.ATTR_REASON]: decision.reason,
    [semconv.ATTR_HOOK_NAME]: hook.name,
    [semconv.ATTR_HOOK_VERSION]: hook.version ?? undefined,
    [semconv.ATTR_FINGERPRINT]: effect.fingerprint,
    [semconv.ATTR_SIMULATION_FIDELITY]: detail.fidelity,
    [semconv.ATTR_PREVIEW_METHOD]: preview?.method,
    [semconv.ATTR_PREVIEW_ROWS]: preview?.rows,
    [semconv.ATTR_PREVIEW_DIFF]:
      preview === undefined || preview.diff.length === 0 ? undefined : cappedDiff(preview.diff),
    [semconv.ATTR_PAYLOAD_DIGEST]: payload?.digest,
    [semconv.ATTR_PAYLOAD_SIZE]: payload?.size,
    [semconv.ATTR_SYNTHETIC_IDS]:
      detail.syntheticIds === undefined || detail.syntheticIds.length === 0
        ? undefined
        : detail.syntheticIds.slice(0, MAX_IDS),
    [semconv.ATTR_SYNTHETIC_USED]: syntheticUsed.length > 0 ? true : undefined,
    [semconv.ATTR_OVERLAY_WRITES]: detail.overlaidBy?.slice(-MAX_IDS).map(({ summary }) => summary),
  }
}

/** Whole changes as long as they fit, so that the attribute stays valid JSON. */
function cappedDiff(diff: readonly FieldChange[]): string {
  const parts: string[] = []
  let size = 2
  for (const change of diff) {
    const part = JSON.stringify(change)
    if (size + part.length + 1 > MAX_DIFF_ATTRIBUTE) break
    size += part.length + 1
    parts.push(part)
  }
  return `[${parts.join(',')}]`
}

function parentIdOf(parent: Span | undefined, { entry }: Decision): string | null {
  const given = parent?.spanContext()
  return given !== undefined && otel().isSpanContextValid(given) ? given.spanId : (entry?.parentSpanId ?? null)
}

/** Ids for what no SDK records: unsampled, or no SDK at all. */
function idsOf(span: Span | undefined, { run, entry }: Decision): Recorded {
  const given = span?.spanContext()
  if (given !== undefined && otel().isSpanContextValid(given)) return { traceId: given.traceId, spanId: given.spanId }
  return { traceId: entry?.traceId ?? run.fallbackTraceId, spanId: randomSpanId() }
}

const POOL = 4_096
let pool = Buffer.alloc(0)

/** Drawn in stock: each draw from the system's source costs microseconds. */
function randomSpanId(): string {
  if (pool.length < 8) pool = randomBytes(POOL)
  const id = pool.toString('hex', 0, 8)
  pool = pool.subarray(8)
  return id
}
