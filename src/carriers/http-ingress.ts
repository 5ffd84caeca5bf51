import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import net, { type Socket } from 'node:net'
import { bindEmitter } from '../run/bind.js'
import { type Flag, readFlag, versionedFlag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { currentRun, holdRun, shared } from '../run/store.js'
import { HEADER_FLAG } from '../semconv.js'
import type { Admission } from './admission.js'
import { entryOf, failureOf, findCarriers, peerAt, refusalOf } from './ingress.js'

// Not imported: an `import` of node:http reads all of its exports, and so loads Node's undici.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')

type Emit = (this: Server, event: string, ...args: unknown[]) => boolean

/** Events that hand a request to the application. */
const REQUEST_EVENTS: ReadonlySet<string> = new Set([
  'request',
  'checkContinue',
  'checkExpectation',
  'upgrade',
  'connect',
])

/**
 * Enters a dry run for every incoming request that carries the flag, or
 * refuses the request. Independent of OpenTelemetry's own ingress, which
 * extracts nothing on a route it ignores.
 */
export function armHttpIngress(admission: Admission): void {
  // https.Server does not inherit from http.Server.
  for (const prototype of [http.Server.prototype, https.Server.prototype]) wrapServer(prototype as Server, admission)
}

/** Wraps `emit` of a server class that hands out HTTP/1 requests. */
export function wrapServer(prototype: Server, admission: Admission): void {
  const original = prototype.emit as Emit
  const emit: Emit = function emit(event, ...args) {
    if (!REQUEST_EVENTS.has(event)) return Reflect.apply(original, this, [event, ...args])
    const request = args[0] as IncomingMessage
    const raw = findCarriers(rawHeadersOf(request))
    const flag = raw === undefined ? undefined : readFlag(raw)
    if (flag === undefined) {
      if (shared.processRun !== undefined) mark(args[1], shared.processRun)
      return Reflect.apply(original, this, [event, ...args])
    }
    return enter(admission, flag, request, args[1], () => Reflect.apply(original, this, [event, ...args]))
  }
  Object.defineProperty(prototype, 'emit', { value: emit, writable: true, configurable: true, enumerable: false })
}

/** Adapters that emulate a server (serverless platforms, test tools) make requests that have parsed headers only. */
function rawHeadersOf({ rawHeaders, headers }: Partial<IncomingMessage>): readonly string[] {
  if (rawHeaders !== undefined && rawHeaders.length > 0) return rawHeaders
  return Object.entries(headers ?? {}).flatMap(([name, value]) => [name, String(value)])
}

/** Nothing says where an emulated request comes from: it is no loopback peer. */
function addressOf({ socket }: Partial<IncomingMessage>): string | undefined {
  return socket instanceof net.Socket ? socket.remoteAddress : 'an emulated connection'
}

function enter(
  admission: Admission,
  flag: Flag,
  request: IncomingMessage,
  reply: unknown,
  proceed: () => boolean,
): boolean {
  let run: Run
  try {
    // Without a readable id, the one that OpenTelemetry's extraction has made up holds: it is on the spans.
    const asked = flag.runId === undefined ? { ...flag, runId: currentRun()?.id } : flag
    run = admission.admit(asked, peerAt(addressOf(request), request.headers), 'http')
  } catch (error) {
    refuse(reply, error)
    return true
  }
  return shared.entries.run(entryOf(request.headers['traceparent']), () => bindAndProceed(run, request, reply, proceed))
}

function bindAndProceed(run: Run, request: IncomingMessage, reply: unknown, proceed: () => boolean): boolean {
  // `run()` around the event is not enough: 'data', 'end' and 'close' are emitted from the
  // connection's parser. And never `enterWith`: it leaks into the next request of a keep-alive socket.
  bindEmitter(request, run)
  if (typeof reply === 'object' && reply !== null) bindEmitter(reply, run)
  mark(reply, run)
  const release = holdRun(run)
  if (reply instanceof http.ServerResponse) reply.once('close', () => release(failure(request, reply)))
  else (reply as Socket | undefined)?.once('close', () => release())
  return shared.runs.run(run, proceed)
}

function failure(request: IncomingMessage, response: ServerResponse): Error | undefined {
  const path = (request.url ?? '').split('?', 1)[0]
  return failureOf(`${request.method} ${path}`, response.writableEnded, response.statusCode)
}

/** Tells the caller that this hop ran dry. */
function mark(reply: unknown, run: Run): void {
  if (reply instanceof http.ServerResponse && !reply.headersSent) reply.setHeader(HEADER_FLAG, versionedFlag(run.id))
}

function refuse(reply: unknown, error: unknown): void {
  const { status, headers, body } = refusalOf(error)
  if (reply instanceof http.ServerResponse) {
    reply.writeHead(status, { ...headers }).end(body)
    return
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const head = [`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`, ...lines, 'connection: close', '', ''].join('\r\n')
  ;(reply as Socket).end(head + body)
}
