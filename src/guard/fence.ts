import dgram from 'node:dgram'
import net from 'node:net'
import { DryTraceError } from '../errors.js'
import { ATTR_SERVER_ADDRESS, ATTR_SERVER_PORT } from '../semconv.js'
import type { Effect } from './effect.js'
import type { Guard, Hook } from './guard.js'

const HOOK: Hook = { name: 'fence', version: null }

interface Endpoint {
  readonly host: string
  readonly port: number | undefined
}

/**
 * The last line: in a dry run, egress that no permit covers is refused before
 * a name is looked up. It is what catches bundled code and unknown clients.
 * It sees only new connections; that is why the hooks sit at the public calls.
 */
export function armFence(guard: Guard): void {
  fenceSockets(guard)
  fenceDatagrams(guard)
}

function fenceSockets(guard: Guard): void {
  const original = net.Socket.prototype.connect
  function connect(this: net.Socket, ...args: unknown[]): net.Socket {
    const run = guard.run()
    if (run === undefined) return Reflect.apply(original, this, args)
    // A connection outlives the call that opened it: it is born outside every run.
    if (guard.permitted()) return guard.root(() => Reflect.apply(original, this, args))
    const endpoint = endpointOf(args)
    const decision = guard.decide(run, HOOK, () => classify('connect to', endpoint))
    if (decision.verdict === 'allow') {
      guard.record(decision)
      return guard.root(() => Reflect.apply(original, this, args))
    }
    const error = refuse(guard, decision, endpoint)
    // As a real failing connect: asynchronous, through 'error'.
    const socket = this as { connecting: boolean }
    socket.connecting = true
    process.nextTick(() => {
      socket.connecting = false
      this.destroy(error)
    })
    return this
  }
  net.Socket.prototype.connect = connect as typeof original
}

function fenceDatagrams(guard: Guard): void {
  const original = dgram.Socket.prototype.send as (...args: unknown[]) => unknown
  function send(this: dgram.Socket, ...args: unknown[]): unknown {
    const run = guard.run()
    if (run === undefined || guard.permitted()) return Reflect.apply(original, this, args)
    const port = args.find((argument, index) => index > 0 && typeof argument === 'number')
    const host = args.find((argument, index) => index > 0 && typeof argument === 'string')
    const endpoint = { host: String(host ?? 'localhost'), port: port === undefined ? undefined : Number(port) }
    const decision = guard.decide(run, HOOK, () => classify('send a datagram to', endpoint))
    if (decision.verdict === 'allow') {
      guard.record(decision)
      return Reflect.apply(original, this, args)
    }
    const error = refuse(guard, decision, endpoint)
    const callback = args.at(-1)
    if (typeof callback === 'function') process.nextTick(callback as (error: Error) => void, error)
    return undefined
  }
  dgram.Socket.prototype.send = send as typeof dgram.Socket.prototype.send
}

function refuse(guard: Guard, decision: ReturnType<Guard['decide']>, endpoint: Endpoint): Error {
  const where = name(endpoint)
  try {
    guard.record(decision)
  } catch (error) {
    return error as Error
  }
  guard.problem(
    decision.run,
    'gap',
    `raw egress to ${where} was refused: no integration knows this client, so what it would have done is not in the report`,
  )
  const error =
    decision.error ??
    new DryTraceError('DRY_BLOCKED', `dry run: a raw connection to ${where} was refused`, { details: { where } })
  return Object.assign(error, { syscall: 'connect', address: endpoint.host, port: endpoint.port })
}

function classify(verb: string, endpoint: Endpoint): Effect {
  const where = name(endpoint)
  return {
    system: 'net',
    kind: 'unknown',
    action: 'execute',
    target: where,
    summary: `${verb} ${where}`,
    fingerprint: `net:${where}`,
    match: { host: endpoint.host, port: endpoint.port === undefined ? undefined : String(endpoint.port) },
    attributes: {
      [ATTR_SERVER_ADDRESS]: endpoint.host,
      ...(endpoint.port === undefined ? {} : { [ATTR_SERVER_PORT]: endpoint.port }),
    },
  }
}

function name({ host, port }: Endpoint): string {
  return port === undefined ? host : `${host}:${port}`
}

/** `net.connect` hands its already normalised `[options, callback]` on as one array. */
function endpointOf(args: readonly unknown[]): Endpoint {
  const first = Array.isArray(args[0]) ? (args[0] as unknown[])[0] : args[0]
  if (typeof first === 'object' && first !== null) {
    const { path, host, port } = first as { path?: string; host?: string; port?: number | string }
    return path ? { host: path, port: undefined } : { host: host || 'localhost', port: Number(port) }
  }
  if (typeof first === 'string' && Number.isNaN(Number(first))) return { host: first, port: undefined }
  return { host: typeof args[1] === 'string' ? args[1] : 'localhost', port: Number(first) }
}
