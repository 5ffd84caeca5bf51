import { createHash } from 'node:crypto'
import type { Decision, Guard } from '../../guard/guard.js'
import { bodyOf, readBody } from '../../policy/http/request-facts.js'
import { responsePacks } from '../../policy/packs/answers/index.js'
import type { BlockedCall, PackAnswer, ResponsePack, SyntheticIds } from '../../policy/packs/response-pack.js'
import { HEADER_FLAG } from '../../semconv.js'
import { splitPath } from './http-effect.js'
import type { Exchange, SimulatedResponse } from './wire-peer.js'

/** Told apart from every real answer; SDKs ignore it. */
const MARK = { [HEADER_FLAG]: 'blocked' }

export interface Simulation {
  readonly response: SimulatedResponse
  readonly fidelity: 'plausible' | 'empty'
}

/** A rule's answer, else the service's own, else the one most SDKs take as success: 200 with an empty JSON object. */
export function simulateHttp(guard: Guard, decision: Decision, exchange: Exchange, ids: string[]): Simulation {
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
  if (decision.respond !== undefined) return byRule(decision.respond, synthetic, exchange)
  const call = blockedCall(decision, exchange)
  const answer = answerOf(call, guard, synthetic)
  if (answer !== undefined) {
    const { status, headers, body } = answer
    return {
      response: { status, headers: { ...headers, ...MARK }, ...(body === undefined ? {} : { body }) },
      fidelity: 'plausible',
    }
  }
  return {
    response: { status: 200, headers: { 'content-type': 'application/json', ...MARK }, body: '{}' },
    fidelity: 'empty',
  }
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
  return {
    method,
    host: (effect.match['host'] ?? '').toLowerCase(),
    path: plain,
    query: new URLSearchParams(search),
    headers,
    body: readBody(body.head, body.contentType, body.contentEncoding) ?? bodyOf('', body.contentType),
    md5: () =>
      body.size === body.head.length ? createHash('md5').update(body.head).digest('hex') : body.digest.slice(0, 32),
  }
}

function byRule(respond: NonNullable<Decision['respond']>, ids: SyntheticIds, exchange: Exchange): Simulation {
  const fill = (value: unknown): unknown => template(value, ids.string, exchange)
  const json = respond.json === undefined ? undefined : JSON.stringify(fill(respond.json))
  const type =
    json !== undefined ? 'application/json' : respond.text !== undefined ? 'text/plain; charset=utf-8' : undefined
  const body = json ?? (respond.text === undefined ? undefined : String(fill(respond.text)))
  return {
    response: {
      status: respond.status ?? 200,
      headers: { ...(type === undefined ? {} : { 'content-type': type }), ...respond.headers, ...MARK },
      ...(body === undefined ? {} : { body }),
    },
    fidelity: 'plausible',
  }
}

const PLACEHOLDER = /\{\{\s*([\w.]+)\s*\}\}/g

/**
 * `{{syntheticId}}`, `{{now}}`, `{{request.<field>}}` (a top-level field of the
 * JSON body). A string that is one placeholder takes the value's own type.
 */
function template(value: unknown, id: () => string, exchange: Exchange): unknown {
  if (typeof value === 'string') {
    const whole = /^\{\{\s*([\w.]+)\s*\}\}$/.exec(value)?.[1]
    if (whole !== undefined) return lookup(whole, id, exchange)
    return value.replace(PLACEHOLDER, (_, name: string) => String(lookup(name, id, exchange) ?? ''))
  }
  if (Array.isArray(value)) return value.map((item) => template(item, id, exchange))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, template(item, id, exchange)]))
  }
  return value
}

function lookup(name: string, id: () => string, exchange: Exchange): unknown {
  if (name === 'syntheticId') return id()
  if (name === 'now') return new Date().toISOString()
  if (!name.startsWith('request.')) return undefined
  try {
    const body = JSON.parse(exchange.body.head.toString('utf8')) as Record<string, unknown>
    return body[name.slice('request.'.length)] ?? null
  } catch {
    return null
  }
}
