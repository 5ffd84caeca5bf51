import { DryTraceError, messageOf } from '../errors.js'
import type { Attestation } from '../journal/record.js'
import type { Journal } from '../journal/writer.js'
import { otel } from '../otel-api.js'
import type { RequestFacts } from '../policy/http/request-facts.js'
import type { Policy, Ruling } from '../policy/policy.js'
import { bind, within } from '../run/bind.js'
import type { Run } from '../run/run.js'
import { beginRun, currentRun, holdRun, shared } from '../run/store.js'
import type { Barrier } from './barrier.js'
import { spend } from './budget.js'
import type { Effect } from './effect.js'
import type { Decision, Guard, Hook, Permit } from './guard.js'
import { takeLibrarySpan } from './library-span.js'
import { createRecorder, type GuardObserver } from './recorder.js'
import { createRedactor } from './redact.js'
import { syntheticId } from './synthetic-ids.js'

export interface GuardOptions {
  readonly policy: Policy
  readonly journal: Journal
  readonly barrier: Barrier
  /** Value of `service` on records. */
  readonly service: string
  /** Told of every recorded outcome and of every failure of our own; feeds the metrics. */
  readonly observer?: GuardObserver
}

/** How long a run may be idle after its end before meeting it again counts as a leak. */
const IDLE_AFTER_END = 60_000

const ZERO_SPAN = '0000000000000000'

export function createGuard(options: GuardOptions): Guard {
  const { policy, journal, barrier, service, observer } = options
  const redactor = createRedactor(policy.redact)
  const recorder = createRecorder({ journal, redactor, service, observer })

  function decide(run: Run, hook: Hook, classify: () => Effect): Decision {
    const { context, trace } = otel()
    const active = context.active()
    const base = { run, hook, context: active, entry: shared.entries.getStore(), startedAt: Date.now() }
    const librarySpan = takeLibrarySpan(hook.name, trace.getSpan(active))
    const found = librarySpan === undefined ? {} : { librarySpan }
    let effect: Effect
    try {
      beginRun(run)
      effect = classify()
    } catch (cause) {
      return recorder.refuse({ ...base, ...found, effect: unclassified(hook), ...failed(hook, 'classify', cause) })
    }
    try {
      const gaps = barrier.gaps()
      if (gaps.length > 0) {
        const closed = gateClosed(gaps)
        return recorder.refuse({
          ...base,
          ...found,
          effect,
          verdict: 'block',
          error: closed,
          rule: 'guard.gate',
          reason: closed.message,
        })
      }
      const leak = leaked(run)
      if (leak !== undefined) {
        return recorder.refuse({
          ...base,
          ...found,
          effect,
          verdict: 'block',
          error: leak,
          rule: 'guard.ended',
          reason: leak.message,
        })
      }
      run.lastSeenAt = base.startedAt
      return rule({ ...base, ...found, effect })
    } catch (cause) {
      return recorder.refuse({ ...base, ...found, effect, ...failed(hook, 'policy', cause) })
    }
  }

  function rule(
    call: Pick<Decision, 'run' | 'hook' | 'effect' | 'context' | 'entry' | 'startedAt' | 'librarySpan'>,
  ): Decision {
    const { run, effect } = call
    const { system, kind, action, match, request } = effect
    const ruling = policy.decide({ system, kind, action, match, request })
    const decided: Decision = {
      ...call,
      effect: corrected(effect, ruling),
      verdict: ruling.verdict,
      rule: ruling.rule,
      reason: ruling.reason,
      ...(ruling.respond === undefined ? {} : { respond: ruling.respond }),
      ...(ruling.validate === undefined ? {} : { validate: ruling.validate }),
      ...(ruling.deferred === true ? { deferred: true } : {}),
      ...((ruling.preview ?? policy.httpPreview) === 'get' ? { mayRead: true } : {}),
    }
    if (ruling.verdict === 'allow' || ruling.deferred === true) return decided
    const broke = spend(run, effect, policy.budget)
    if (broke !== undefined)
      return { ...decided, verdict: 'block', error: broke, rule: 'guard.budget', reason: broke.message }
    return ruling.onBlocked === 'throw' && ruling.verdict === 'block'
      ? { ...decided, error: blocked(effect, ruling.rule) }
      : decided
  }

  function settle(decision: Decision, seen: Pick<RequestFacts, 'headers' | 'body'>): Decision {
    const { run, hook, effect, context, entry, startedAt, librarySpan } = decision
    const { request } = effect
    const call = { run, hook, context, entry, startedAt, ...(librarySpan === undefined ? {} : { librarySpan }) }
    try {
      if (request === undefined) return decision
      return rule({ ...call, effect: { ...effect, request: { ...request, ...seen, headersFinal: true } } })
    } catch (cause) {
      return recorder.refuse({ ...call, effect, ...failed(hook, 'policy', cause) })
    }
  }

  const guard: Guard = {
    run: currentRun,
    decide,
    settle,
    isPlainRead({ system, kind, action, match, request }) {
      try {
        const ruling = policy.decide({ system, kind, action, match, request })
        return ruling.verdict === 'allow' && ruling.kind === 'read' && ruling.deferred !== true
      } catch {
        return false
      }
    },
    enabled: policy.enabled,
    record: recorder.record,
    fail: recorder.fail,
    async intercept(run, call) {
      const decision = decide(run, call.hook, call.classify)
      if (decision.verdict === 'allow') {
        guard.record(decision)
        return await guard.permit(`${call.hook.name} ${decision.rule}`, () => call.proceed())
      }
      if (decision.error !== undefined) {
        guard.record(decision)
        throw decision.error
      }
      let detail = {}
      try {
        detail = (await call.preview?.(decision)) ?? {}
      } catch (cause) {
        throw guard.fail(decision, cause)
      }
      guard.record(decision, detail)
      try {
        return await call.simulate(decision, detail)
      } catch (cause) {
        throw guard.fail(decision, cause)
      }
    },
    problem(run, kind, message) {
      const { context, isSpanContextValid, trace } = otel()
      const span = trace.getSpanContext(context.active())
      const valid = span !== undefined && isSpanContextValid(span)
      journal.append({
        type: 'problem',
        runId: run.id,
        kind,
        message,
        traceId: valid ? span.traceId : null,
        spanId: valid ? span.spanId : null,
      })
    },
    permit(reason, fn) {
      const permit: Permit = { reason, open: true }
      return shared.permits.run(permit, () => fn(permit))
    },
    permitted: () => shared.permits.getStore()?.open === true,
    root: shared.root,
    within,
    bind,
    hold: holdRun,
    preview: policy.preview,
    rollback: policy.rollback,
    previewBounds: policy.previewBounds,
    redact: redactor.value,
    forwards: policy.forwards,
    allowsEgress: (host, port) =>
      policy.decide({
        system: 'net',
        kind: 'unknown',
        match: { host, port: port === undefined ? undefined : String(port) },
      }).verdict === 'allow',
    llm(run, call) {
      const span = otel().trace.getSpanContext(call.context)
      journal.append({
        type: 'decision',
        runId: run.id,
        traceId: span?.traceId ?? shared.entries.getStore()?.traceId ?? run.fallbackTraceId,
        spanId: span?.spanId ?? ZERO_SPAN,
        kind: call.kind,
        name: call.name,
        model: call.model,
        promptName: null,
        promptVersion: null,
        ...(policy.recordDecisions ? { input: redactor.value(call.input), output: redactor.value(call.output) } : {}),
      })
    },
    syntheticId,
  }

  const attestation = (): Attestation => ({
    hooks: barrier.armedNames(),
    gaps: barrier.gaps(),
    policyHash: policy.hash,
  })
  shared.beginListeners.add((run) => {
    const { context, isSpanContextValid, trace } = otel()
    const span = trace.getSpanContext(context.active())
    journal.append({
      type: 'run',
      runId: run.id,
      traceId: span !== undefined && isSpanContextValid(span) ? span.traceId : null,
      entry: run.entry,
      carriers: run.carriers,
      conflict: run.conflict,
      caseId: run.caseId,
      attestation: attestation(),
    })
  })
  shared.endListeners.add((run, error) => {
    // The application goes on with its own error, whatever becomes of ours.
    try {
      journal.append({ type: 'run_end', runId: run.id, error: error === undefined ? null : messageOf(error) })
    } catch (cause) {
      observer?.failure('journal')
      process.emitWarning(messageOf(cause), { type: 'DryTraceWarning' })
    }
  })
  return guard
}

/** A rule knows better what a call is. A deferred call keeps what it was classified as until it is settled. */
function corrected(effect: Effect, { kind, action, deferred }: Ruling): Effect {
  if (deferred === true || (kind === effect.kind && (action === undefined || action === effect.action))) return effect
  const { action: own, ...rest } = effect
  const does = kind === 'read' ? undefined : (action ?? own ?? 'execute')
  return { ...rest, kind, ...(does === undefined ? {} : { action: does }) }
}

function gateClosed(gaps: readonly string[]): DryTraceError {
  return new DryTraceError('DRY_GATE_CLOSED', `dry runs are refused here: ${gaps.join('; ')}`, { details: { gaps } })
}

function leaked(run: Run): DryTraceError | undefined {
  if (run.endedAt === undefined || run.processWide) return undefined
  if (Date.now() - Math.max(run.endedAt, run.lastSeenAt) < IDLE_AFTER_END) return undefined
  return new DryTraceError(
    'DRY_CONTEXT_ENDED',
    `the dry run ${run.id} ended at ${new Date(run.endedAt).toISOString()}, but code of its context is still calling out: ` +
      'a timer, a loop or a singleton was made inside the dry run. Make it at start-up instead',
    { details: { runId: run.id } },
  )
}

function failed(hook: Hook, step: string, cause: unknown) {
  return {
    verdict: 'block' as const,
    rule: 'guard.failed',
    reason: `error in ${step}: ${messageOf(cause)}`,
    error: new DryTraceError(
      'DRY_GUARD_FAILED',
      `dry run: ${hook.name} call blocked, error in ${step}: ${messageOf(cause)}`,
      {
        cause,
      },
    ),
  }
}

function blocked(effect: Effect, rule: string): DryTraceError {
  return new DryTraceError('DRY_BLOCKED', `dry run: ${effect.summary} was blocked (rule ${rule})`, {
    details: { system: effect.system, target: effect.target, rule },
  })
}

function unclassified(hook: Hook): Effect {
  return {
    system: hook.name,
    kind: 'unknown',
    action: 'execute',
    target: 'unclassified',
    summary: `unclassified ${hook.name} call`,
    fingerprint: `${hook.name}:unclassified`,
    match: {},
  }
}
