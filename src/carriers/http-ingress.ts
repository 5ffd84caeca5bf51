import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { DryTraceError, messageOf } from '../errors.js'
import { bindEmitter } from '../run/bind.js'
import { type Flag, readFlag, versionedFlag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { currentRun, holdRun, shared } from '../run/store.js'
import { HEADER_FLAG } from '../semconv.js'
import type { Admission, Peer } from './admission.js'

type Emit = (this: http.Server, event: string, ...args: unknown[]) => boolean

/** Events that hand a request to the application. */
const REQUEST_EVENTS: ReadonlySet<string> = new Set([
  'request',
  'checkContinue',
  'checkExpectation',
  'upgrade',
  'connect',
])

/** Headers of a proxy: behind one, a loopback address says nothing about who is asking. */
const PROXY_HEADERS = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via'] as const

/**
 * Enters a dry run for every incoming request that carries the flag, or
 * refuses the request. Independent of OpenTelemetry's own ingress, which
 * extracts nothing on a route it ignores.
 */
export function armHttpIngress(admission: Admission): void {
  // https.Server does not inherit from http.Server.
  for (const prototype of [http.Server.prototype, https.Server.prototype]) wrap(prototype as http.Server, admission)
}

function wrap(prototype: http.Server, admission: Admission): void {
  const original = prototype.emit as Emit
  const emit: Emit = function emit(event, ...args) {
    if (!REQUEST_EVENTS.has(event)) return Reflect.apply(original, this, [event, ...args])
    const request = args[0] as http.IncomingMessage
    const raw = findCarriers(request.rawHeaders)
    const flag = raw === undefined ? undefined : readFlag(raw)
    if (flag === undefined) {
      if (shared.processRun !== undefined) mark(args[1], shared.processRun)
      return Reflect.apply(original, this, [event, ...args])
    }
    return enter(admission, flag, request, args[1], () => Reflect.apply(original, this, [event, ...args]))
  }
  Object.defineProperty(prototype, 'emit', { value: emit, writable: true, configurable: true, enumerable: false })
}

function enter(
  admission: Admission,
  flag: Flag,
  request: http.IncomingMessage,
  reply: unknown,
  proceed: () => boolean,
): boolean {
  let run: Run
  try {
    // Without a readable id, the one that OpenTelemetry's extraction has made up holds: it is on the spans.
    const asked = flag.runId === undefined ? { ...flag, runId: currentRun()?.id } : flag
    run = admission.admit(asked, peerOf(request), 'http')
  } catch (error) {
    refuse(reply, error)
    return true
  }
  // `run()` around the event is not enough: 'data', 'end' and 'close' are emitted from the
  // connection's parser. And never `enterWith`: it leaks into the next request of a keep-alive socket.
  bindEmitter(request, run)
  if (typeof reply === 'object' && reply !== null) bindEmitter(reply, run)
  mark(reply, run)
  const release = holdRun(run)
  if (reply instanceof http.ServerResponse) reply.once('close', () => release(failureOf(request, reply)))
  else (reply as Socket | undefined)?.once('close', () => release())
  return shared.runs.run(run, proceed)
}

/** A run whose entry failed has shown only part of what it would do. */
function failureOf(request: http.IncomingMessage, response: http.ServerResponse): Error | undefined {
  const path = (request.url ?? '').split('?', 1)[0]
  if (!response.writableEnded) return new Error(`${request.method} ${path} was closed before it was answered`)
  return response.statusCode < 500 ? undefined : new Error(`${request.method} ${path} answered ${response.statusCode}`)
}

/** Tells the caller that this hop ran dry. */
function mark(reply: unknown, run: Run): void {
  if (reply instanceof http.ServerResponse && !reply.headersSent) reply.setHeader(HEADER_FLAG, versionedFlag(run.id))
}

function refuse(reply: unknown, error: unknown): void {
  const code = error instanceof DryTraceError ? error.code : 'DRY_GUARD_FAILED'
  const details = error instanceof DryTraceError ? error.details : {}
  const status = code === 'DRY_FLAG_REFUSED' ? 403 : 503
  const body = JSON.stringify({ error: { code, message: messageOf(error), ...details } })
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    [HEADER_FLAG]: 'refused',
  }
  if (reply instanceof http.ServerResponse) {
    reply.writeHead(status, headers).end(body)
    return
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const head = [`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`, ...lines, 'connection: close', '', ''].join('\r\n')
  ;(reply as Socket).end(head + body)
}

function peerOf(request: http.IncomingMessage): Peer {
  const address = request.socket.remoteAddress
  const proxied = PROXY_HEADERS.some((name) => request.headers[name] !== undefined)
  // A Unix domain socket has no address and cannot be reached from outside.
  const local = address === undefined || /^(::ffff:)?127\.|^::1$/.test(address)
  return {
    loopback: local && !proxied,
    name: proxied ? `${address ?? 'a local socket'} through a proxy` : (address ?? 'a local socket'),
  }
}

interface Found {
  baggage?: string[]
  tracestate?: string[]
  header?: string[]
}

/** One pass over the raw headers; for a request without the flag no object is made. */
function findCarriers(raw: readonly string[]): Found | undefined {
  let found: Found | undefined
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
