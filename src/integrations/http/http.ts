import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import type { ClientRequest } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { carryFlag, type HeaderBag } from '../../carriers/outgoing.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Integration } from '../integration.js'
import { type AgentOptions, injectView, type RequestInternals } from './agent-view.js'
import { heldHeaders, relay } from './held-request.js'
import { classifyHttp, type HttpCall, suspicion } from './http-effect.js'
import { tapRequest } from './model-call.js'
import { decisionOn, recheckHead } from './recheck.js'
import { plannedRead, tellUnanswered } from './resources/overlaid-read.js'
import { answerBlocked, goesOut, isRefusedByPolicy, refusal, unrecorded } from './responder.js'
import type { SendHeld } from './send-held.js'
import { SimulatedSocket, SimulatedTlsSocket } from './simulated-socket.js'
import { isTelemetryExport } from './telemetry-export.js'

// Not imported: an `import` of node:http reads all of its exports, and so loads Node's undici.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')

const HOOK: Hook = { name: 'http', version: process.versions.node }

interface AgentPrototype {
  addRequest(request: RequestInternals, options: AgentOptions | string, port?: unknown, localAddress?: unknown): void
  createSocket(request: RequestInternals, options: object, callback: unknown): void
}

/** `node:http` and `node:https`, whoever calls them and with whatever agent. */
export const httpIntegration: Integration<HttpCall> = {
  name: 'http',
  system: 'http',
  versions: '*',
  targets: [{ file: 'node:http', patch: (_, guard) => armHttp(guard) }],
  classify: classifyHttp,
  simulate: () => ({ status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }),
  docs: '`http.request`, `http.get`, `https.*` and every client on top of them, with every kind of agent.',
}

function armHttp(guard: Guard): void {
  const decided = new WeakMap<object, Decision | 'exempt'>()
  const route = (request: RequestInternals, options: AgentOptions, proceed: () => void): void => {
    const run = guard.run()
    if (run === undefined) return proceed()
    const call = callOf(request, options)
    if (isTelemetryExport(call)) {
      decided.set(request, 'exempt')
      return guard.permit('telemetry export', proceed)
    }
    if (call.method === 'CONNECT' && guard.permitted()) return proceed()
    const decision = guard.decide(run, HOOK, () => classifyHttp(call))
    decided.set(request, decision)
    if (decision.verdict === 'allow') {
      let overlaid: boolean
      try {
        overlaid = plannedRead(guard, decision, call) !== undefined
      } catch (error) {
        return request.onSocket(null, error as Error)
      }
      if (!overlaid) return allow(guard, decision, request, call, proceed, () => callOf(request, options))
    }
    if (call.method === 'CONNECT' || (decision.error !== undefined && !isRefusedByPolicy(decision)))
      return request.onSocket(null, refusal(guard, decision))
    simulate(guard, decision, request, call, options, holdOn(request, options, call))
  }

  // Before ours and nobody else's: a held request is sent once, and its caller's instrumentation has its span already.
  const { ClientRequest } = http
  const holdOn = (held: RequestInternals, options: AgentOptions, call: HttpCall): SendHeld => {
    const caller = AsyncLocalStorage.snapshot()
    return (decision, exchange, signal) =>
      caller(() => {
        const { auth: _, signal: __, timeout: ___, ...same } = options
        const { method, path } = exchange
        const copy = { ...same, method, path, headers: heldHeaders(exchange), setHost: false, agent: held.agent }
        const args = injectView(
          [copy],
          () => http.globalAgent as never,
          (request, _options, proceed) => {
            decided.set(request, decision)
            allow(guard, decision, request, { ...call, method }, proceed)
          },
        )
        return relay(Reflect.construct(ClientRequest, args) as ClientRequest, exchange, signal)
      })
  }

  for (const [module, agent] of [
    [http, () => http.globalAgent],
    [https, () => https.globalAgent],
  ] as const) {
    for (const name of ['request', 'get'] as const) wrapFunction(module, name, guard, agent as never, route)
  }
  wrapConstructor(guard, route)
  wrapAgent(guard, decided, route)
  failUnseen(guard, decided)
  syncBuiltinESMExports()
}

/** @param callNow what the request is by now; absent where nobody else holds it */
function allow(
  guard: Guard,
  decision: Decision,
  request: RequestInternals,
  call: HttpCall,
  proceed: () => void,
  callNow?: () => HttpCall,
): void {
  const note = decision.rule === 'default.read' ? suspicion(call, guard) : undefined
  try {
    guard.record(decision, note === undefined ? {} : { note })
  } catch (error) {
    return request.onSocket(null, error as Error)
  }
  carryFlag(headersOf(request), decision.run, guard.forwards(call.host))
  if (callNow !== undefined) recheckHead(guard, decision, request, callNow)
  tapRequest(guard, decision, request, call)
  const caller = AsyncLocalStorage.snapshot()
  guard.permit('http', (permit) => {
    // The connection may outlive this request; what the caller sees runs in the caller's context again.
    const { onSocket } = request
    request.onSocket = (...args) => {
      request.onSocket = onSocket
      permit.open = false
      return caller(() => Reflect.apply(onSocket, request, args))
    }
    proceed()
  })
}

function simulate(
  guard: Guard,
  decision: Decision,
  request: RequestInternals,
  call: HttpCall,
  options: AgentOptions,
  send: SendHeld,
): void {
  const { respond, closed } = answerBlocked(
    guard,
    call,
    (exchange) => decisionOn(guard, decision, call, exchange),
    send,
  )
  const endpoint = { host: call.host, ...(options.servername ? { servername: options.servername } : {}) }
  const socket = call.protocol === 'https:' ? new SimulatedTlsSocket(endpoint, respond) : new SimulatedSocket(respond)
  socket.once('close', closed)
  // An agent would pool it; this one ends with its request.
  socket.once('free', () => socket.destroy())
  // What the agent or net.connect would have done.
  const timeout = request.timeout ?? (request.agent as { options?: { timeout?: number } } | undefined)?.options?.timeout
  if (timeout !== undefined) socket.setTimeout(timeout)
  request.onSocket(socket)
}

type AnyFunction = (...args: unknown[]) => unknown

function wrapFunction(
  module: typeof http | typeof https,
  name: 'request' | 'get',
  guard: Guard,
  agent: Parameters<typeof injectView>[1],
  route: Parameters<typeof injectView>[2],
): void {
  const original = module[name] as AnyFunction
  const wrapped: AnyFunction = function (this: unknown, ...args) {
    return Reflect.apply(original, this, guard.run() === undefined ? args : injectView(args, agent, route))
  }
  // Names, lengths and custom promisifiers are part of a function's public face.
  Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original))
  ;(module as Record<string, unknown>)[name] = wrapped
}

function wrapConstructor(guard: Guard, route: Parameters<typeof injectView>[2]): void {
  const view = (args: unknown[]) =>
    guard.run() === undefined ? args : injectView(args, () => http.globalAgent as never, route)
  const Original = http.ClientRequest
  ;(http as { ClientRequest: unknown }).ClientRequest = new Proxy(Original, {
    construct: (target, args, newTarget) => Reflect.construct(target, view(args), newTarget) as object,
    apply: (target, self, args) => Reflect.apply(target as never, self, view(args)),
  })
}

/** Second layer: an `http.request` captured before us still ends in `Agent.prototype.addRequest`. */
function wrapAgent(
  guard: Guard,
  decided: WeakMap<object, Decision | 'exempt'>,
  route: Parameters<typeof injectView>[2],
): void {
  const prototype = http.Agent.prototype as unknown as AgentPrototype
  const { addRequest, createSocket } = prototype
  prototype.addRequest = function (request, options, port, localAddress) {
    if (guard.run() === undefined || decided.has(request)) {
      return Reflect.apply(addRequest, this, [request, options, port, localAddress])
    }
    // The legacy signature: host, port and local address as arguments.
    const full = typeof options === 'string' || !options ? { host: options, port, localAddress } : options
    route(request, full as AgentOptions, () => Reflect.apply(addRequest, this, [request, full]))
  }
  // A request that waited for a free socket is connected from the context of whoever freed it.
  prototype.createSocket = function (request, options, callback) {
    const decision = decided.get(request)
    const create = () => Reflect.apply(createSocket, this, [request, options, callback])
    if (decision === undefined) return create()
    return decision === 'exempt' || goesOut(decision) ? guard.permit('http', create) : create()
  }
}

/** Calls that met no wrapper (a captured function with an agent of its own) are published before a byte is flushed; they can only be failed. */
function failUnseen(guard: Guard, decided: WeakMap<object, Decision | 'exempt'>): void {
  subscribe('http.client.request.created', (message) => {
    const run = guard.run()
    const { request } = message as { request: RequestInternals }
    if (run === undefined || decided.has(request)) return
    const call = callOf(request, {})
    if (isTelemetryExport(call)) return
    const decision = guard.decide(run, HOOK, () => classifyHttp(call))
    decided.set(request, decision)
    // What a subscriber throws would end the process, and the request would go out all the same.
    const error =
      decision.verdict === 'allow'
        ? (unrecorded(guard, decision) ?? tellUnanswered(guard, decision, call))
        : refusal(guard, decision)
    if (error !== undefined) request.destroy(error)
    else recheckHead(guard, decision, request, () => callOf(request, {}))
  })
}

function callOf(request: RequestInternals, options: AgentOptions): HttpCall {
  const protocol = request.protocol === 'https:' ? 'https:' : 'http:'
  const host = options.socketPath ?? request.host
  const headers = headersSoFar(request)
  return {
    protocol,
    host,
    port: Number(options.port) || (protocol === 'https:' ? 443 : 80),
    method: request.method,
    path: pathOf(request.path, host),
    // Headers given as an array are already serialised: getHeader does not see them.
    upgrade: headers['upgrade'] !== undefined,
    headers,
    headersFinal: Boolean(request._header),
  }
}

/** A proxy agent makes the path an absolute URL before the request goes out. */
function pathOf(path: string, host: string): string {
  const url = /^https?:\/\//i.test(path) ? URL.parse(path) : null
  return url?.hostname === host ? `${url.pathname}${url.search}` : path
}

/** Headers given as an array are already serialised: getHeaders does not see them. */
function headersSoFar(request: RequestInternals): Record<string, string> {
  if (request._header) {
    const lines = request._header.split('\r\n').slice(1)
    return Object.fromEntries(
      lines.flatMap((line) => {
        const at = line.indexOf(':')
        return at < 0 ? [] : [[line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]]
      }),
    )
  }
  const given = Object.entries(request.getHeaders())
  return Object.fromEntries(given.map(([name, value]) => [name.toLowerCase(), String(value)]))
}

/** Headers of a request that is not flushed yet; those given as an array are out of reach and hold no carriers of ours. */
function headersOf(request: RequestInternals): HeaderBag {
  const fixed = () => request.headersSent || Boolean(request._header)
  return {
    get: (name) => request.getHeader(name)?.toString(),
    set: (name, value) => {
      if (!fixed()) request.setHeader(name, value)
    },
    remove: (name) => {
      if (!fixed()) request.removeHeader(name)
    },
  }
}
