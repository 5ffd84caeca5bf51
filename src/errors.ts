const BRAND = Symbol.for('drytrace.error')

/**
 * Every code a {@link DryTraceError} can carry.
 *
 * - `DRY_NODE_UNSUPPORTED`: Node is below the floor; nothing was armed.
 * - `DRY_NOT_ARMED`: a dry run was asked for, `drytrace/register` is not loaded.
 * - `DRY_GATE_CLOSED`: a write-capable client is not guarded, so dry runs are refused.
 * - `DRY_FLAG_REFUSED`: the flag is not trusted (no token, bad token, not a loopback peer).
 * - `DRY_POLICY_INVALID`: the policy cannot be read or is wrong.
 * - `DRY_BLOCKED`: the effect was blocked and the policy says `onBlocked: throw`, or it cannot be simulated.
 * - `DRY_GUARD_FAILED`: an error in our own code; the effect was blocked.
 * - `DRY_JOURNAL`: the journal could not be written; the effect was blocked.
 * - `DRY_CONTEXT_ENDED`: a guard met a run that ended long ago (a leaked timer, a lazily made singleton).
 * - `DRY_BUDGET`: the run spent its budget of blocked writes, repeats or wall time.
 * - `DRY_TOKEN_INVALID`: a token is malformed, expired, for another audience or not signed with our secret.
 */
export type DryTraceErrorCode =
  | 'DRY_NODE_UNSUPPORTED'
  | 'DRY_NOT_ARMED'
  | 'DRY_GATE_CLOSED'
  | 'DRY_FLAG_REFUSED'
  | 'DRY_POLICY_INVALID'
  | 'DRY_BLOCKED'
  | 'DRY_GUARD_FAILED'
  | 'DRY_JOURNAL'
  | 'DRY_CONTEXT_ENDED'
  | 'DRY_BUDGET'
  | 'DRY_TOKEN_INVALID'

/**
 * The one error class of drytrace. `instanceof` holds across copies of the
 * package, because an application may load its own next to the preloaded one.
 *
 * @since 0.1.0
 */
export class DryTraceError extends Error {
  override readonly name = 'DryTraceError'
  readonly code: DryTraceErrorCode
  /** Machine-readable particulars, for example the list of gaps of `DRY_GATE_CLOSED`. */
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: DryTraceErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
    Object.defineProperty(this, BRAND, { value: true })
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value
  }
}

/** The message of anything thrown, for logs and records. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
