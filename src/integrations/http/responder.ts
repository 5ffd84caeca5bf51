import type { Decision, Guard } from '../../guard/guard.js'
import { HEADER_FLAG } from '../../semconv.js'
import { payloadOf } from './body-capture.js'
import type { Exchange, Responder, SimulatedResponse } from './wire-peer.js'

/** Told apart from every real answer; SDKs ignore it. */
const MARK = { [HEADER_FLAG]: 'blocked' }

export interface BlockedRequest {
  readonly respond: Responder
  /** The socket is gone: an attempt that never became a whole request goes on record too. */
  closed(): void
}

/**
 * Answers one blocked request: the effect goes on record as soon as the
 * request is whole, and only then does the caller get its answer.
 *
 * @param current the decision at the time of the answer; undici's span is known only after the dispatch
 */
export function answerBlocked(guard: Guard, current: () => Decision): BlockedRequest {
  return {
    respond(exchange) {
      const decision = current()
      const syntheticIds: string[] = []
      const { response, fidelity } = simulateHttp(guard, decision, exchange, syntheticIds)
      const payload = payloadOf(exchange.body)
      guard.record(decision, {
        preview: { method: 'synthesized', rows: exchange.upgrade ? 0 : 1, diff: [] },
        ...(payload === undefined ? {} : { payload }),
        fidelity,
        syntheticIds,
      })
      return response
    },
    closed() {
      try {
        // A second record of one decision is the first.
        guard.record(current(), { note: 'the caller gave up before the request was whole' })
      } catch (error) {
        guard.fail(current(), error)
      }
    },
  }
}

interface Simulation {
  readonly response: SimulatedResponse
  readonly fidelity: 'plausible' | 'empty'
}

/** A rule's answer, else the one most SDKs take as success: 200 with an empty JSON object (33 of 40 measured). */
export function simulateHttp(guard: Guard, decision: Decision, exchange: Exchange, ids: string[]): Simulation {
  if (exchange.upgrade) {
    const websocket = /websocket/i.test(exchange.headers['upgrade'] ?? '')
    return { response: { status: websocket ? 101 : 426, headers: MARK }, fidelity: 'empty' }
  }
  const { respond } = decision
  if (respond === undefined) {
    return {
      response: { status: 200, headers: { 'content-type': 'application/json', ...MARK }, body: '{}' },
      fidelity: 'empty',
    }
  }
  const fill = (value: unknown): unknown => template(value, () => newId(guard, decision, ids), exchange)
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

function newId(guard: Guard, decision: Decision, ids: string[]): string {
  const id = guard.syntheticId(decision.run, 'string')
  ids.push(id)
  return id
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
