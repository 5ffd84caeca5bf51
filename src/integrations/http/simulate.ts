import { createHash } from 'node:crypto'
import type { Decision, Guard } from '../../guard/guard.js'
import { bodyOf, readBody } from '../../policy/http/request-facts.js'
import type { Respond, SyntheticIds } from '../../policy/http/respond.js'
import { responsePacks } from '../../policy/packs/answers/index.js'
import type { BlockedCall, PackAnswer, ResponsePack } from '../../policy/packs/response-pack.js'
import { HEADER_FLAG } from '../../semconv.js'
import { splitPath } from './http-effect.js'
import { computedAnswer, statedAnswer } from './rule-answer.js'
import type { Exchange, SimulatedResponse } from './wire-peer.js'

/** Told apart from every real answer; SDKs ignore it. */
const MARK = { [HEADER_FLAG]: 'blocked' }

export interface Simulation {
  readonly response: SimulatedResponse
  readonly fidelity: 'plausible' | 'empty'
  readonly note?: string
}

/**
 * A rule's answer, else the service's own, else the one most SDKs take as success: 200 with an empty JSON object.
 *
 * @param nested the call was made by a responder function
 * @throws DryTraceError `DRY_GUARD_FAILED` when a rule's responder function fails
 */
export async function simulateHttp(
  guard: Guard,
  decision: Decision,
  exchange: Exchange,
  ids: string[],
  nested: boolean,
): Promise<Simulation> {
  if (exchange.upgrade) {
    const websocket = /websocket/i.test(exchange.headers['upgrade'] ?? '')
    return { response: { status: websocket ? 101 : 426, headers: MARK }, fidelity: 'empty' }
  }
  const made = (kind: 'string' | 'uuid' | 'integer') => () => {
    const id = guard.syntheticId(decision.run, kind)
    ids.push(id)
    return id
  }
  const synthetic = { string: made('string'), uuid: made('uuid'), integer: made('integer') }
  const call = blockedCall(decision, exchange)
  const ruled =
    decision.respond === undefined
      ? undefined
      : await byRule(guard, { ...decision, respond: decision.respond }, exchange, call, synthetic, ids, nested)
  if (ruled !== undefined && 'response' in ruled) {
    return { ...ruled, response: { ...ruled.response, headers: { ...ruled.response.headers, ...MARK } } }
  }
  const note = ruled === undefined ? {} : { note: ruled.none }
  const answer = answerOf(call, guard, synthetic)
  if (answer !== undefined) {
    const { status, headers, body } = answer
    return {
      response: { status, headers: { ...headers, ...MARK }, ...(body === undefined ? {} : { body }) },
      fidelity: 'plausible',
      ...note,
    }
  }
  return {
    response: { status: 200, headers: { 'content-type': 'application/json', ...MARK }, body: '{}' },
    fidelity: 'empty',
    ...note,
  }
}

/** Undefined, or a reason in words: no answer by the rule after all. */
async function byRule(
  guard: Guard,
  decision: Decision & { respond: Respond },
  { path }: Exchange,
  call: BlockedCall,
  ids: SyntheticIds,
  made: string[],
  nested: boolean,
): Promise<Simulation | { readonly none: string }> {
  const { respond } = decision
  if (respond.compute !== undefined) {
    if (nested) return { none: 'called by a responder function, so answered without one' }
    return { response: await computedAnswer(guard, decision, respond.compute, call, path, ids), fidelity: 'plausible' }
  }
  if (respond.document !== undefined) {
    const answer = respond.document.answer(call, ids)
    if ('none' in answer) return answer
    const { note, ...response } = answer
    // Some were tried and did not fit the schema.
    made.splice(0, made.length, ...made.filter((id) => response.body?.includes(id)))
    return { response, fidelity: 'plausible', ...(note === undefined ? {} : { note }) }
  }
  return { response: statedAnswer(respond, call, ids), fidelity: 'plausible' }
}

function answerOf(call: BlockedCall, guard: Guard, ids: SyntheticIds): PackAnswer | undefined {
  try {
    return packFor(call, guard.enabled)?.respond(call, ids)
  } catch {
    // A body the service itself would refuse. The call is blocked either way.
    return undefined
  }
}

/** Whom a blocked message would have reached; empty for what is no message. */
export function recipientsOf(decision: Decision, exchange: Exchange): readonly string[] {
  if (decision.effect.action !== 'send' && decision.effect.action !== 'publish') return []
  try {
    const call = blockedCall(decision, exchange)
    return packFor(call, () => true)?.recipients?.(call) ?? []
  } catch {
    // A body the service itself would refuse.
    return []
  }
}

function packFor(call: BlockedCall, enabled: (id: string) => boolean): ResponsePack | undefined {
  return responsePacks.find((pack) => enabled(pack.id) && pack.matches(call))
}

function blockedCall({ effect }: Decision, { method, path, headers, body }: Exchange): BlockedCall {
  const [plain, search] = splitPath(path)
  const readable = readBody(body.head, body.contentType, body.contentEncoding)
  return {
    method,
    host: (effect.match['host'] ?? '').toLowerCase(),
    path: plain,
    query: new URLSearchParams(search),
    headers,
    body: readable ?? bodyOf('', body.contentType),
    whole: readable !== null && body.size === body.head.length,
    md5: () =>
      body.size === body.head.length ? createHash('md5').update(body.head).digest('hex') : body.digest.slice(0, 32),
  }
}
