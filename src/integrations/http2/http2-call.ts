import type { ClientHttp2Session } from 'node:http2'
import type { HeaderBag } from '../../carriers/outgoing.js'
import type { HttpCall } from '../http/http-effect.js'

/** Headers of `session.request`: an object, or (Node 24) a flat array of names and values. */
export type RequestHeaders = Readonly<Record<string | symbol, unknown>> | readonly unknown[] | undefined

/** Where a session leads, by what it keeps itself: it may be older than the guard. */
export interface Origin {
  readonly protocol: 'http:' | 'https:'
  readonly authority: string
}

export function originOf(session: ClientHttp2Session): Origin {
  const authority = ownValue(session, 'authority')
  return {
    protocol: ownValue(session, 'protocol') === 'http:' ? 'http:' : 'https:',
    authority: typeof authority === 'string' && authority !== '' ? authority : 'localhost',
  }
}

/** Goes by the connection, not by `:authority`: that is where the bytes go. */
export function callOf(session: ClientHttp2Session, headers: RequestHeaders): HttpCall {
  const { protocol, authority } = originOf(session)
  const url = URL.parse(`${protocol}//${authority}`)
  return {
    protocol,
    host: (url?.hostname ?? authority).replace(/^\[|\]$/g, ''),
    port: Number(url?.port) || (protocol === 'https:' ? 443 : 80),
    method: headerOf(headers, ':method') ?? 'GET',
    path: headerOf(headers, ':path') ?? '/',
    // Extended CONNECT (RFC 8441): WebSocket and the like.
    upgrade: headerOf(headers, ':protocol') !== undefined,
    headers: plainHeaders(headers),
    headersFinal: true,
  }
}

function plainHeaders(headers: RequestHeaders): Record<string, string> {
  const pairs = isFlat(headers)
    ? headers.flatMap((name, at) => (at % 2 === 0 ? [[String(name), headers[at + 1]] as const] : []))
    : Object.entries(headers ?? {})
  return Object.fromEntries(
    pairs.flatMap(([name, value]) =>
      name.startsWith(':') || value === undefined || value === null ? [] : [[name.toLowerCase(), String(value)]],
    ),
  )
}

export function headerOf(headers: RequestHeaders, name: string): string | undefined {
  const value = isFlat(headers) ? headers[indexOf(headers, name) + 1] : headers?.[keyOf(headers, name) ?? name]
  return value === undefined || value === null ? undefined : String(value)
}

/** The headers as a copy that can be written to: the caller's own object may be used again. */
export function copyHeaders(headers: RequestHeaders): { readonly headers: RequestHeaders; readonly bag: HeaderBag } {
  if (isFlat(headers)) {
    const copy = [...headers]
    return {
      headers: copy,
      bag: {
        get: (name) => headerOf(copy, name),
        set(name, value) {
          const at = indexOf(copy, name)
          if (at < 0) copy.push(name, value)
          else copy[at + 1] = value
        },
        remove(name) {
          for (let at = indexOf(copy, name); at >= 0; at = indexOf(copy, name)) copy.splice(at, 2)
        },
      },
    }
  }
  const copy: Record<string | symbol, unknown> = { ...headers }
  return {
    headers: copy,
    bag: {
      get: (name) => headerOf(copy, name),
      set(name, value) {
        copy[keyOf(copy, name) ?? name] = value
      },
      remove(name) {
        delete copy[keyOf(copy, name) ?? name]
      },
    },
  }
}

function isFlat(headers: RequestHeaders): headers is readonly unknown[] {
  return Array.isArray(headers)
}

/** Minus 2 when there is none, so that the value's place holds nothing. */
function indexOf(flat: readonly unknown[], name: string): number {
  for (let index = 0; index + 1 < flat.length; index += 2) {
    if (String(flat[index]).toLowerCase() === name) return index
  }
  return -2
}

function keyOf(headers: object, name: string): string | undefined {
  if (name in headers) return name
  return Object.keys(headers).find((key) => key.toLowerCase() === name)
}

/** Node keeps these under symbols it does not export. */
export function ownValue(object: object, description: string): unknown {
  const key = Object.getOwnPropertySymbols(object).find((symbol) => symbol.description === description)
  return key === undefined ? undefined : (object as Record<symbol, unknown>)[key]
}
