import type { Context, Span } from '@opentelemetry/api'
import type { RequestFacts } from '../policy/http/request-facts.js'
import type { Respond } from '../policy/http/respond.js'
import type { Validation } from '../policy/http/validation.js'
import type { PreviewBounds } from '../policy/policy.js'
import type { Run } from '../run/run.js'
import type { Entry } from '../run/store.js'
import type { Effect, EffectDetail } from './effect.js'

/** Who met the call. */
export interface Hook {
  readonly name: string
  readonly version: string | null
}

/**
 * The guard's answer for one effect, made once, at the public call, in the
 * caller's context. Inner layers read it from the object it was stamped on.
 */
export interface Decision {
  readonly run: Run
  readonly hook: Hook
  readonly effect: Effect
  /**
   * `allow`: proceed, under {@link Guard.permit}. `block`: do not execute;
   * answer with a simulated result, or with {@link Decision.error} when that
   * is set. `loopback` (queues): do not execute, and run the registered
   * handler inside the run. `forward`: execute, with the flag, where the
   * other side is known to run dry.
   */
  readonly verdict: 'allow' | 'block' | 'loopback' | 'forward'
  /** Set when the caller must get an error instead of a simulated result. */
  readonly error?: Error
  /** Id of the rule that decided, for example `default.write` or the rule's name in the policy. */
  readonly rule: string
  readonly reason: string
  readonly respond?: Respond
  /** Set on a `block`: an HTTP client that can hold the request may send it in this service's validation mode instead. */
  readonly validate?: Validation
  /**
   * A rule that may match looks at the body, which has not been seen. Whoever
   * can hold the call until the body is there asks {@link Guard.settle};
   * everybody else blocks.
   */
  readonly deferred?: boolean
  /** HTTP: drytrace may read the resource once, to show what the blocked request would change. */
  readonly mayRead?: boolean
  /** Name and scope words of the library's own instrumentation span were matched to this call. */
  readonly librarySpan?: Span
  /** The OpenTelemetry context of the caller. */
  readonly context: Context
  /** The trace of the incoming request, where no SDK knows one. */
  readonly entry?: Entry
  readonly startedAt: number
}

/** What the journal and the trace now hold of an effect. */
export interface Recorded {
  readonly traceId: string
  readonly spanId: string
}

/** One asynchronous call, for integrations whose whole call can be decided in one place. */
export interface Interception<T> {
  readonly hook: Hook
  /** Called inside a dry run only. Throwing blocks the call, outcome `failed`. */
  classify(): Effect
  /** Bounded and read-only. Throwing fails the call: return no preview, with a note, for what is merely unsupported. */
  preview?(decision: Decision): Promise<EffectDetail> | EffectDetail
  /** The native result for the caller of a blocked call. Runs after the journal holds the effect. */
  simulate(decision: Decision, detail: EffectDetail): T | Promise<T>
  /** The original call. Runs under a permit. */
  proceed(): T | Promise<T>
}

/**
 * The one choke point. Integrations hold it and nothing else of ours.
 *
 * The hot path of every hook is `const run = guard.run(); if (run === undefined) return original(...)`.
 */
export interface Guard {
  /** The dry run of the current context, or undefined when the call is live. */
  run(): Run | undefined
  /**
   * Decides one effect. Never throws: an error of our own becomes a `block`
   * with {@link Decision.error} set and is recorded as `failed`.
   */
  decide(run: Run, hook: Hook, classify: () => Effect): Decision
  /** Decides a deferred HTTP call again, now that the request is whole. Never throws. */
  settle(decision: Decision, seen: Pick<RequestFacts, 'headers' | 'body'>): Decision
  /** True for a read that the policy lets pass as one: what drytrace may do by itself. Decides nothing. Never throws. */
  isPlainRead(effect: Effect): boolean
  /** False for a built-in rule or answer that the policy switches off. */
  enabled(id: string): boolean
  /**
   * Appends the effect to the journal, then makes its span. Call it exactly
   * once per decision and before the caller sees a result.
   * @throws DryTraceError `DRY_JOURNAL` when the append fails: hand it to the caller instead of a result.
   */
  record(decision: Decision, detail?: EffectDetail): Recorded
  /**
   * Records the effect with outcome `failed` after an error in our own code
   * and returns the error the caller must get. Never throws.
   */
  fail(decision: Decision, error: unknown, detail?: EffectDetail): Error
  /** decide, preview, record, then simulate or proceed: the whole sequence for promise-shaped calls. */
  intercept<T>(run: Run, call: Interception<T>): Promise<T>
  /** Notes something the report must say, outside of an effect. */
  problem(run: Run, kind: 'flag_lost' | 'synthetic_used' | 'gap' | 'run_error', message: string): void
  /** Runs `fn` with the fence open, so that a decided call may reach its socket. The permit ends with the synchronous call or at `close()`. */
  permit<T>(reason: string, fn: (permit: Permit) => T): T
  /** True inside a permit: the substrate of a call that was decided at a higher layer. */
  permitted(): boolean
  /** Runs `fn` outside every run and span, for what outlives a call: connections, sessions, loops, timers. */
  root<T>(fn: () => T): T
  /** Runs `fn` inside `run` (or live, when undefined), whatever the ambient context is. */
  within<T>(run: Run | undefined, fn: () => T): T
  /** A function that runs in the caller's context, wherever it is called from. */
  bind<F extends (...args: never[]) => unknown>(fn: F): F
  /** Keeps the run open, so that it has not ended while work it caused goes on. Call the result once. */
  hold(run: Run): (error?: unknown) => void
  /** The policy's answer to how PostgreSQL writes are previewed. */
  readonly preview: 'select' | 'rollback' | 'none'
  /** Limits of `preview: rollback`. */
  readonly rollback: RollbackLimits
  /** What such a preview may cost the database. */
  readonly previewBounds: PreviewBounds
  /** Redacts and caps what goes into a payload excerpt. */
  redact(value: unknown, name?: string): unknown
  /** True when the policy lets this host be told of the run (a `forward` rule names it). */
  forwards(host: string): boolean
  /** True when a policy rule lets this endpoint be reached by a client no integration knows. */
  allowsEgress(host: string, port: number | undefined): boolean
  /** Records what a model or tool call of the run asked and answered. */
  llm(run: Run, call: ModelCall): void
  /** A made-up id nobody can take for a real one, remembered so that its later use is reported. */
  syntheticId(run: Run, kind: 'integer' | 'uuid' | 'string'): string
}

/** What a transaction that holds a run's writes until they are rolled back may cost live traffic. */
export interface RollbackLimits {
  readonly lockMilliseconds: number
  readonly statementMilliseconds: number
  /** How long the transaction may stand idle, for example while a model answers. */
  readonly idleMilliseconds: number
}

/** A model call, as far as the request and the answer tell. */
export interface ModelCall {
  readonly kind: 'llm' | 'tool'
  readonly name: string
  readonly model: string | null
  readonly context: Context
  readonly input?: unknown
  readonly output?: unknown
}

export interface Permit {
  readonly reason: string
  open: boolean
}
