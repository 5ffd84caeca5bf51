import type { ClientRequest, IncomingMessage } from 'node:http'
import { DryTraceError } from '../../errors.js'
import type { Exchange, SimulatedResponse } from './wire-peer.js'

/** They belong to one connection (RFC 9110, 7.6.1), or are worked out anew. */
const PER_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])
const REWRITTEN: ReadonlySet<string> = new Set([...PER_CONNECTION, 'content-length', 'expect'])

/** The body of a held request, which is known to be whole. */
export function heldBody({ body }: Exchange): Buffer {
  if (body.size === body.head.length) return body.head
  throw new DryTraceError('DRY_GUARD_FAILED', `dry run: a request of ${body.size} bytes was not kept whole`)
}

/** Headers of a held request as it is sent: what the caller wrote, with the length of the body that is now known. */
export function heldHeaders({ headers, body, method }: Exchange): Record<string, string> {
  const kept = Object.entries(headers).filter(([name]) => !REWRITTEN.has(name))
  const bodiless = body.size === 0 && (method === 'GET' || method === 'HEAD')
  return { ...Object.fromEntries(kept), ...(bodiless ? {} : { 'content-length': String(body.size) }) }
}

/** Headers of a real answer, as they are relayed. */
export function relayedHeaders(pairs: Iterable<readonly [string, string]>): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.create(null)
  for (const [name, value] of pairs) {
    const key = name.toLowerCase()
    if (PER_CONNECTION.has(key)) continue
    const before = headers[key]
    headers[key] = before === undefined ? value : [...(typeof before === 'string' ? [before] : before), value]
  }
  return headers
}

/** Sends the body, and resolves with the answer as soon as its head is there. */
export function relay(request: ClientRequest, exchange: Exchange, signal: AbortSignal): Promise<SimulatedResponse> {
  return new Promise((resolve, reject) => {
    const abort = () => request.destroy()
    signal.addEventListener('abort', abort, { once: true })
    request.once('close', () => signal.removeEventListener('abort', abort))
    request.on('error', reject)
    request.once('response', (response) => resolve(relayed(response, exchange)))
    request.end(heldBody(exchange))
    if (signal.aborted) abort()
  })
}

function relayed(response: IncomingMessage, { method }: Exchange): SimulatedResponse {
  const { rawHeaders, statusCode: status = 502, statusMessage } = response
  const pairs = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [[name, rawHeaders[at + 1] ?? ''] as const] : []))
  // Nobody reads an answer that has no body, and it must end for its connection to be used again.
  if (method === 'HEAD' || status === 204 || status === 304) response.resume()
  return { status, reason: statusMessage, headers: relayedHeaders(pairs), body: response }
}
