import { DryTraceError } from '../../errors.js'
import type { EffectDetail } from '../../guard/effect.js'
import type { Decision, Guard } from '../../guard/guard.js'
import { MAX_BODY, readBody } from '../../policy/http/request-facts.js'
import { ATTR_MAIL_RECIPIENT_COUNT, HEADER_FLAG } from '../../semconv.js'
import { type CapturedBody, payloadOf } from './body-capture.js'
import { recipientsOf, simulateHttp } from './simulate.js'
import type { Exchange, Responder, SimulatedResponse } from './wire-peer.js'

/** Sends a held request after all, and streams its answer. The effect is already on record. */
export type SendHeld = (decision: Decision, exchange: Exchange, signal: AbortSignal) => Promise<SimulatedResponse>

export interface BlockedRequest {
  readonly respond: Responder
  /** The socket is gone: an attempt that never became a whole request goes on record too. */
  closed(): void
}

/**
 * Answers one request that is not sent, or not yet: the effect goes on record
 * as soon as the request is whole, and only then does the caller get its
 * answer. A deferred one is decided then, and sent if the ruling lets it pass.
 *
 * @param current the decision at the time of the answer: undici's span is known only after the dispatch, and what
 *   `node:http` was told may have changed since
 * @param send absent where a held request cannot be sent; it is blocked then
 */
export function answerBlocked(
  guard: Guard,
  current: (exchange?: Exchange) => Decision,
  send?: SendHeld,
): BlockedRequest {
  let settled: Decision | undefined
  const abort = new AbortController()
  return {
    async respond(exchange) {
      const held = current(exchange)
      const { headers, body } = exchange
      const ruled = held.deferred === true ? guard.settle(held, { headers, body: bodyOf(body) }) : held
      const decision = send === undefined && ruled.verdict === 'allow' ? unsendable(ruled) : ruled
      settled = decision
      if (decision.verdict === 'allow' && send !== undefined) {
        guard.record(decision, { note: 'held until its body was whole, then sent' })
        return await send(decision, exchange, abort.signal)
      }
      if (decision.error !== undefined && !isRefusedByPolicy(decision)) {
        guard.record(decision)
        throw decision.error
      }
      return block(guard, decision, exchange)
    },
    closed() {
      abort.abort()
      const decision = settled ?? current()
      try {
        // A second record of one decision is the first.
        guard.record(decision, { note: 'the caller gave up before the request was whole' })
      } catch (error) {
        guard.fail(decision, error)
      }
    },
  }
}

/** Why a call cannot go on though it is allowed: it could not be put on record. */
export function unrecorded(guard: Guard, decision: Decision): Error | undefined {
  try {
    guard.record(decision)
    return undefined
  } catch (error) {
    return error as Error
  }
}

/** Puts a call that is blocked without an answer on record, and gives the error its caller gets. */
export function refusal(guard: Guard, decision: Decision): Error {
  const { summary } = decision.effect
  return (
    unrecorded(guard, decision) ??
    decision.error ??
    new DryTraceError('DRY_BLOCKED', `dry run: ${summary} was blocked and cannot be simulated`)
  )
}

/** `onBlocked: throw`: a final answer, because a socket error makes SDKs try again. */
export function isRefusedByPolicy({ verdict, error }: Decision): boolean {
  return verdict === 'block' && error instanceof DryTraceError && error.code === 'DRY_BLOCKED'
}

function block(guard: Guard, decision: Decision, exchange: Exchange): SimulatedResponse {
  const syntheticIds: string[] = []
  const refused = isRefusedByPolicy(decision)
  const { response, fidelity } = refused
    ? { response: refusalOf(decision), fidelity: undefined }
    : simulateHttp(guard, decision, exchange, syntheticIds)
  guard.record(decision, {
    preview: { method: 'synthesized', rows: exchange.upgrade ? 0 : 1, diff: [] },
    ...sent(decision, exchange),
    ...(fidelity === undefined ? {} : { fidelity }),
    syntheticIds,
  })
  return response
}

function unsendable(decision: Decision): Decision {
  return { ...decision, verdict: 'block', reason: `${decision.reason}; but this client cannot hold a request` }
}

/** The payload, and whom it would have reached. */
function sent(decision: Decision, exchange: Exchange): EffectDetail {
  const payload = payloadOf(exchange.body)
  const recipients = recipientsOf(decision, exchange)
  if (recipients.length === 0) return payload === undefined ? {} : { payload }
  const excerpt = { recipients, ...(payload?.excerpt === undefined ? {} : { body: payload.excerpt }) }
  return {
    payload: { digest: exchange.body.digest, size: exchange.body.size, ...payload, excerpt },
    attributes: { [ATTR_MAIL_RECIPIENT_COUNT]: recipients.length },
  }
}

/** Of all statuses the one that every client measured takes as final, but Slack's, which tries again whatever is not 200. */
function refusalOf({ error, rule, effect }: Decision): SimulatedResponse {
  const { code, message } = error as DryTraceError
  return {
    status: 451,
    headers: { 'content-type': 'application/json', [HEADER_FLAG]: 'blocked' },
    body: JSON.stringify({ error: { code, message, rule, target: effect.target } }),
  }
}

function bodyOf(body: CapturedBody) {
  if (body.size > Math.min(body.head.length, MAX_BODY)) return null
  return readBody(body.head, body.contentType, body.contentEncoding)
}
