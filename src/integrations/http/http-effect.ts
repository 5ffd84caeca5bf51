import { createHash } from 'node:crypto'
import type { Effect } from '../../guard/effect.js'
import type { Guard } from '../../guard/guard.js'
import type { Action, EffectKind } from '../../journal/record.js'
import { suspicionOf } from '../../policy/packs/suspicious.js'
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
  /** By lower-case name, as far as they are set; absent where the client cannot show them. */
  readonly headers?: Readonly<Record<string, string>>
  /** False while the caller may still set headers. */
  readonly headersFinal?: boolean
}

/** Safe by definition (RFC 9110 9.2.1, RFC 4918, QUERY); rules correct what a service makes of it. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY', 'PROPFIND', 'REPORT', 'SEARCH'])

const ACTIONS: Readonly<Record<string, Action>> = { POST: 'create', PUT: 'upsert', PATCH: 'update', DELETE: 'delete' }

const OVERRIDES = ['x-http-method-override', 'x-http-method', 'x-method-override'] as const

/** The unsafe method that a header asks the service to take instead of the request's own; a safe one makes nothing safe. */
export function overriddenMethod(headers: Readonly<Record<string, string>> | undefined): string | undefined {
  const asked = OVERRIDES.flatMap((name) => headers?.[name]?.toUpperCase().split(',') ?? [])
  return asked.map((method) => method.trim()).find((method) => method !== '' && !SAFE.has(method))
}

/** Goes by the method; the policy's rules and the built-in packs know better where it lies. */
export function classifyHttp(call: HttpCall): Effect {
  const method = call.method.toUpperCase()
  const [path = '/', search = ''] = splitPath(call.path)
  const shown = withoutSecrets(call.host, path)
  const authority = isDefaultPort(call) ? call.host : `${call.host}:${call.port}`
  const override = overriddenMethod(call.headers)
  const obeyed = override ?? method
  const kind: EffectKind = call.upgrade ? 'write' : SAFE.has(obeyed) ? 'read' : obeyed in ACTIONS ? 'write' : 'unknown'
  const action = call.upgrade ? 'execute' : (ACTIONS[obeyed] ?? 'execute')
  const verb = call.upgrade ? 'upgrade' : override === undefined ? method : `${method} as ${override}`
  return {
    system: 'http',
    kind,
    ...(kind === 'read' ? {} : { action }),
    target: `${authority}${shown}`,
    summary: `${verb} ${authority}${shown}`,
    fingerprint: createHash('sha256')
      .update(`${override ?? method} ${authority}${templateOf(shown)}`)
      .digest('hex')
      .slice(0, 16),
    match: {
      host: call.host,
      port: String(call.port),
      // Which of the two the service obeys is not known: no rule that names a method lets it pass.
      method: override === undefined ? method : undefined,
      path,
    },
    ...(call.headers === undefined
      ? {}
      : {
          request: {
            headers: call.headers,
            headersFinal: call.headersFinal === true,
            query: new URLSearchParams(search),
          },
        }),
    attributes: {
      [ATTR_HTTP_METHOD]: method,
      // The query may hold keys and addresses.
      [ATTR_URL_FULL]: `${call.protocol}//${authority}${shown}`,
      [ATTR_SERVER_ADDRESS]: call.host,
      [ATTR_SERVER_PORT]: call.port,
    },
  }
}

/** Path and query; a fragment is nobody's. */
export function splitPath(path: string): [path: string, search: string] {
  const [whole = ''] = path.split('#', 1)
  const at = whole.indexOf('?')
  return at < 0 ? [whole, ''] : [whole.slice(0, at), whole.slice(at + 1)]
}

/** What the report says of a read that may be a write; undefined for most. */
export function suspicion(call: HttpCall, guard: Pick<Guard, 'enabled'>): string | undefined {
  const [path, search] = splitPath(call.path)
  return suspicionOf({ host: call.host, path, query: new URLSearchParams(search) }, guard.enabled)
}

/** Services whose paths are credentials: whoever knows one may send. */
const SECRET_PATHS: readonly (readonly [host: RegExp, path: RegExp, shown: string])[] = [
  [/^hooks\.slack\.com$/i, /^(\/[^/]+\/[^/]+\/[^/]+)\/.*$/, '$1/[redacted]'],
  [/^api\.telegram\.org$/i, /^\/((?:file\/)?bot)[^/]+/, '/$1[redacted]'],
  [/(^|\.)discord(app)?\.com$/i, /^(\/api(?:\/v\d+)?\/webhooks\/[^/]+)\/[^/]+/, '$1/[redacted]'],
  [/(^|\.)webhook\.office\.com$/i, /^(\/[^/]+)\/.*$/, '$1/[redacted]'],
]

function withoutSecrets(host: string, path: string): string {
  const secret = SECRET_PATHS.find(([hosts]) => hosts.test(host))
  return secret === undefined ? path : path.replace(secret[1], secret[2])
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
