import { createHash } from 'node:crypto'
import type { Effect } from '../../guard/effect.js'
import { ATTR_RPC_METHOD, ATTR_RPC_SYSTEM, ATTR_SERVER_ADDRESS, ATTR_SERVER_PORT } from '../../semconv.js'

/** Which sides of a call are streams. */
export type CallKind = 'unary' | 'client-stream' | 'server-stream' | 'bidi'

/** A method as the client's service definition describes it; `options` only from `@grpc/proto-loader`. */
export interface MethodDefinition {
  readonly path: string
  readonly requestDeserialize?: (bytes: Buffer) => unknown
  readonly responseSerialize?: (message: unknown) => Buffer
  readonly options?: { readonly idempotency_level?: unknown }
}

/** One outgoing call. */
export interface GrpcCall {
  /** `/package.Service/Method`. */
  readonly path: string
  /** The channel's target: `dns:host:port`, `unix:/path`, … */
  readonly target: string
  readonly kind: CallKind
  readonly definition: MethodDefinition | undefined
}

/** Services that only look, or only take telemetry. */
const INFRASTRUCTURE =
  /^\/(?:grpc\.health\.v1\.Health|grpc\.reflection\.v1(?:alpha)?\.ServerReflection|grpc\.channelz\.v1\.Channelz|opentelemetry\.proto\.collector\.[\w.]+)\//

/** A method's name says nothing reliable (`SearchAndPurge`): only what its author has declared counts. */
export function classifyGrpc({ path, target, definition }: GrpcCall): Effect {
  const { host, port } = endpointOf(target)
  const level = definition?.options?.idempotency_level
  const read = INFRASTRUCTURE.test(path) || level === 'NO_SIDE_EFFECTS' || level === 1
  const where = `${port === undefined ? host : `${host}:${port}`}${path}`
  return {
    system: 'grpc',
    kind: read ? 'read' : 'write',
    ...(read ? {} : { action: 'execute' }),
    target: where,
    summary: `rpc ${where}`,
    fingerprint: createHash('sha256').update(`grpc ${where}`).digest('hex').slice(0, 16),
    match: { host, port: port === undefined ? undefined : String(port), method: 'POST', path },
    attributes: {
      [ATTR_RPC_SYSTEM]: 'grpc',
      [ATTR_RPC_METHOD]: path.slice(1),
      [ATTR_SERVER_ADDRESS]: host,
      ...(port === undefined ? {} : { [ATTR_SERVER_PORT]: port }),
    },
  }
}

/** Host and port of a target in gRPC's naming syntax: `[scheme:[//authority/]]endpoint`. */
export function endpointOf(target: string): { readonly host: string; readonly port: number | undefined } {
  const endpoint = /^(?:[a-z0-9+.-]+:(?=[^\d]|\d+\.|\[)(?:\/\/[^/]*\/)?)?(.+)$/i.exec(target)?.[1] ?? target
  const [, ipv6, name, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(endpoint) ?? []
  const host = ipv6 ?? name
  return host === undefined
    ? { host: endpoint, port: undefined }
    : { host, port: port === undefined ? undefined : Number(port) }
}
