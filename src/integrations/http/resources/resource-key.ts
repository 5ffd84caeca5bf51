import { type HttpCall, splitPath } from '../http-effect.js'

/** What a request is about. */
export interface ResourceKey {
  /** Origin and path. */
  readonly path: string
  /** The part of the query that may say which resource is meant; empty for most. */
  readonly query: string
}

export type Origin = Pick<HttpCall, 'protocol' | 'host' | 'port'>

/** Values that switch something on or off, and name nothing. */
const SWITCH = /^(true|false|yes|no|)$/i

/** Query parameters that change how a resource is shown, or who asks, and never which one it is. */
const ABOUT_THE_ANSWER =
  /^(\$?(expand|select|fields|include|embed|format|properties|associations|view|alt)(\[.*\])?|pretty|prettyprint|api[-_]?version|api[-_]?key|access_token)$/i

/** Segments of paths that mean somebody else for everybody who asks. */
const OWN = /\/(me|self|current|whoami|~)(\/|$)/i

/**
 * Origin and normalised path: no trailing slash, dot segments worked out, the
 * same percent-encoding everywhere.
 *
 * @param host the Host header, which tells the sites of one address apart
 */
export function resourceKey(origin: Origin, target: string, host: string | undefined): ResourceKey {
  const absolute = /^https?:\/\//i.test(target) ? URL.parse(target) : null
  // A request to a proxy names its target in full.
  const own = `${origin.protocol}//${originHost(origin)}`
  const site =
    absolute?.origin ?? `${own}${host === undefined || sameHost(origin, host) ? '' : ` as ${host.toLowerCase()}`}`
  const [path, search] = splitPath(absolute === null ? target : `${absolute.pathname}${absolute.search}`)
  return { path: site + normalised(path), query: telling(search) }
}

function originHost({ host, port }: Origin): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`.toLowerCase()
}

function sameHost(origin: Origin, host: string): boolean {
  const defaultPort = origin.protocol === 'https:' ? 443 : 80
  const given = host.toLowerCase()
  return given === originHost(origin) || `${given}:${defaultPort}` === originHost(origin)
}

function normalised(path: string): string {
  const dots = URL.parse(`http://x${path.startsWith('/') ? path : `/${path}`}`)?.pathname ?? path
  const whole = dots.split('/').map(encodeOnce).join('/')
  return whole.replace(/\/+$/, '') || '/'
}

function encodeOnce(segment: string): string {
  try {
    return encodeURIComponent(decodeURIComponent(segment))
  } catch {
    return segment
  }
}

function telling(search: string): string {
  const pairs = [...new URLSearchParams(search)].filter(
    ([name, value]) => !ABOUT_THE_ANSWER.test(name) && !SWITCH.test(value),
  )
  return new URLSearchParams(pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))).toString()
}

/** The collection an item belongs to; undefined at the root. */
export function parentOf({ path }: ResourceKey): string | undefined {
  const at = path.lastIndexOf('/')
  return at <= path.indexOf('//') + 1 ? undefined : path.slice(0, at)
}

/** Last part of the path, as the service knows it. */
export function lastSegment({ path }: ResourceKey): string {
  const segment = path.slice(path.lastIndexOf('/') + 1)
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/** True for a last part that looks made, not written: it names an item, where a word may name a collection. */
export function namesItem(key: ResourceKey): boolean {
  const segment = lastSegment(key)
  return /\d/.test(segment) && !/^v\d+(\.\d+)*$/i.test(segment)
}

/** The item a collection gave this id to; services that end their paths in `.json` put it before that. */
export function itemIn({ path }: ResourceKey, id: string): ResourceKey {
  const [, base = path, suffix = ''] = /^(.*)(\.json)$/.exec(path) ?? []
  return { path: `${base === '/' ? '' : base.replace(/\/$/, '')}/${encodeURIComponent(id)}${suffix}`, query: '' }
}

/** True where the path does not say whose resource it is. */
export function isOwn({ path }: ResourceKey): boolean {
  return OWN.test(path)
}
