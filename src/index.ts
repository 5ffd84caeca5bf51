import { createHash } from 'node:crypto'
import type { Attributes } from '@opentelemetry/api'
import { DryTraceError } from './errors.js'
import { requireGuard } from './guard/access.js'
import { type HookReport, processBarrier } from './guard/barrier.js'
import type { Effect, EffectDetail } from './guard/effect.js'
import type { Action } from './journal/record.js'
import { isRunId, type Run } from './run/run.js'
import { enterRun, currentRun as findRun, holdRun, shared } from './run/store.js'

export { DryRunPropagator } from './carriers/propagator.js'
export { DryTraceError, type DryTraceErrorCode } from './errors.js'
export type { HookReport, HookStatus } from './guard/barrier.js'
export type { FieldChange, Preview } from './journal/record.js'
export type { RespondAnswer, RespondFunction, RespondRequest, SyntheticIds } from './policy/http/respond.js'
export { loadPolicy } from './policy/load.js'
export type { Policy } from './policy/policy.js'
export {
  type CreateTokenOptions,
  createToken,
  type TokenClaims,
  type VerifyTokenOptions,
  verifyToken,
} from './run/token.js'
export { DryRunSampler } from './telemetry/sampler.js'
export { DryRunSpanProcessor } from './telemetry/span-processor.js'

/** What {@link dryRun} may be told. */
export interface DryRunOptions {
  /** Run id; made up when left out. Letters, digits, `.`, `_`, `-`; 48 characters at most. */
  readonly id?: string
  /** Id of the case from the library that is being run. */
  readonly caseId?: string
}

/** What {@link currentRun} tells. */
export interface RunInfo {
  readonly id: string
  readonly caseId: string | null
  /** How the run came into this process: `http`, `process`, `dryRun`, … */
  readonly entry: string
  readonly startedAt: Date
}

/**
 * Runs `fn` dry: for schedulers and scripts, which have no request to carry
 * the flag. Everything `fn` causes belongs to the run, also after it returns.
 *
 * @throws DryTraceError `DRY_NOT_ARMED` without `drytrace/register`, `DRY_GATE_CLOSED`
 * when a loaded client is not guarded. `fn` is not called then: never live by accident.
 * @since 0.1.0
 */
export async function dryRun<T>(options: DryRunOptions, fn: () => T | Promise<T>): Promise<T> {
  const guard = requireGuard()
  const gaps = processBarrier()?.gaps() ?? []
  if (gaps.length > 0) {
    throw new DryTraceError('DRY_GATE_CLOSED', `dry runs are refused here: ${gaps.join('; ')}`, { details: { gaps } })
  }
  if (options.id !== undefined && !isRunId(options.id)) {
    throw new DryTraceError(
      'DRY_FLAG_REFUSED',
      `run id ${JSON.stringify(options.id)}: use up to 48 letters, digits, dots, dashes`,
    )
  }
  const run = enterRun({
    ...(options.id === undefined ? {} : { id: options.id }),
    entry: 'dryRun',
    carriers: ['api'],
    caseId: options.caseId ?? null,
  })
  const release = holdRun(run)
  try {
    const result = await guard.within(run, fn)
    release()
    return result
  } catch (error) {
    release(error)
    throw error
  }
}

/**
 * True inside a dry run. For the rare code that must tell; most need not.
 * @since 0.1.0
 */
export function isDryRun(): boolean {
  return findRun() !== undefined
}

/**
 * The dry run of the current context, or undefined when it is live.
 * @since 0.1.0
 */
export function currentRun(): RunInfo | undefined {
  const run = findRun()
  return run === undefined ? undefined : infoOf(run)
}

/**
 * Calls `listener` when a run has ended in this process, with the
 * application's own error if its entry threw one. Returns a function that
 * removes it.
 * @since 0.1.0
 */
export function onRunEnd(listener: (run: RunInfo, error: unknown) => void): () => void {
  const wrapped = (run: Run, error: unknown) => listener(infoOf(run), error)
  shared.endListeners.add(wrapped)
  return () => void shared.endListeners.delete(wrapped)
}

/**
 * What is guarded in this process, one entry per client library. Empty when
 * `drytrace/register` has not been loaded.
 * @since 0.1.0
 */
export function armed(): readonly HookReport[] {
  return processBarrier()?.hooks() ?? []
}

/** What {@link effect} would do. */
export interface EffectDescription<T> {
  /** `fs`, `s3`, the name of an in-house protocol, … */
  readonly system: string
  readonly action: Action
  /** What is touched; low in variety. */
  readonly target: string
  /** One line for the report; `action target` when left out. */
  readonly summary?: string
  /** For policy rules, beside `system` and `action`. */
  readonly match?: Readonly<Record<string, string>>
  /** What would be sent; redacted and capped before it is recorded. */
  readonly payload?: unknown
  readonly attributes?: Attributes
  /** What the caller gets in a dry run; undefined when left out. */
  readonly simulate?: () => T | Promise<T>
}

/**
 * The user's own adapter: `fn` is a write no integration knows. Live, `fn`
 * runs and nothing else happens. In a dry run the policy decides; blocked, the
 * effect is recorded and `simulate` answers.
 *
 * @since 0.1.0
 */
export async function effect<T>(description: EffectDescription<T>, fn: () => T | Promise<T>): Promise<T> {
  const run = findRun()
  if (run === undefined) return await fn()
  const { system, action, target } = description
  return await requireGuard().intercept<T>(run, {
    hook: { name: 'effect', version: null },
    classify: (): Effect => ({
      system,
      kind: 'write',
      action,
      target,
      summary: description.summary ?? `${action} ${target}`,
      fingerprint: `${system}:${action}:${target}`,
      match: { destination: target, ...description.match },
      ...(description.attributes === undefined ? {} : { attributes: description.attributes }),
    }),
    preview: () => describePayload(description.payload),
    simulate: () => description.simulate?.() as T | Promise<T>,
    proceed: fn,
  })
}

function describePayload(payload: unknown): EffectDetail {
  if (payload === undefined) return {}
  const text = JSON.stringify(payload) ?? ''
  return {
    payload: {
      digest: createHash('sha256').update(text).digest('hex'),
      size: Buffer.byteLength(text),
      contentType: 'application/json',
      excerpt: payload,
    },
  }
}

function infoOf(run: Run): RunInfo {
  return { id: run.id, caseId: run.caseId, entry: run.entry, startedAt: new Date(run.startedAt) }
}
