import { isRunId, type Run } from '../run/run.js'

/**
 * The flag inside a message, for clients whose messages have no headers. It
 * travels with retries and dead letters, which copy the message.
 */
export interface Envelope {
  readonly v: 1
  readonly run: string
  /** The signed form of the flag; absent when the run has none. */
  readonly token?: string
}

/** What an envelope says. */
export interface Decoded {
  readonly runId: string | undefined
  readonly token: string | undefined
  /** There is an envelope and it cannot be read. The message is dry all the same: refuse it, never run it live. */
  readonly malformed: boolean
}

/** The key of an envelope in a JSON object message. Reserved: no message of an application may have it. */
export const ENVELOPE_KEY = '__drytrace'

/** Where the body of a message goes that is not an object and so has no room for a key. */
const WRAPPED_BODY = '__drytrace_body'

const MAX_TOKEN = 2_048

export function encode(run: Pick<Run, 'id' | 'token'>): Envelope {
  return { v: 1, run: run.id, ...(run.token === null ? {} : { token: run.token }) }
}

/** The meaning of the value under {@link ENVELOPE_KEY}; undefined only when there is none. */
export function decode(envelope: unknown): Decoded | undefined {
  if (envelope === undefined) return undefined
  const { v, run, token } = (isRecord(envelope) ? envelope : {}) as { v?: unknown; run?: unknown; token?: unknown }
  const runId = typeof run === 'string' && isRunId(run) ? run : undefined
  const signed = typeof token === 'string' && token.length <= MAX_TOKEN ? token : undefined
  return {
    runId,
    token: signed,
    malformed: v !== 1 || runId === undefined || (token !== undefined && signed === undefined),
  }
}

/** The message with its envelope: beside the fields of an object, around anything else. */
export function wrapBody(run: Pick<Run, 'id' | 'token'>, body: unknown): Record<string, unknown> {
  const envelope = { [ENVELOPE_KEY]: encode(run) }
  return isRecord(body) ? { ...body, ...envelope } : { ...envelope, [WRAPPED_BODY]: body }
}

/** True when the message claims to be dry, readable or not. */
export function hasEnvelope(message: unknown): message is Record<string, unknown> {
  return isRecord(message) && Object.hasOwn(message, ENVELOPE_KEY)
}

/** The message as the application sent it, and what its envelope says; undefined when the message is live. */
export function unwrapBody(message: unknown): { readonly body: unknown; readonly decoded: Decoded } | undefined {
  if (!hasEnvelope(message)) return undefined
  const { [ENVELOPE_KEY]: envelope, ...rest } = message
  // `null` is what JSON makes of an envelope somebody emptied: still a claim.
  const decoded = decode(envelope ?? null) as Decoded
  return { body: Object.hasOwn(rest, WRAPPED_BODY) ? rest[WRAPPED_BODY] : rest, decoded }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
