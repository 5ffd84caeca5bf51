import type { Socket } from 'node:net'
import { PACKAGE_FILES } from '../package/own-file.js'

/** Node's own HTTP client, its undici, and agents that only carry HTTP: what they send is decided at the request. */
const HTTP_STACK =
  /node:_http_(agent|client)|node:internal\/http2|node:internal\/deps\/undici|[\\/]node_modules[\\/](agent-base|https?-proxy-agent|socks-proxy-agent|pac-proxy-agent|proxy-agent|tunnel|tunnel-agent|hpagent|agentkeepalive)[\\/]/

/** An outgoing connection that no integration answers for. */
export interface UnknownConnection {
  readonly host: string
  readonly port: number | undefined
  /** The package or file that opened it, as far as the stack tells. */
  readonly openedBy: string
}

export interface OpenConnections {
  /** Called for every outgoing connection; the stack of the call tells who opens it. */
  opened(socket: Socket, endpoint: { readonly host: string; readonly port: number | undefined }): void
  /** The unknown connection a socket is, if it is one and still open. */
  unknown(socket: Socket): UnknownConnection | undefined
  list(): UnknownConnection[]
}

/** Sockets kept before the closed ones are swept out. */
const SWEEP_AT = 256

/**
 * The fence refuses connections made in a dry run, but a client that connected
 * before is past it: a write over its warm socket would leave. So connections
 * of unknown clients are remembered, and as long as one is open dry runs are
 * refused.
 *
 * @param packages packages an integration answers for
 */
export function trackConnections(packages: readonly string[]): OpenConnections {
  const known = new RegExp(`[\\\\/](?:${packages.map((name) => name.replace('/', '[\\\\/]')).join('|')})[\\\\/]`)
  const sockets = new Map<Socket, UnknownConnection>()
  let sweepAt = SWEEP_AT

  function sweep(): void {
    for (const socket of sockets.keys()) if (socket.destroyed) sockets.delete(socket)
    sweepAt = Math.max(SWEEP_AT, sockets.size * 2)
  }

  return {
    opened(socket, endpoint) {
      const stack = stackOf()
      if (HTTP_STACK.test(stack) || known.test(stack)) return
      sockets.set(socket, { ...endpoint, openedBy: openerOf(stack) })
      if (sockets.size > sweepAt) sweep()
    },
    unknown: (socket) => (socket.destroyed ? undefined : sockets.get(socket)),
    list() {
      sweep()
      return [...sockets].filter(([socket]) => !carriesHttp(socket)).map(([, connection]) => connection)
    },
  }
}

/** Empty where the application has a way with stacks of its own: the connection counts as unknown then, and lives. */
function stackOf(): string {
  const limit = Error.stackTraceLimit
  try {
    Error.stackTraceLimit = 24
    const { stack } = new Error() as { stack?: unknown }
    return typeof stack === 'string' ? stack : ''
  } catch {
    return ''
  } finally {
    Reflect.set(Error, 'stackTraceLimit', limit)
  }
}

/** The first frame that is neither Node's nor ours. */
function openerOf(stack: string): string {
  const frame = stack
    .split('\n')
    .slice(1)
    .map((line) =>
      /(?:\(|at (?:async )?)((?:file:\/\/)?[^()]*?):\d+:\d+\)?$/.exec(line)?.[1]?.replace(/^file:\/\//, ''),
    )
    .find((file) => file !== undefined && !file.startsWith('node:') && !file.startsWith(PACKAGE_FILES))
  if (frame === undefined) return 'code without a stack'
  return /.*node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(frame)?.[1] ?? frame
}

/** A connection made by hand and then given to `node:http` or `node:http2` is HTTP all the same. */
function carriesHttp(socket: Socket): boolean {
  return '_httpMessage' in socket || inSession.has(socket)
}

const inSession = new WeakSet<object>()

/** The socket belongs to an HTTP/2 session, whose requests are decided one by one. */
export function carriesRequests(socket: object): void {
  inSession.add(socket)
  // TLS over a connection made by hand.
  const { _parent: below } = socket as { _parent?: unknown }
  if (typeof below === 'object' && below !== null) inSession.add(below)
}
