import { EventEmitter } from 'node:events'
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
} from 'node:http2'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Http2 } from '../../carriers/http2-module.js'
import { BodyCapture } from '../http/body-capture.js'
import type { BlockedRequest } from '../http/responder.js'
import { WebSocketPeer } from '../http/websocket-peer.js'
import type { Exchange, SimulatedResponse } from '../http/wire-peer.js'
import { originOf } from './http2-call.js'
import { pairedDuplexes } from './paired-duplex.js'

/** What Node's own functions are, before anybody wrapped them. */
export interface Originals {
  readonly connect: Http2['connect']
  readonly performServerHandshake: Http2['performServerHandshake']
  readonly request: (...args: unknown[]) => ClientHttp2Stream
}

const NGHTTP2_INTERNAL_ERROR = 2
/** Of HTTP/1 only; a response with one is malformed (RFC 9113, 8.2.2). */
const CONNECTION_HEADERS: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade'])
const ignore = () => {}

/**
 * A genuine stream of a session of its own, whose peer is in this process. Not
 * an `Http2Server`: server instrumentation, and our own ingress, would see it.
 *
 * @param session the session the caller used; nothing is sent on it
 * @param error given to the stream instead of an answer
 */
export function simulateRequest(
  originals: Originals,
  session: ClientHttp2Session,
  args: readonly unknown[],
  blocked: BlockedRequest | { readonly error: Error },
): ClientHttp2Stream {
  const { protocol, authority } = originOf(session)
  const [near, far] = pairedDuplexes()
  const peer = originals.performServerHandshake(far, { settings: { enableConnectProtocol: true } })
  // Past the ingress, which reads the flag of every server session.
  Object.defineProperty(peer, 'emit', { value: EventEmitter.prototype.emit })
  const own = originals.connect(`${protocol}//${authority}`, { createConnection: () => near })
  for (const end of [own, peer, near, far]) (end as EventEmitter).on('error', ignore)
  let stream: ClientHttp2Stream
  try {
    stream = Reflect.apply(originals.request, own, args)
  } catch (error) {
    // Node's own complaint about the arguments.
    own.destroy()
    peer.destroy()
    throw error
  }
  Object.defineProperty(stream, 'session', { configurable: true, get: () => (stream.destroyed ? undefined : session) })
  endWith(session, stream)
  stream.once('close', () => {
    own.close()
    peer.close()
    if ('closed' in blocked) blocked.closed()
  })
  if ('error' in blocked) {
    stream.destroy(blocked.error)
    return stream
  }
  peer.on('stream', (far, headers) => {
    far.on('error', ignore)
    answer(far, headers, blocked).catch((error: Error) => {
      // The caller gets the error itself; the peer's half would only say "reset".
      stream.destroy(error)
      if (!far.destroyed) far.close(NGHTTP2_INTERNAL_ERROR)
    })
  })
  return stream
}

async function answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, blocked: BlockedRequest): Promise<void> {
  const upgrade = headers[':protocol'] as string | undefined
  const body = new BodyCapture(headers['content-type'], headers['content-encoding']?.toString())
  if (/^100-continue$/i.test(headers.expect ?? '')) stream.additionalHeaders({ ':status': 100 })
  // The frames of an upgraded stream come after the answer.
  if (upgrade === undefined) {
    try {
      for await (const chunk of stream) body.add(chunk as Buffer)
    } catch {
      // Aborted by the caller; what there was of it goes on record when the stream closes.
      return
    }
  }
  const response = await blocked.respond(exchangeOf(headers, upgrade, body))
  if (stream.destroyed) return
  if (response.status === 101) return acceptUpgrade(stream, response)
  await write(stream, headers[':method'] === 'HEAD', response)
}

function exchangeOf(headers: IncomingHttpHeaders, upgrade: string | undefined, body: BodyCapture): Exchange {
  const plain = Object.entries(headers).flatMap(([name, value]) =>
    name.startsWith(':') || value === undefined ? [] : [[name, String(value)]],
  )
  return {
    method: String(headers[':method']),
    path: String(headers[':path'] ?? ''),
    headers: {
      ...Object.fromEntries(plain),
      host: String(headers[':authority'] ?? ''),
      ...(upgrade === undefined ? {} : { upgrade }),
    },
    upgrade: upgrade !== undefined,
    body: body.finish(),
  }
}

async function write(stream: ServerHttp2Stream, head: boolean, response: SimulatedResponse): Promise<void> {
  const { body, trailers } = response
  // 426 says "upgrade" to a request that has no upgrade in HTTP/2.
  const status = response.status === 426 ? 501 : response.status
  const headers = headersOf(status, response)
  const bodiless = head || status === 204 || status === 304
  const streamed = typeof body === 'object' && Symbol.asyncIterator in body ? body : undefined
  const bytes = streamed === undefined && body !== undefined ? Buffer.from(body as string) : undefined
  if (!bodiless && streamed === undefined) headers['content-length'] ??= bytes?.length ?? 0
  if (trailers !== undefined && !bodiless) stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers }))
  stream.respond(headers, { endStream: bodiless, waitForTrailers: trailers !== undefined && !bodiless })
  if (bodiless) return
  if (streamed === undefined) {
    stream.end(bytes)
    return
  }
  // A caller that stops reading has the stream reset: nothing of ours went wrong.
  await pipeline(Readable.from(streamed, { objectMode: false }), stream).catch(ignore)
}

function headersOf(status: number, response: SimulatedResponse): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ':status': status }
  for (const [name, value] of Object.entries(response.headers ?? {})) {
    if (!CONNECTION_HEADERS.has(name.toLowerCase()))
      headers[name.toLowerCase()] = typeof value === 'string' ? value : [...value]
  }
  return headers
}

/** A WebSocket over HTTP/2 (RFC 8441) is accepted with 200; its frames go nowhere. */
function acceptUpgrade(stream: ServerHttp2Stream, response: SimulatedResponse): void {
  stream.respond(headersOf(200, response))
  const peer = new WebSocketPeer((bytes) => {
    if (stream.destroyed) return
    if (bytes === null) stream.end()
    else stream.write(bytes)
  })
  stream.on('data', (chunk: Buffer) => peer.feed(chunk))
  stream.on('end', () => stream.end())
}

const simulated = new WeakMap<ClientHttp2Session, Set<ClientHttp2Stream>>()

/** Destroying a session ends its streams; closing it lets them finish. The simulated ones too. */
function endWith(session: ClientHttp2Session, stream: ClientHttp2Stream): void {
  let streams = simulated.get(session)
  if (streams === undefined) {
    const all = new Set<ClientHttp2Stream>()
    streams = all
    simulated.set(session, all)
    const { destroy } = session
    Object.defineProperty(session, 'destroy', {
      configurable: true,
      writable: true,
      value: function (this: ClientHttp2Session, ...args: unknown[]) {
        const error = args[0] instanceof Error ? args[0] : undefined
        if (!this.closed) for (const each of all) each.destroy(error)
        return Reflect.apply(destroy, this, args)
      },
    })
  }
  streams.add(stream)
  stream.once('close', () => streams.delete(stream))
}
