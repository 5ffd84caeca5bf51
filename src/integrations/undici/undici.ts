import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import { carryFlag, withoutInjection } from '../../carriers/outgoing.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import { annotateLibrarySpan, expectLibrarySpan } from '../../guard/library-span.js'
import { shared } from '../../run/store.js'
import { heldBody, heldHeaders } from '../http/held-request.js'
import { classifyHttp, type HttpCall, suspicion } from '../http/http-effect.js'
import { plannedRead, tellUnanswered } from '../http/resources/overlaid-read.js'
import { answerBlocked, goesOut, isRefusedByPolicy, refusal, unrecorded } from '../http/responder.js'
import type { SendHeld } from '../http/send-held.js'
import { SimulatedSocket, SimulatedTlsSocket } from '../http/simulated-socket.js'
import { isTelemetryExport } from '../http/telemetry-export.js'
import type { Integration } from '../integration.js'
import {
  type DispatchOptions,
  type Handler,
  headerBag,
  headersOf,
  inCallersContext,
  tapModelCall,
  withQueryInPath,
} from './dispatch.js'
import { collectAnswer } from './held-dispatch.js'

/** The class every copy of undici exports; all of its clients share one base prototype. */
type AgentClass = new (options: object) => Dispatcher

interface Dispatcher {
  dispatch(options: DispatchOptions, handler: Handler): boolean
  close(): Promise<void>
  on(event: string, listener: () => void): void
  readonly destroyed?: boolean
  readonly closed?: boolean
}

/** Carries the decision on our own copy of the options, through Agent -> Pool -> Client and through spreads. */
const DECISION = Symbol('drytrace.decision')
const PATCHED = Symbol.for('drytrace.undici.patched')
const GLOBAL_DISPATCHERS = [Symbol.for('undici.globalDispatcher.2'), Symbol.for('undici.globalDispatcher.1')]
const ignore = () => {}

/**
 * `fetch`, `request`, `stream`, `pipeline`, every client, pool and proxy
 * agent, `WebSocket` and `EventSource` of one copy of undici end in
 * `DispatcherBase.prototype.dispatch` of that copy.
 */
export const undiciIntegration: Integration<HttpCall> = {
  name: 'undici',
  system: 'http',
  versions: '>=6 <9',
  targets: [
    { file: 'node:undici', patch: (_, guard) => armBuiltin(guard) },
    {
      file: 'undici/lib/dispatcher/agent.js',
      patch: (exports, guard, copy) =>
        patchCopy(exports as AgentClass, guard, { name: 'undici', version: copy.version }),
    },
  ],
  classify: classifyHttp,
  simulate: () => ({ status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }),
  docs: 'Global `fetch`, `WebSocket`, `EventSource`, and every API of the npm package, versions 6 to 8.',
}

/**
 * Node's own copy is loaded lazily, and the first copy loaded owns the global
 * dispatcher. Loading it at preload would decide that for the application, so
 * it is patched when the first dry run shows up. A run that shows up in no
 * other way than by its baggage does so in the first request: the channel is
 * there from the start to fail that one.
 */
function armBuiltin(guard: Guard): void {
  failUnseen(guard)
  let armed = false
  shared.startListeners.add(() => {
    if (armed) return
    armed = true
    void globalThis.Response // loads the built-in copy, if nobody has yet
    for (const key of GLOBAL_DISPATCHERS) {
      const dispatcher = (globalThis as Record<symbol, unknown>)[key] as object | undefined
      if (dispatcher === undefined || isWrapper(dispatcher)) continue
      try {
        patchCopy(dispatcher.constructor as AgentClass, guard, {
          name: 'undici',
          version: process.versions['undici'] ?? null,
        })
      } catch {
        // A dispatcher of the application's own making: what it sends on is failed through the channel.
      }
    }
  })
}

/**
 * A class with a `dispatch` of its own (a proxy agent, what undici 8 lends to
 * an older copy) hands every request on to an agent, which is met as such.
 */
function isWrapper(dispatcher: object): boolean {
  return Object.hasOwn(dispatcher.constructor.prototype as object, 'dispatch')
}

/** `Agent.prototype` -> `DispatcherBase.prototype`, the first that owns `dispatch`. */
function patchCopy(Agent: AgentClass, guard: Guard, hook: Hook): void {
  let base = Agent.prototype as (Dispatcher & { [PATCHED]?: true }) | null
  while (base !== null && !Object.hasOwn(base, 'dispatch')) base = Object.getPrototypeOf(base)
  if (base === null) throw new Error('undici: no dispatch on the prototype chain of Agent')
  if (base[PATCHED] === true) return
  const original = base.dispatch
  Object.defineProperty(base, PATCHED, { value: true })
  Object.defineProperty(base, 'dispatch', {
    configurable: true,
    writable: true,
    enumerable: false,
    value: function dispatch(this: Dispatcher, options: DispatchOptions, handler: Handler) {
      if (guard.run() === undefined) return Reflect.apply(original, this, [options, handler])
      const proceed = (to: DispatchOptions, as: Handler = handler) => Reflect.apply(original, this, [to, as]) as boolean
      return dryDispatch({ guard, hook, Agent, dispatcher: this, options, handler, proceed })
    },
  })
}

interface Dispatch {
  readonly guard: Guard
  readonly hook: Hook
  readonly Agent: AgentClass
  readonly dispatcher: Dispatcher
  readonly options: DispatchOptions
  readonly handler: Handler
  readonly proceed: (options: DispatchOptions, handler?: Handler) => boolean
}

type Stamp = Decision | 'exempt'
type StampedOptions = DispatchOptions & { [DECISION]?: Stamp }

let inside = 0

function dryDispatch(dispatch: Dispatch): boolean {
  inside += 1
  try {
    return decideDispatch({ ...dispatch, options: withQueryInPath(dispatch.options) })
  } finally {
    inside -= 1
  }
}

function decideDispatch(dispatch: Dispatch): boolean {
  const { guard, hook, dispatcher, options, handler, proceed } = dispatch
  const run = guard.run()
  const stamped = (options as StampedOptions | undefined)?.[DECISION]
  if (stamped !== undefined) {
    return stamped === 'exempt' || goesOut(stamped) ? guard.permit('undici', () => proceed(options)) : proceed(options)
  }
  // Invalid arguments and closed clients get undici's own errors.
  if (run === undefined || !isValid(options, handler) || dispatcher.destroyed || dispatcher.closed)
    return proceed(options)
  const call = callOf(dispatcher, options)
  if (call === undefined) return proceed(options)
  if (isTelemetryExport(call)) {
    return guard.permit('telemetry export', () => proceed(stamp(options, 'exempt')))
  }
  // The CONNECT of a proxy for a call that was allowed.
  if (call.method === 'CONNECT' && guard.permitted()) return proceed(options)
  const decision = guard.decide(run, hook, () => classifyHttp(call))
  try {
    const overlaid = decision.verdict === 'allow' && plannedRead(guard, decision, call) !== undefined
    if (decision.verdict === 'allow' && !overlaid) return allow(dispatch, decision, call)
    if (call.method === 'CONNECT' || (decision.error !== undefined && !isRefusedByPolicy(decision)))
      throw refusal(guard, decision)
    return simulate(dispatch, decision, call)
  } catch (error) {
    queueMicrotask(() => failHandler(handler, error as Error))
    return true
  }
}

function allow({ guard, options, handler, proceed }: Dispatch, decision: Decision, call: HttpCall): boolean {
  const tell = guard.forwards(call.host)
  const note = decision.rule === 'default.read' ? suspicion(call, guard) : undefined
  guard.record(decision, note === undefined ? {} : { note })
  const copy = stamp(options, decision)
  carryFlag(headerBag(copy), decision.run, tell)
  // undici calls handlers from the socket's context, which is that of whoever opened the connection.
  const bound = inCallersContext(handler, decision.run, tapModelCall(guard, decision, call, copy))
  const send = () => guard.permit('undici', () => proceed(copy, bound))
  const { result, span } = expectLibrarySpan('undici', () => (tell ? send() : withoutInjection(send)))
  if (span !== undefined) annotateLibrarySpan(span, decision, decision.verdict === 'forward' ? 'forwarded' : 'allowed')
  return result
}

/** Genuine undici does everything on a throw-away agent of the same copy; only the socket is ours. */
function simulate(dispatch: Dispatch, decision: Decision, call: HttpCall): boolean {
  const { guard, Agent, options, handler } = dispatch
  const secure = call.protocol === 'https:'
  let mine = decision
  const { respond, closed } = answerBlocked(guard, call, () => mine, holdOn(dispatch, call))
  const agent = new Agent({
    pipelining: 1,
    connect(_: unknown, callback: (error: Error | null, socket: unknown) => void) {
      const socket = secure ? new SimulatedTlsSocket({ host: call.host }, respond) : new SimulatedSocket(respond)
      socket.once(secure ? 'secureConnect' : 'connect', () => callback(null, socket))
      socket.once('close', closed)
      socket.once('error', ignore)
    },
  })
  agent.on('connectionError', ignore)
  const copy = stamp(options, decision)
  copy.origin = `${call.protocol}//${authorityOf(call)}`
  try {
    // undici's instrumentation starts its span inside dispatch, after the decision.
    const { result, span } = expectLibrarySpan('undici', () => withoutInjection(() => agent.dispatch(copy, handler)))
    if (span !== undefined) mine = { ...decision, librarySpan: span }
    return result
  } finally {
    agent.close().catch(ignore)
  }
}

/** A held request goes through the caller's own dispatcher, with its proxy, certificates and limits. */
function holdOn(dispatch: Dispatch, call: HttpCall): SendHeld {
  const { options, handler: like } = dispatch
  const caller = AsyncLocalStorage.snapshot()
  return (decision, exchange, signal) => {
    const { handler, answer } = collectAnswer(like, signal)
    const headers = Object.entries(heldHeaders(exchange)).flat()
    const { method, path, body } = exchange
    // The path has the query in it by now.
    const held = {
      ...options,
      method,
      path,
      query: undefined,
      headers,
      body: body.size === 0 ? null : heldBody(exchange),
    }
    inside += 1
    try {
      caller(() => allow({ ...dispatch, options: held, handler }, decision, { ...call, method }))
    } finally {
      inside -= 1
    }
    return answer
  }
}

/** Copies no loader hook saw (bundles) publish here, synchronously, before the request is queued; it can only be failed. */
function failUnseen(guard: Guard): void {
  subscribe('undici:request:create', (message) => {
    const run = guard.run()
    if (run === undefined || inside > 0) return
    const { request } = message as {
      request: { origin: unknown; method: string; path: string; upgrade?: unknown } & Handler
    }
    const call = parseCall(String(request.origin), request)
    if (call === undefined || isTelemetryExport(call)) return
    const decision = guard.decide(run, { name: 'undici', version: null }, () => classifyHttp(call))
    // What a subscriber throws would end the process, and the request would go out all the same.
    const error =
      decision.verdict === 'allow'
        ? (unrecorded(guard, decision) ?? tellUnanswered(guard, decision, call))
        : refusal(guard, decision)
    if (error !== undefined) failRequest(request, error)
  })
}

/** Never on the caller's own object: it may be used again, for another call. */
function stamp(options: DispatchOptions, value: Stamp): DispatchOptions {
  return Object.assign(Object.create(Object.getPrototypeOf(options)), options, { [DECISION]: value })
}

/** undici 8 has `onResponseError`, 6 has `onError`, 7 both. */
function failHandler(handler: Handler, error: Error): void {
  if (typeof handler['onResponseError'] === 'function') handler['onResponseError'](null, error)
  else handler['onError']?.(error)
}

/** The same on a request, which knows its own controller. */
function failRequest(request: Handler, error: Error): void {
  if (typeof request['onResponseError'] === 'function') request['onResponseError'](error)
  else request['onError']?.(error)
}

function isValid(options: unknown, handler: unknown): boolean {
  return typeof options === 'object' && options !== null && typeof handler === 'object' && handler !== null
}

function callOf(dispatcher: Dispatcher, options: DispatchOptions): HttpCall | undefined {
  const origin = options.origin ?? ownOrigin(dispatcher)
  return origin === undefined ? undefined : parseCall(String(origin), withQueryInPath(options))
}

function parseCall(
  origin: string,
  { method, path, upgrade, headers }: Pick<DispatchOptions, 'method' | 'path' | 'upgrade' | 'headers'>,
): HttpCall | undefined {
  const url = URL.parse(origin)
  if (url === null) return undefined
  const secure = url.protocol === 'https:' || url.protocol === 'wss:'
  return {
    protocol: secure ? 'https:' : 'http:',
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port) || (secure ? 443 : 80),
    method: (method ?? 'GET').toUpperCase(),
    path: path ?? '/',
    upgrade: Boolean(upgrade),
    headers: headersOf(headers),
    headersFinal: true,
  }
}

/** A Client or Pool is bound to one origin, kept under a symbol that each copy makes anew. */
function ownOrigin(dispatcher: object): string | undefined {
  for (let object: object | null = dispatcher; object !== null; object = Object.getPrototypeOf(object)) {
    const key = Object.getOwnPropertySymbols(object).find(({ description }) => description === 'url')
    const url = key === undefined ? undefined : (dispatcher as Record<symbol, URL | undefined>)[key]
    if (url?.origin !== undefined) return url.origin
  }
  return undefined
}

function authorityOf({ host, port }: HttpCall): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
