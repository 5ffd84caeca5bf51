import { DryTraceError, messageOf } from '../../errors.js'
import type { EffectDetail } from '../../guard/effect.js'
import type { Decision, Guard } from '../../guard/guard.js'
import { MAX_BODY, readBody } from '../../policy/http/request-facts.js'
import { ATTR_MAIL_RECIPIENT_COUNT, HEADER_FLAG } from '../../semconv.js'
import { attemptOf, tick } from './attempt.js'
import { type CapturedBody, payloadOf } from './body-capture.js'
import type { HttpCall } from './http-effect.js'
import { type PreparedValidation, prepareValidation, verdictAnswer } from './provider-validation.js'
import { answerRead, plannedRead } from './resources/overlaid-read.js'
import { type ChangePreview, type Previewed, previewChange } from './resources/resource-preview.js'
import { rememberWrite } from './resources/run-resources.js'
import { isResponding } from './rule-answer.js'
import type { SendHeld } from './send-held.js'
import { recipientsOf, type Simulation, simulateHttp } from './simulate.js'
import type { Exchange, Responder, SimulatedResponse } from './wire-peer.js'

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
 * A read of what the run would have changed is held too, and answered with that.
 *
 * @param call the request as it was decided on
 * @param current the decision at the time of the answer: undici's span is known only after the dispatch, and what
 *   `node:http` was told may have changed since
 * @param send absent where a held request cannot be sent; it is blocked then
 */
export function answerBlocked(
  guard: Guard,
  call: HttpCall,
  current: (exchange?: Exchange) => Decision,
  send?: SendHeld,
): BlockedRequest {
  let settled: Decision | undefined
  let whole: Exchange | undefined
  let answered = false
  const began = tick(current().run)
  const abort = new AbortController()
  // Asked here, in the caller's context: the socket answers in whoever's.
  const nested = isResponding()
  return {
    async respond(exchange) {
      const held = current(exchange)
      const { headers, body } = exchange
      const ruled = held.deferred === true ? guard.settle(held, { headers, body: bodyOf(body) }) : held
      const decision = send === undefined && ruled.verdict === 'allow' ? unsendable(ruled) : ruled
      settled = decision
      whole = exchange
      if (decision.verdict === 'allow' && send !== undefined) {
        const { signal } = abort
        const resource = plannedRead(guard, decision, { ...call, path: exchange.path, headers })
        if (resource !== undefined) return await answerRead(guard, { decision, exchange, resource, send, signal })
        guard.record(decision, { note: 'held until its body was whole, then sent' })
        return await send(decision, exchange, signal)
      }
      if (decision.error !== undefined && !isRefusedByPolicy(decision)) {
        guard.record(decision)
        throw decision.error
      }
      const prepared = send === undefined ? undefined : validationOf(decision, exchange)
      if (prepared !== undefined && 'exchange' in prepared && send !== undefined) {
        settled = forwardedOf(decision)
        return await validate(guard, settled, exchange, prepared, (to, sent) => send(to, sent, abort.signal))
      }
      const refused = prepared !== undefined && 'refused' in prepared ? prepared.refused : undefined
      const previewed = { decision, call, exchange, send, signal: abort.signal }
      const response = await block(guard, previewed, began, nested, refused)
      answered = true
      return response
    },
    closed() {
      abort.abort()
      if (answered) return
      const decision = settled ?? current()
      try {
        // A second record of one decision is the first.
        const note = `the caller gave up before ${whole === undefined ? 'the request was whole' : 'it was answered'}`
        const known = whole === undefined || decision.verdict === 'allow' ? {} : given(decision, whole, began)
        guard.record(decision, { ...known, note })
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

/** Whether a decision lets its call reach a socket. */
export function goesOut({ verdict }: Decision): boolean {
  return verdict === 'allow' || verdict === 'forward'
}

/** `onBlocked: throw`: a final answer, because a socket error makes SDKs try again. */
export function isRefusedByPolicy({ verdict, error }: Decision): boolean {
  return verdict === 'block' && error instanceof DryTraceError && error.code === 'DRY_BLOCKED'
}

type Sender = (decision: Decision, exchange: Exchange) => Promise<SimulatedResponse>

/** Undefined when no rule asks for it, or what blocks the call is more than the policy. */
function validationOf(decision: Decision, exchange: Exchange): ReturnType<typeof prepareValidation> | undefined {
  const { validate, verdict, error } = decision
  if (validate === undefined || verdict !== 'block') return undefined
  if (error !== undefined && !isRefusedByPolicy(decision)) return undefined
  return prepareValidation(validate, decision, exchange)
}

function forwardedOf({ error: _, ...decision }: Decision): Decision {
  return { ...decision, verdict: 'forward' }
}

/** On record first, then sent in the provider's validation mode; the caller gets the provider's verdict. */
async function validate(
  guard: Guard,
  decision: Decision,
  asked: Exchange,
  { exchange, note }: PreparedValidation,
  send: Sender,
): Promise<SimulatedResponse> {
  guard.record(decision, { ...sent(decision, asked), note })
  const response = await send(decision, exchange)
  const id = () => guard.syntheticId(decision.run, 'string')
  return decision.validate === undefined ? response : await verdictAnswer(decision.validate, exchange, response, id)
}

async function block(
  guard: Guard,
  previewed: Previewed,
  began: number,
  nested: boolean,
  refused?: string,
): Promise<SimulatedResponse> {
  const { decision, call, exchange } = previewed
  const syntheticIds: string[] = []
  const planned = await previewOrNote(guard, previewed)
  const attempt = (status: number) => ({ attempt: attemptOf(decision, exchange, status, began) })
  const detail = {
    preview: planned?.preview ?? { method: 'synthesized' as const, rows: exchange.upgrade ? 0 : 1, diff: [] },
    ...sent(decision, exchange),
    ...(refused === undefined ? {} : { note: refused }),
  }
  if (isRefusedByPolicy(decision)) {
    const answer = finalAnswer(decision, decision.error as DryTraceError)
    guard.record(decision, { ...detail, ...attempt(answer.status) })
    return answer
  }
  let simulation: Simulation
  try {
    simulation = await simulateHttp(guard, decision, exchange, syntheticIds, nested)
  } catch (cause) {
    const error = guard.fail(decision, cause, { ...detail, ...attempt(451) })
    if (!(error instanceof DryTraceError) || error.code === 'DRY_JOURNAL') throw error
    return finalAnswer(decision, error)
  }
  const { response, ...simulated } = withPlanned(simulation, exchange, planned)
  const notes = [refused, simulated.note].filter((note) => note !== undefined)
  const recorded = guard.record(decision, {
    ...detail,
    ...simulated,
    syntheticIds,
    ...attempt(response.status),
    ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
  })
  const { run, effect } = decision
  try {
    const write = { call, exchange, answer: response, ids: syntheticIds, summary: effect.summary }
    rememberWrite(guard, run, write, recorded)
  } catch (error) {
    throw guard.fail(decision, error)
  }
  return response
}

/** Where nobody knows a better answer: what a PUT or PATCH leaves is what most services answer it with. */
function withPlanned(simulation: Simulation, { method }: Exchange, planned: ChangePreview | undefined): Simulation {
  const { response, fidelity } = simulation
  if (fidelity !== 'empty' || planned?.after === undefined || !/^(PUT|PATCH)$/i.test(method)) return simulation
  return { ...simulation, response: { ...response, body: JSON.stringify(planned.after) }, fidelity: 'plausible' }
}

/** Without it the blocked request still goes on record, with what went wrong. */
async function previewOrNote(guard: Guard, previewed: Previewed): Promise<ChangePreview | undefined> {
  try {
    return await previewChange(guard, previewed)
  } catch (error) {
    if (error instanceof DryTraceError) throw error
    return { preview: { method: 'synthesized', rows: 1, diff: [], notes: [`no diff: ${messageOf(error)}`] } }
  }
}

function unsendable(decision: Decision): Decision {
  return { ...decision, verdict: 'block', reason: `${decision.reason}; but this client cannot hold a request` }
}

function given(decision: Decision, exchange: Exchange, began: number): EffectDetail {
  return { ...sent(decision, exchange), attempt: attemptOf(decision, exchange, null, began) }
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
function finalAnswer({ rule, effect }: Decision, { code, message }: DryTraceError): SimulatedResponse {
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
