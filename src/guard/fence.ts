import dgram from 'node:dgram'
import net from 'node:net'
import { DryTraceError } from '../errors.js'
import { ATTR_SERVER_ADDRESS, ATTR_SERVER_PORT } from '../semconv.js'
import type { Barrier } from './barrier.js'
import type { Effect } from './effect.js'
import type { Guard, Hook } from './guard.js'
import { type OpenConnections, trackConnections } from './open-connections.js'
import { isOtlpEndpoint } from './otlp-endpoints.js'

const HOOK: Hook = { name: 'fence', version: null }

interface Endpoint {
  readonly host: string
  readonly port: number | undefined
}

/**
 * The last line: in a dry run, egress that no permit covers is refused before
 * a name is looked up. It is what catches bundled code and unknown clients.
 * A connection that an unknown client opened earlier closes the gate; a write
 * over one that opened while a run was already going on is refused with it.
 *
 * @param packages packages an integration answers for
 */
export function armFence(guard: Guard, barrier: Barrier, packages: readonly string[]): void {
  const connections = trackConnections(packages)
  barrier.watch(() =>
    connections
      .list()
      .filter(({ host, port }) => !isOtlpEndpoint(host, port) && !guard.allowsEgress(host, port))
      .map(
        ({ openedBy, ...endpoint }) =>
          `open connection to ${name(endpoint)} by ${openedBy}, which no integration knows: ` +
          `close it, or allow it by a policy rule {system: net, host: "${name(endpoint)}"}`,
      ),
  )
  fenceSockets(guard, connections)
  fenceWrites(guard, connections)
  fenceDatagrams(guard)
}

function fenceSockets(guard: Guard, connections: OpenConnections): void {
  const original = net.Socket.prototype.connect
  function connect(this: net.Socket, ...args: unknown[]): net.Socket {
    const run = guard.run()
    if (run === undefined) {
      connections.opened(this, endpointOf(args))
      return Reflect.apply(original, this, args)
    }
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

interface Writable {
  _writeGeneric(writev: boolean, data: unknown, encoding: string, callback: (error?: Error | null) => void): unknown
}

/** Every write of a socket that is not taken over natively comes through here. */
function fenceWrites(guard: Guard, connections: OpenConnections): void {
  const prototype = net.Socket.prototype as unknown as Writable
  const original = prototype._writeGeneric
  prototype._writeGeneric = function (this: net.Socket, writev, data, encoding, callback) {
    const connection = connections.unknown(this)
    const run = connection === undefined ? undefined : guard.run()
    if (connection === undefined || run === undefined || guard.permitted()) {
      return Reflect.apply(original, this, [writev, data, encoding, callback])
    }
    const { host, port } = connection
    if (isOtlpEndpoint(host, port) || guard.allowsEgress(host, port)) {
      return Reflect.apply(original, this, [writev, data, encoding, callback])
    }
    const decision = guard.decide(run, HOOK, () => classify('write to', connection))
    // Dropping the bytes alone would leave the client waiting for an answer that belongs to somebody
    // else's next command: the connection goes down with the write.
    callback(refuse(guard, decision, connection))
    return undefined
  }
}

function fenceDatagrams(guard: Guard): void {
  const original = dgram.Socket.prototype.send as (...args: unknown[]) => unknown
  function send(this: dgram.Socket, ...args: unknown[]): unknown {
    const run = guard.run()
    if (run === undefined || guard.permitted()) return Reflect.apply(original, this, args)
    const endpoint = datagramEndpoint(this, args)
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

/** `send(message, [offset, length,] [port, [address]])`; a connected socket is given neither port nor address. */
function datagramEndpoint(socket: dgram.Socket, args: readonly unknown[]): Endpoint {
  const isNumber = (value: unknown) => typeof value === 'number' || typeof value === 'string'
  const [port, host] =
    isNumber(args[1]) && isNumber(args[2]) && !Number.isNaN(Number(args[2])) ? args.slice(3) : args.slice(1)
  if (isNumber(port)) return { host: typeof host === 'string' ? host : 'localhost', port: Number(port) }
  try {
    const { address, port: connected } = socket.remoteAddress()
    return { host: address, port: connected }
  } catch {
    return { host: 'localhost', port: undefined }
  }
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
