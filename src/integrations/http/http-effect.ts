import { createHash } from 'node:crypto'
import type { Effect } from '../../guard/effect.js'
import type { Action, EffectKind } from '../../journal/record.js'
import { ATTR_HTTP_METHOD, ATTR_SERVER_ADDRESS, ATTR_SERVER_PORT, ATTR_URL_FULL } from '../../semconv.js'

/** One outgoing request, whichever client makes it. */
export interface HttpCall {
  readonly protocol: 'http:' | 'https:'
  readonly host: string
  readonly port: number
  readonly method: string
  /** Path with query. */
  readonly path: string
  /** A protocol upgrade, WebSocket mostly. */
  readonly upgrade: boolean
}

/** Safe by definition (RFC 9110 9.2.1, RFC 4918, QUERY); rules correct what a service makes of it. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY', 'PROPFIND', 'REPORT', 'SEARCH'])

const ACTIONS: Readonly<Record<string, Action>> = { POST: 'create', PUT: 'upsert', PATCH: 'update', DELETE: 'delete' }

/** Goes by the method; the policy's rules and the built-in packs know better where it lies. */
export function classifyHttp(call: HttpCall): Effect {
  const method = call.method.toUpperCase()
  const path = call.path.split(/[?#]/, 1)[0] ?? '/'
  const authority = isDefaultPort(call) ? call.host : `${call.host}:${call.port}`
  const kind: EffectKind = call.upgrade ? 'write' : SAFE.has(method) ? 'read' : method in ACTIONS ? 'write' : 'unknown'
  const action = call.upgrade ? 'execute' : (ACTIONS[method] ?? 'execute')
  return {
    system: 'http',
    kind,
    ...(kind === 'read' ? {} : { action }),
    target: `${authority}${path}`,
    summary: `${call.upgrade ? 'upgrade' : method} ${authority}${path}`,
    fingerprint: createHash('sha256')
      .update(`${method} ${authority}${templateOf(path)}`)
      .digest('hex')
      .slice(0, 16),
    match: { host: call.host, port: String(call.port), method, path },
    attributes: {
      [ATTR_HTTP_METHOD]: method,
      // The query may hold keys and addresses.
      [ATTR_URL_FULL]: `${call.protocol}//${authority}${path}`,
      [ATTR_SERVER_ADDRESS]: call.host,
      [ATTR_SERVER_PORT]: call.port,
    },
  }
}

function isDefaultPort({ protocol, port }: HttpCall): boolean {
  return port === (protocol === 'https:' ? 443 : 80)
}

/** Segments that look like ids become one placeholder, so that calls that differ only in them count as repeats. */
function templateOf(path: string): string {
  return path
    .split('/')
    .map((segment) => (/^\d+$|^[0-9a-f]{8}-[0-9a-f-]{27}$|^(?=.*\d)[\w-]{16,}$/i.test(segment) ? '{id}' : segment))
    .join('/')
}
