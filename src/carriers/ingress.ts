import { DryTraceError, messageOf } from '../errors.js'
import type { Entry } from '../run/store.js'
import { HEADER_FLAG } from '../semconv.js'
import type { Peer } from './admission.js'

/** Headers of a proxy: behind one, a loopback address says nothing about who is asking. */
const PROXY_HEADERS = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via'] as const

/** Who sent a request that came from `address`; a Unix domain socket has no address and cannot be reached from outside. */
export function peerAt(address: string | undefined, headers: Readonly<Record<string, unknown>>): Peer {
  const proxied = PROXY_HEADERS.some((name) => headers[name] !== undefined)
  const local = address === undefined || /^(::ffff:)?127\.|^::1$/.test(address)
  return {
    loopback: local && !proxied,
    name: proxied ? `${address ?? 'a local socket'} through a proxy` : (address ?? 'a local socket'),
  }
}

/** The answer to a request that asked for dry and cannot have it. */
export interface Refusal {
  readonly code: string
  readonly message: string
  readonly status: 403 | 503
  readonly headers: Readonly<Record<string, string | number>>
  /** JSON: `{"error": {"code", "message", …}}`. */
  readonly body: string
}

export function refusalOf(error: unknown): Refusal {
  const code = error instanceof DryTraceError ? error.code : 'DRY_GUARD_FAILED'
  const details = error instanceof DryTraceError ? error.details : {}
  const message = messageOf(error)
  const body = JSON.stringify({ error: { code, message, ...details } })
  return {
    code,
    message,
    status: code === 'DRY_FLAG_REFUSED' ? 403 : 503,
    headers: {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      [HEADER_FLAG]: 'refused',
    },
    body,
  }
}

/** A run whose entry failed has shown only part of what it would do. */
export function failureOf(request: string, answered: boolean, status: number): Error | undefined {
  if (!answered) return new Error(`${request} was closed before it was answered`)
  return status < 500 ? undefined : new Error(`${request} answered ${status}`)
}

export interface FoundCarriers {
  baggage?: string[]
  tracestate?: string[]
  header?: string[]
}

/** One pass over the raw headers; for a request without the flag no object is made. */
export function findCarriers(raw: readonly string[]): FoundCarriers | undefined {
  let found: FoundCarriers | undefined
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string
    const value = raw[index + 1] as string
    switch (name.length) {
      case 7:
        if (value.includes('dry_run') && name.toLowerCase() === 'baggage') {
          found ??= {}
          found.baggage = [...(found.baggage ?? []), value]
        }
        break
      case 9:
        if (name.toLowerCase() === HEADER_FLAG) {
          found ??= {}
          found.header = [...(found.header ?? []), value]
        }
        break
      case 10:
        if (value.includes('drytrace') && name.toLowerCase() === 'tracestate') {
          found ??= {}
          found.tracestate = [...(found.tracestate ?? []), value]
        }
        break
    }
  }
  return found
}

/** The caller's trace, as W3C trace context gives it; undefined when there is none or it is malformed. */
export function entryOf(traceparent: unknown): Entry | undefined {
  const [, traceId, parentSpanId] =
    /^[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}/.exec(String(traceparent ?? '')) ?? []
  return traceId === undefined || parentSpanId === undefined ? undefined : { traceId, parentSpanId }
}
