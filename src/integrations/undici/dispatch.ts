import { stringify } from 'node:querystring'
import type { HeaderBag } from '../../carriers/outgoing.js'
import type { Decision, Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { shared } from '../../run/store.js'
import type { HttpCall } from '../http/http-effect.js'
import { mayBeModelCall, noteModelCall, Tap } from '../http/model-call.js'

export interface DispatchOptions {
  origin?: unknown
  method?: string
  path?: string
  query?: unknown
  upgrade?: unknown
  headers?: unknown
  body?: unknown
}

/** All three generations of undici's handler protocol. */
export type Handler = Record<string, ((...args: unknown[]) => unknown) | undefined>

const METHODS = [
  'onConnect',
  'onError',
  'onUpgrade',
  'onHeaders',
  'onData',
  'onComplete',
  'onBodySent',
  'onRequestSent',
  'onResponseStarted',
  'onRequestStart',
  'onRequestUpgrade',
  'onResponseStart',
  'onResponseData',
  'onResponseEnd',
  'onResponseError',
] as const

const ENDS: ReadonlySet<string> = new Set(['onComplete', 'onResponseEnd', 'onError', 'onResponseError'])

/** Sees what a handler is called with, before the handler does. */
export type Observer = (method: string, args: readonly unknown[]) => void

/**
 * A view of the handler whose methods run inside the run. Each is called on
 * the handler itself: it may keep private state, or set fields in one method
 * that another reads.
 */
export function inCallersContext(handler: Handler, run: Run, observe?: Observer): Handler {
  const view = Object.create(handler) as Handler
  for (const name of METHODS) {
    const method = handler[name]
    if (typeof method !== 'function') continue
    view[name] = (...args) => {
      observe?.(name, args)
      return shared.runs.run(run, () => Reflect.apply(method, handler, args))
    }
  }
  return view
}

/**
 * `query` joins the path only when undici makes its request, past us: rules
 * look at it, and a request that is sent later has one path.
 */
export function withQueryInPath(options: DispatchOptions): DispatchOptions {
  const { path = '/', query } = options ?? {}
  // The rest is refused by undici itself.
  if (typeof query !== 'object' || query === null || typeof path !== 'string' || /[?#]/.test(path)) return options
  const search = stringify(query as Record<string, string>)
  const copy: DispatchOptions = Object.assign(Object.create(Object.getPrototypeOf(options)), options)
  return Object.assign(copy, { path: search === '' ? path : `${path}?${search}`, query: undefined })
}

/** Headers as a dispatch option: a flat array, an iterable of pairs, or an object. Written back as an array. */
export function headerBag(options: DispatchOptions): HeaderBag {
  const pairs = pairsOf(options.headers)
  const find = (name: string) => pairs.findIndex(([key]) => key.toLowerCase() === name)
  const commit = () => {
    options.headers = pairs.flat()
  }
  return {
    get: (name) => pairs[find(name)]?.[1],
    set(name, value) {
      const at = find(name)
      if (at < 0) pairs.push([name, value])
      else pairs[at] = [name, value]
      commit()
    },
    remove(name) {
      for (let at = find(name); at >= 0; at = find(name)) pairs.splice(at, 1)
      commit()
    },
  }
}

/** By lower-case name. */
export function headersOf(headers: unknown): Record<string, string> {
  return Object.fromEntries(pairsOf(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function pairsOf(headers: unknown): [string, string][] {
  if (typeof headers !== 'object' || headers === null) return []
  if (Array.isArray(headers)) {
    const flat = headers.map(String)
    return flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ''] as [string, string]] : []))
  }
  const entries = Symbol.iterator in headers ? [...(headers as Iterable<[string, unknown]>)] : Object.entries(headers)
  return entries.flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((item) => item !== undefined)
      .map((item) => [name, String(item)] as [string, string]),
  )
}

/** Lets a model call pass and notes what it asked and answered. */
export function tapModelCall(
  guard: Guard,
  decision: Decision,
  call: HttpCall,
  options: DispatchOptions,
): Observer | undefined {
  if (!mayBeModelCall(decision, call)) return undefined
  const request = new Tap()
  const answer = new Tap()
  options.body = tapBody(options.body, request)
  let noted = false
  return (method, args) => {
    if (method === 'onData') answer.add(args[0])
    else if (method === 'onResponseData') answer.add(args[1])
    else if (!noted && ENDS.has(method)) {
      noted = true
      noteModelCall(guard, decision, call, request.json(), answer.json())
    }
  }
}

function tapBody(body: unknown, tap: Tap): unknown {
  if (typeof body === 'string' || body instanceof Uint8Array) {
    tap.add(body)
    return body
  }
  // fetch hands its body on as an async generator; other streams are left alone.
  if (typeof body !== 'object' || body === null || Object.prototype.toString.call(body) !== '[object AsyncGenerator]')
    return body
  const source = body as AsyncGenerator<Uint8Array>
  return (async function* () {
    for await (const chunk of source) {
      tap.add(chunk)
      yield chunk
    }
  })()
}
