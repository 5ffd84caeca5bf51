import { createHmac, timingSafeEqual } from 'node:crypto'
import { DryTraceError } from '../errors.js'
import { isRunId } from './run.js'

/** What a token says. */
export interface TokenClaims {
  readonly runId: string
  /** Who may accept it; checked against the policy's `trust.audience`. Empty: anyone with the secret. */
  readonly audience: string
  /** Seconds since the epoch. */
  readonly expiresAt: number
}

export interface CreateTokenOptions {
  readonly runId: string
  readonly secret: string
  readonly audience?: string
  /** Seconds from now; 15 minutes when left out. */
  readonly ttl?: number
}

export interface VerifyTokenOptions {
  readonly secret: string
  /** Accepted audiences; any when left out or empty. */
  readonly audience?: readonly string[]
  /** Milliseconds since the epoch; now when left out. */
  readonly now?: number
}

const DEFAULT_TTL = 15 * 60

/**
 * The signed form of the flag: `v1.<claims>.<mac>`, both base64url, HMAC-SHA256.
 *
 * @throws DryTraceError `DRY_TOKEN_INVALID` when the run id or the secret cannot be used.
 * @since 0.1.0
 */
export function createToken(options: CreateTokenOptions): string {
  if (options.secret === '') throw invalid('the secret is empty: set DRYTRACE_SECRET')
  if (!isRunId(options.runId)) throw invalid(`run id ${JSON.stringify(options.runId)} is not usable in a header`)
  const claims = {
    r: options.runId,
    a: options.audience ?? '',
    e: Math.floor(Date.now() / 1000) + (options.ttl ?? DEFAULT_TTL),
  }
  const body = `v1.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  return `${body}.${mac(body, options.secret)}`
}

/**
 * The claims of a token that is well-formed, signed with the secret, not expired and for us.
 *
 * @throws DryTraceError `DRY_TOKEN_INVALID` otherwise, saying which.
 * @since 0.1.0
 */
export function verifyToken(token: string, options: VerifyTokenOptions): TokenClaims {
  const [version, claims, signature, ...rest] = token.split('.')
  if (version !== 'v1' || claims === undefined || signature === undefined || rest.length > 0) {
    throw invalid('malformed token')
  }
  const expected = Buffer.from(mac(`v1.${claims}`, options.secret))
  const given = Buffer.from(signature)
  if (expected.length !== given.length || !timingSafeEqual(expected, given)) {
    throw invalid('the token is not signed with our secret')
  }
  // Signed by us, so it has our shape.
  const { r, a, e } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { r: string; a: string; e: number }
  if ((options.now ?? Date.now()) > e * 1000) {
    throw invalid(`the token expired at ${new Date(e * 1000).toISOString()}`)
  }
  const audience = options.audience ?? []
  if (audience.length > 0 && !audience.includes(a)) {
    throw invalid(`the token is for audience ${JSON.stringify(a)}, not for ${audience.join(', ')}`)
  }
  return { runId: r, audience: a, expiresAt: e }
}

/** The run a token claims to be for, without a look at its signature: for finding the run, never for trusting it. */
export function claimedRunId(token: string): string | undefined {
  try {
    const { r } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { r?: unknown }
    return typeof r === 'string' && isRunId(r) ? r : undefined
  } catch {
    return undefined
  }
}

function mac(body: string, secret: string): string {
  return createHmac('sha256', secret).update(body).digest('base64url')
}

function invalid(message: string): DryTraceError {
  return new DryTraceError('DRY_TOKEN_INVALID', message)
}
