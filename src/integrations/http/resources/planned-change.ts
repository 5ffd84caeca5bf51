import { createRequire } from 'node:module'
import type { applyPatch, Operation } from 'rfc6902'
import { messageOf } from '../../../errors.js'
import { readBody } from '../../../policy/http/request-facts.js'
import type { Exchange } from '../wire-peer.js'
import { cloneJson, isList, isObject, type JsonObject, mergePatch, parseJson, wrapperOf } from './json-value.js'

/** What a blocked write would have done to the resource at its path. */
export type PlannedChange =
  | { readonly kind: 'replace'; readonly body: unknown }
  | { readonly kind: 'merge'; readonly patch: unknown }
  | { readonly kind: 'fields'; readonly fields: JsonObject }
  | { readonly kind: 'operations'; readonly operations: readonly Operation[] }
  | { readonly kind: 'delete' }
  | { readonly kind: 'unknown'; readonly reason: string }

/** Why something is not answered with what the run would have changed, as the end of a sentence. */
export class NotOverlaid extends Error {}

/** `X-HTTP-Method-Override` is how clients behind old proxies say PATCH. */
export function methodOf({ method, headers }: Pick<Exchange, 'method' | 'headers'>): string {
  const override = headers['x-http-method-override'] ?? headers['x-http-method'] ?? ''
  return method.toUpperCase() === 'POST' && /^(PUT|PATCH|DELETE)$/i.test(override)
    ? override.toUpperCase()
    : method.toUpperCase()
}

/** Undefined for a method that changes no resource at its path. */
export function plannedChange(exchange: Exchange): PlannedChange | undefined {
  const method = methodOf(exchange)
  if (method === 'DELETE') return { kind: 'delete' }
  if (method !== 'PUT' && method !== 'PATCH' && method !== 'POST') {
    return /^(GET|HEAD|OPTIONS|TRACE|CONNECT)$/.test(method)
      ? undefined
      : { kind: 'unknown', reason: `what ${method} does is not known` }
  }
  const { body } = exchange
  const { contentType = '' } = body
  if (body.size > body.head.length) return { kind: 'unknown', reason: `the body has ${body.size} bytes` }
  const read = readBody(body.head, contentType, body.contentEncoding)
  if (read === null) return { kind: 'unknown', reason: `the body is in ${body.contentEncoding}` }
  const form = read.form()
  if (form !== undefined) {
    const fields = nested(form)
    return method === 'PUT' ? { kind: 'replace', body: fields } : { kind: 'fields', fields }
  }
  const type = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? ''
  if (read.text === '') return { kind: 'unknown', reason: `${method} has no body` }
  if (type !== '' && !/^application\/([\w.+-]+\+)?json$/.test(type)) {
    return { kind: 'unknown', reason: `a body of ${type} is not understood` }
  }
  let value: unknown
  try {
    value = parseJson(read.text)
  } catch {
    return { kind: 'unknown', reason: 'the body is not JSON' }
  }
  if (type === 'application/json-patch+json') return patchOf(value)
  if (/patch/.test(type) && type !== 'application/merge-patch+json') {
    return { kind: 'unknown', reason: `a patch of ${type} is not understood` }
  }
  if (method === 'PUT') return { kind: 'replace', body: value }
  return isObject(value) ? { kind: 'merge', patch: value } : { kind: 'unknown', reason: 'the body is no JSON object' }
}

function patchOf(value: unknown): PlannedChange {
  const valid = (operation: unknown) => {
    if (!isObject(operation) || typeof operation['op'] !== 'string') return false
    const paths = [operation['path'], operation['from'] ?? '/']
    return paths.every(
      (path) =>
        typeof path === 'string' && path.startsWith('/') && !/\/(__proto__|constructor|prototype)(\/|$)/.test(path),
    )
  }
  return Array.isArray(value) && value.every(valid)
    ? { kind: 'operations', operations: value as Operation[] }
    : { kind: 'unknown', reason: 'the JSON Patch is not one, or replaces the whole document' }
}

const MAX_FORM_FIELDS = 1_000

/** `metadata[order]=7`, `tags[]=a`, `items[0][price]=p`: how forms nest. */
function nested(form: URLSearchParams): JsonObject {
  const root = new Map<string, unknown>()
  for (const [name, value] of [...form].slice(0, MAX_FORM_FIELDS)) {
    const [first = '', ...rest] = name.split('[').map((part, at) => (at === 0 ? part : part.replace(/\]$/, '')))
    // How the answer is to look, in Stripe's API.
    if (first === 'expand') continue
    let node = root
    let key = first
    for (const part of rest) {
      const next = node.get(key) instanceof Map ? (node.get(key) as Map<string, unknown>) : new Map<string, unknown>()
      node.set(key, next)
      node = next
      key = part === '' ? String(next.size) : part
    }
    node.set(key, value)
  }
  return plain(root) as JsonObject
}

function plain(value: unknown): unknown {
  if (!(value instanceof Map)) return value
  const entries = [...value].map(([name, each]) => [name, plain(each)] as const)
  const list = entries.length > 0 && entries.every(([name], at) => name === String(at))
  return list ? entries.map(([, each]) => each) : Object.fromEntries(entries)
}

/**
 * The resource after a change.
 *
 * @param before undefined where there is none
 * @throws NotOverlaid
 */
export function applyChange(before: unknown, change: PlannedChange): unknown {
  switch (change.kind) {
    case 'delete':
      return undefined
    case 'unknown':
      throw new NotOverlaid(change.reason)
    case 'replace':
      return before === undefined ? change.body : replaced(before, change.body)
    case 'merge':
      return inRecord(item(before), change.patch, (record) => mergePatch(record, change.patch))
    case 'fields':
      return inRecord(item(before), change.fields, (record) => withFields(record, change.fields))
    case 'operations':
      return patched(item(before), change.operations)
  }
}

/** A patch of what is not there fails, and one of a list means its entries, each service in its own way. */
function item(before: unknown): unknown {
  if (before === undefined) throw new NotOverlaid('there is nothing to change')
  if (isList(before)) throw new NotOverlaid('what is read is a list')
  return before
}

function inRecord(document: unknown, fields: unknown, change: (record: unknown) => unknown): unknown {
  const wrapper = isObject(document) && isObject(fields) ? wrapperOf(document, fields) : undefined
  if (wrapper === undefined || !isObject(document)) return change(document)
  return { ...document, [wrapper]: change(document[wrapper]) }
}

/** What a service sets itself, so that a PUT leaves it alone. */
const OF_THE_SERVICE =
  /^(_?id|uuid|guid|sid|object|self|href|url|uri|_?links?|livemode|_?rev|_?version|_?etag|revision|(created|updated|modified|lastmodified|last_modified|inserted)(_?(at|on|by|date|time))?)$/i

/** PUT replaces: what the body does not name is gone, but for what the service sets itself. */
function replaced(before: unknown, body: unknown): unknown {
  return inRecord(before, body, (record) => {
    if (!isObject(record) || !isObject(body)) return body
    const kept = Object.entries(record).filter(([name]) => OF_THE_SERVICE.test(name) && !Object.hasOwn(body, name))
    return { ...Object.fromEntries(kept), ...body }
  })
}

let apply: typeof applyPatch | undefined

/** Loaded when the first JSON Patch is met: services that send none start without it. */
function rfc6902(): typeof applyPatch {
  apply ??= (createRequire(import.meta.url)('rfc6902') as { applyPatch: typeof applyPatch }).applyPatch
  return apply
}

function patched(before: unknown, operations: readonly Operation[]): unknown {
  const document = cloneJson(before)
  let failures: readonly (Error | null)[]
  try {
    failures = rfc6902()(document, cloneJson(operations) as Operation[])
  } catch (error) {
    throw new NotOverlaid(`the JSON Patch does not apply: ${messageOf(error)}`)
  }
  const failure = failures.find((error) => error !== null)
  if (failure != null) throw new NotOverlaid(`the JSON Patch does not apply: ${failure.message || failure.name}`)
  return document
}

/** Forms hold text only: a value takes the type of the one it replaces. */
function withFields(before: unknown, fields: JsonObject): unknown {
  const merged = new Map(isObject(before) ? Object.entries(before) : [])
  for (const [name, value] of Object.entries(fields)) {
    const old = merged.get(name)
    merged.set(name, isObject(value) ? withFields(old, value) : typeof value === 'string' ? typed(value, old) : value)
  }
  return Object.fromEntries(merged)
}

function typed(text: string, old: unknown): unknown {
  if (typeof old === 'number' && text.trim() !== '' && Number.isFinite(Number(text))) return Number(text)
  if (typeof old === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text === '' && old !== undefined && typeof old !== 'string' ? null : text
}
