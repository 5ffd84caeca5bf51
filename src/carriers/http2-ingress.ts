import type { EventEmitter } from 'node:events'
import type { Server } from 'node:http'
import type { Http2Server, OutgoingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { bindEmitter } from '../run/bind.js'
import { type Flag, readFlag, versionedFlag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { currentRun, holdRun, shared } from '../run/store.js'
import { HEADER_FLAG } from '../semconv.js'
import type { Admission } from './admission.js'
import { wrapServer } from './http-ingress.js'
import { type Http2, whenHttp2Loads } from './http2-module.js'
import { failureOf, findCarriers, peerAt, refusalOf } from './ingress.js'

const { IncomingMessage } = process.getBuiltinModule('node:http')

type Emit = (this: unknown, event: string, ...args: unknown[]) => boolean
type Headers = Readonly<Record<string, string | string[] | undefined>>

/** grpc-status codes of the two refusals: PERMISSION_DENIED and UNAVAILABLE. */
const GRPC_STATUS = { 403: '7', 503: '14' } as const

/**
 * The same entry for HTTP/2: plain and secure servers, the `stream` API and
 * the compatibility API, whose `request` is emitted inside `stream`.
 */
export function armHttp2Ingress(admission: Admission): void {
  whenHttp2Loads((http2, early) => {
    const wrapped = new WeakSet<object>()
    const meet = (object: object, wrap: (prototype: object) => void): void => {
      const prototype = Object.getPrototypeOf(object) as object
      if (wrapped.has(prototype)) return
      wrapped.add(prototype)
      wrap(prototype)
    }
    const meetSession = (session: object) => meet(session, (prototype) => wrapSession(prototype, admission))
    const meetServer = (server: object) =>
      meet(server, (prototype) => wrapHttp2Server(prototype, admission, meetSession))
    // The classes are not exported; their prototypes are reached from the first instance.
    wrapFactory(http2, 'createServer', meetServer)
    wrapFactory(http2, 'createSecureServer', meetServer)
    wrapFactory(http2, 'performServerHandshake', meetSession)
    if (!early) {
      // Servers may exist already, made by functions we have not wrapped.
      meetServer(http2.createServer())
      meetServer(http2.createSecureServer({}))
    }
  })
}

function wrapFactory(
  http2: Http2,
  name: 'createServer' | 'createSecureServer' | 'performServerHandshake',
  meet: (made: object) => void,
): void {
  const original = http2[name] as (...args: unknown[]) => object
  const wrapped = function (this: unknown, ...args: unknown[]): object {
    const made = Reflect.apply(original, this, args)
    meet(made)
    return made
  }
  Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original))
  ;(http2 as unknown as Record<string, unknown>)[name] = wrapped
}

function define(prototype: object, emit: Emit): void {
  Object.defineProperty(prototype, 'emit', { value: emit, writable: true, configurable: true, enumerable: false })
}

function wrapHttp2Server(prototype: object, admission: Admission, meetSession: (session: object) => void): void {
  const original = (prototype as Http2Server).emit as Emit
  // A secure server with `allowHTTP1` hands out HTTP/1 requests too.
  wrapServer(prototype as Server, admission)
  const http1 = (prototype as Http2Server).emit as Emit
  define(prototype, function emit(event, ...args) {
    if (event === 'session') meetSession(args[0] as object)
    const emitter = args[0] instanceof IncomingMessage ? http1 : original
    return Reflect.apply(emitter, this, [event, ...args])
  })
}

/** Every request comes out of its session first, whoever listens there: a server, or the application. */
function wrapSession(prototype: object, admission: Admission): void {
  const original = (prototype as EventEmitter).emit as Emit
  define(prototype, function emit(event, ...args) {
    if (event !== 'stream') return Reflect.apply(original, this, [event, ...args])
    const [stream, headers, , rawHeaders] = args as [ServerHttp2Stream, Headers, number, string[] | undefined]
    const raw = findCarriers(rawHeaders ?? Object.entries(headers).flatMap(([name, value]) => [name, String(value)]))
    const flag = raw === undefined ? undefined : readFlag(raw)
    if (flag === undefined) {
      if (shared.processRun !== undefined) markResponse(stream, shared.processRun)
      return Reflect.apply(original, this, [event, ...args])
    }
    return enter(admission, flag, this as ServerHttp2Session, stream, headers, () =>
      Reflect.apply(original, this, [event, ...args]),
    )
  })
}

function enter(
  admission: Admission,
  flag: Flag,
  session: ServerHttp2Session,
  stream: ServerHttp2Stream,
  headers: Headers,
  proceed: () => boolean,
): boolean {
  let run: Run
  try {
    const asked = flag.runId === undefined ? { ...flag, runId: currentRun()?.id } : flag
    run = admission.admit(asked, peerAt(session.socket?.remoteAddress, headers), 'http')
  } catch (error) {
    refuse(stream, headers, error)
    return true
  }
  // Data, end and close come from the session's parser, outside of this call.
  bindEmitter(stream, run)
  markResponse(stream, run)
  const release = holdRun(run)
  stream.once('close', () => release(failure(stream, headers)))
  return shared.runs.run(run, proceed)
}

function failure(stream: ServerHttp2Stream, headers: Headers): Error | undefined {
  const path = String(headers[':path'] ?? '').split('?', 1)[0]
  const answered = stream.headersSent && stream.writableEnded && !stream.aborted
  return failureOf(`${headers[':method']} ${path}`, answered, Number(stream.sentHeaders?.[':status'] ?? 200))
}

/** Tells the caller that this hop ran dry. The compatibility API responds through its stream too. */
function markResponse(stream: ServerHttp2Stream, run: Run): void {
  const mark = (headers: unknown): unknown => {
    if (Array.isArray(headers)) return [...headers, HEADER_FLAG, versionedFlag(run.id)]
    return { ...(headers as OutgoingHttpHeaders | undefined), [HEADER_FLAG]: versionedFlag(run.id) }
  }
  for (const [name, at] of [
    ['respond', 0],
    ['respondWithFD', 1],
    ['respondWithFile', 1],
  ] as const) {
    const original = stream[name] as (...args: unknown[]) => void
    Object.defineProperty(stream, name, {
      configurable: true,
      writable: true,
      value: function (this: unknown, ...args: unknown[]) {
        args[at] = mark(args[at])
        return Reflect.apply(original, this, args)
      },
    })
  }
}

function refuse(stream: ServerHttp2Stream, headers: Headers, error: unknown): void {
  const { status, headers: answer, body, code, message } = refusalOf(error)
  stream.on('error', () => {})
  // What is still to come of the request is not wanted.
  stream.resume()
  if (/^application\/grpc/.test(String(headers['content-type'] ?? ''))) {
    const text = encodeURIComponent(`${code}: ${message}`).replaceAll('%20', ' ')
    const trailers = { 'grpc-status': GRPC_STATUS[status], 'grpc-message': text, [HEADER_FLAG]: 'refused' }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', ...trailers }, { endStream: true })
    return
  }
  stream.respond({ ':status': status, ...answer })
  stream.end(headers[':method'] === 'HEAD' ? undefined : body)
}
