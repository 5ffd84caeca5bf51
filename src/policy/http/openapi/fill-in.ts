import type { SyntheticIds } from '../respond.js'
import { isNode, type Node, resolve } from './nodes.js'

/** What an answer is filled in from. */
export interface Given {
  /** The body of the request, as JSON. */
  readonly request: unknown
  readonly parameters: ReadonlyMap<string, string>
  /** The parameter that the path ends with: the id of the thing itself. */
  readonly resource: string | undefined
  readonly ids: SyntheticIds
}

type Fields = Record<string, unknown>

/** Items of a list in the request that are answered one by one. */
const MAX_ITEMS = 1_000
const MAX_DEPTH = 16
/** The one time the sampler knows. */
const SAMPLE_TIME = /^2019-08-24T14:15:22/

/**
 * Puts what is known into an example: fields that the request brought, ids
 * from its path, made-up ids for the rest. Each is kept only where the whole
 * stays valid.
 *
 * @param isValid whether the example as a whole still matches its schema
 */
export function fillIn(
  document: Node,
  schema: unknown,
  example: unknown,
  given: Given,
  isValid: (root: unknown) => boolean,
): unknown {
  const holder: Fields = { root: example }
  const put = (parent: Fields | unknown[], key: string | number, value: unknown): boolean => {
    const fields = parent as Record<string | number, unknown>
    const had = Object.hasOwn(fields, key)
    const before = fields[key]
    fields[key] = value
    if (isValid(holder['root'])) return true
    if (had) fields[key] = before
    else delete fields[key]
    return false
  }

  visit(holder, 'root', schema, given.request, 0)
  return holder['root']

  function visit(
    parent: Fields | unknown[],
    key: string | number,
    schema: unknown,
    requested: unknown,
    depth: number,
  ): void {
    const value = (parent as Record<string | number, unknown>)[key]
    if (depth > MAX_DEPTH) return
    if (Array.isArray(value)) return visitList(parent, key, value, schema, requested, depth)
    if (!isNode(value)) return
    const wanted = isNode(requested) ? requested : {}
    for (const [name, property] of propertiesOf(document, schema)) {
      const field = resolve(document, property)
      if (field['writeOnly'] === true) continue
      if (Object.hasOwn(wanted, name) && field['readOnly'] !== true) {
        const echoed = [merge(document, property, value[name], wanted[name]), structuredClone(wanted[name])]
        if (!echoed.some((each) => put(value as Fields, name, each)) && !Object.hasOwn(value, name)) continue
      } else if (Object.hasOwn(value, name) && (isId(name, field) || given.parameters.has(name))) {
        const known = given.parameters.get(name) ?? (name === 'id' && depth === 0 ? given.resource : undefined)
        if (idsFor(field, value[name], known, given.ids).some((make) => put(value as Fields, name, make()))) continue
      } else if (field['format'] === 'date-time' && SAMPLE_TIME.test(String(value[name]))) {
        put(value as Fields, name, new Date().toISOString())
        continue
      }
      if (Object.hasOwn(value, name)) visit(value as Fields, name, property, wanted[name], depth + 1)
    }
  }

  /** As many items as the request has, each made from the first of the example. */
  function visitList(
    parent: Fields | unknown[],
    key: string | number,
    value: readonly unknown[],
    schema: unknown,
    requested: unknown,
    depth: number,
  ): void {
    const { items } = resolve(document, schema)
    const wanted = Array.isArray(requested) ? requested : []
    if (value.length > 0 && wanted.length > 0 && wanted.length <= MAX_ITEMS && wanted.every(isNode)) {
      put(
        parent,
        key,
        wanted.map((_, index) => structuredClone(value[index] ?? value[0])),
      )
    }
    const list = (parent as Record<string | number, unknown>)[key] as unknown[]
    for (const index of list.keys()) visit(list, index, items, wanted[index], depth + 1)
  }
}

/**
 * What the request brought, in the shape of the example: without what only
 * requests have, and with what only answers have.
 */
function merge(document: Node, schema: unknown, example: unknown, requested: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH) return requested
  if (Array.isArray(requested)) {
    const { items } = resolve(document, schema)
    const like = Array.isArray(example) ? example : []
    return requested.map((each, index) => merge(document, items, like[index] ?? like[0], each, depth + 1))
  }
  if (!isNode(requested)) return requested
  const declared = propertiesOf(document, schema)
  if (declared.size === 0) return structuredClone(requested)
  const like = isNode(example) ? example : {}
  const merged: Fields = {}
  for (const [name, field] of declared) {
    const { readOnly, writeOnly } = resolve(document, field)
    if (writeOnly === true) continue
    if (readOnly !== true && Object.hasOwn(requested, name)) {
      merged[name] = merge(document, field, like[name], requested[name], depth + 1)
    }
  }
  for (const name of propertiesOf(document, schema, ['allOf']).keys()) {
    if (!Object.hasOwn(merged, name) && Object.hasOwn(like, name)) merged[name] = structuredClone(like[name])
  }
  return merged
}

/** Declared fields of an object, through references and compositions; the first declaration counts. */
function propertiesOf(
  document: Node,
  schema: unknown,
  through: readonly ('allOf' | 'oneOf' | 'anyOf')[] = ['allOf', 'oneOf', 'anyOf'],
  depth = 0,
): Map<string, unknown> {
  const node = resolve(document, schema)
  const found = new Map(Object.entries(isNode(node['properties']) ? node['properties'] : {}))
  if (depth > MAX_DEPTH) return found
  for (const list of through.map((key) => node[key])) {
    for (const part of Array.isArray(list) ? list : []) {
      for (const [name, field] of propertiesOf(document, part, through, depth + 1)) {
        if (!found.has(name)) found.set(name, field)
      }
    }
  }
  return found
}

function isId(name: string, field: Node): boolean {
  return field['format'] === 'uuid' || name === 'id' || (field['readOnly'] === true && /(Id|_id)$/.test(name))
}

/** What an id may be, the likeliest first. */
function idsFor(field: Node, example: unknown, known: string | undefined, ids: SyntheticIds): (() => unknown)[] {
  const types = [field['type']].flat()
  const numeric = types.includes('integer') || types.includes('number') || typeof example === 'number'
  const path = known === undefined ? [] : [() => (numeric ? Number(known) : known)]
  if (numeric) return [...path, () => Number(ids.integer())]
  if (!types.includes('string') && typeof example !== 'string') return path
  if (field['format'] === 'uuid') return [...path, () => ids.uuid()]
  return [...path, () => ids.string(), () => ids.uuid(), () => ids.integer()]
}
