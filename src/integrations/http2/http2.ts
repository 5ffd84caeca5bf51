import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2'
import { promisify } from 'node:util'
import { type Http2, whenHttp2Loads } from '../../carriers/http2-module.js'
import { carryFlag } from '../../carriers/outgoing.js'
import type { Guard, Hook } from '../../guard/guard.js'
import { carriesRequests } from '../../guard/open-connections.js'
import { shared } from '../../run/store.js'
import { classifyHttp, type HttpCall, suspicion } from '../http/http-effect.js'
import { plannedRead } from '../http/resources/overlaid-read.js'
import { answerBlocked, isRefusedByPolicy, refusal } from '../http/responder.js'
import { isTelemetryExport } from '../http/telemetry-export.js'
import type { Integration } from '../integration.js'
import { sendHeld } from './held-request.js'
import { callOf, copyHeaders, headerOf, ownValue, type RequestHeaders } from './http2-call.js'
import { tapStream } from './model-call.js'
import { pairedDuplexes } from './paired-duplex.js'
import { connectInRun } from './session.js'
import { type Originals, simulateRequest } from './simulated-request.js'

const HOOK: Hook = { name: 'http2', version: process.versions.node }
const PATCHED = Symbol.for('drytrace.http2.patched')

/** Clients that are met at their own calls; their sessions are plumbing, shared by live and dry calls alike. */
const MET_ABOVE = /node:internal\/deps\/undici|[\\/]node_modules[\\/](?:undici|@grpc[\\/]grpc-js)[\\/]/

type Request = (this: ClientHttp2Session, ...args: unknown[]) => ClientHttp2Stream

/** `node:http2`: every request of every client session, whenever and by whomever the session was opened. */
export const http2Integration: Integration<HttpCall> = {
  name: 'http2',
  system: 'http',
  versions: '*',
  targets: [{ file: 'node:http2', patch: (_, guard) => armHttp2(guard) }],
  classify: classifyHttp,
  simulate: () => ({ status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }),
  docs: '`http2.connect` and every request of its sessions, also those that live traffic opened.',
}

function armHttp2(guard: Guard): void {
  whenHttp2Loads((http2, early) => {
    const { connect, performServerHandshake } = http2
    const metAbove = new WeakSet<ClientHttp2Session>()
    const meet = (session: ClientHttp2Session): void => {
      const prototype = Object.getPrototypeOf(session) as { request: Request; [PATCHED]?: true }
      if (prototype[PATCHED] === true) return
      Object.defineProperty(prototype, PATCHED, { value: true })
      patchRequest(guard, prototype, metAbove, { connect, performServerHandshake })
    }
    wrapConnect(guard, http2, connect, (session) => {
      if (MET_ABOVE.test(stackOf())) metAbove.add(session)
      const socket = ownValue(session, 'socket')
      if (typeof socket === 'object' && socket !== null) carriesRequests(socket)
      meet(session)
    })
    // The class is not exported. Sessions of a `connect` that somebody kept from before us are met all the same.
    const meetClass = () => {
      guard.root(() => meetAnyway({ connect, performServerHandshake }, meet))
      shared.startListeners.delete(meetClass)
    }
    if (early) shared.startListeners.add(meetClass)
    else meetClass()
  })
}

function meetAnyway(
  { connect, performServerHandshake }: Pick<Originals, 'connect' | 'performServerHandshake'>,
  meet: (session: ClientHttp2Session) => void,
): void {
  const [near, far] = pairedDuplexes()
  const peer = performServerHandshake(far)
  const session = connect('http://localhost', { createConnection: () => near })
  for (const end of [near, far, peer, session]) (end as ClientHttp2Session).on('error', () => {})
  meet(session)
  session.destroy()
  peer.destroy()
}

function wrapConnect(
  guard: Guard,
  http2: Http2,
  original: Http2['connect'],
  opened: (session: ClientHttp2Session) => void,
): void {
  const wrapped = function (this: unknown, ...args: unknown[]): ClientHttp2Session {
    const run = guard.run()
    const open = (given: unknown[]) =>
      Reflect.apply(original as (...args: unknown[]) => ClientHttp2Session, this, given)
    const session = run === undefined ? open(args) : connectInRun(guard, run, MET_ABOVE.test(stackOf()), args, open)
    opened(session)
    return session
  }
  // Node's own promisifier closes over the function we have wrapped.
  const custom = {
    ...Object.getOwnPropertyDescriptor(original, promisify.custom),
    value: (authority: unknown, options: unknown) =>
      new Promise((resolve, reject) => {
        const session = wrapped(authority, options, () => {
          session.removeListener('error', reject)
          resolve(session)
        })
        session.once('error', reject)
      }),
  }
  Object.defineProperties(wrapped, { ...Object.getOwnPropertyDescriptors(original), [promisify.custom]: custom })
  ;(http2 as { connect: unknown }).connect = wrapped
}

function patchRequest(
  guard: Guard,
  prototype: { request: Request },
  metAbove: WeakSet<ClientHttp2Session>,
  functions: Pick<Originals, 'connect' | 'performServerHandshake'>,
): void {
  const original = prototype.request
  const originals: Originals = { ...functions, request: original }
  const request: Request = function (...args) {
    const run = guard.run()
    if (run === undefined) return Reflect.apply(original, this, args)
    // A client may send what another caller has queued: its streams belong to no caller, it binds what it hands out.
    if (metAbove.has(this)) return guard.root(() => Reflect.apply(original, this, args))
    // Node's own errors.
    if (this.destroyed || this.closed) return Reflect.apply(original, this, args)
    const call = callOf(this, args[0] as RequestHeaders)
    if (isTelemetryExport(call)) return Reflect.apply(original, this, args)
    const connect = call.method === 'CONNECT' && !call.upgrade
    if (connect && guard.permitted()) return Reflect.apply(original, this, args)
    const decision = guard.decide(run, HOOK, () => classifyHttp(call))
    const refuse = (error: Error) => simulateRequest(originals, this, args, { error })
    const site = { ...call, headers: withHost(call, args[0] as RequestHeaders) }
    let overlaid = false
    try {
      overlaid = decision.verdict === 'allow' && plannedRead(guard, decision, site) !== undefined
    } catch (error) {
      return refuse(error as Error)
    }
    if (decision.verdict === 'allow' && !overlaid) {
      const note = decision.rule === 'default.read' ? suspicion(call, guard) : undefined
      try {
        guard.record(decision, note === undefined ? {} : { note })
      } catch (error) {
        return refuse(error as Error)
      }
      const { headers, bag } = copyHeaders(args[0] as RequestHeaders)
      carryFlag(bag, decision.run, guard.forwards(call.host))
      const stream = Reflect.apply(original, this, [headers, ...args.slice(1)])
      tapStream(guard, decision, stream, call)
      return stream
    }
    if (connect || (decision.error !== undefined && !isRefusedByPolicy(decision))) {
      return refuse(refusal(guard, decision))
    }
    const send = sendHeld(guard, original, this, call)
    return simulateRequest(
      originals,
      this,
      args,
      answerBlocked(guard, call, () => decision, send),
    )
  }
  Object.defineProperties(request, Object.getOwnPropertyDescriptors(original))
  prototype.request = request
}

/** By which name the site is asked, as it stands in the request once that is whole. */
function withHost({ headers }: HttpCall, given: RequestHeaders): Record<string, string> {
  const host = headerOf(given, ':authority')
  return { ...headers, ...(host === undefined ? {} : { host }) }
}

function stackOf(): string {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 12
  const { stack = '' } = new Error()
  Error.stackTraceLimit = limit
  return stack
}
