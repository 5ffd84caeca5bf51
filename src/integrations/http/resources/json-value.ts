export type JsonObject = Readonly<Record<string, unknown>>

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown

/** In every Node above the floor, not yet in TypeScript's library. */
const exact = JSON as unknown as {
  rawJSON(text: string): unknown
  isRawJSON(value: unknown): boolean
  parse(text: string, reviver: Reviver): unknown
}

/**
 * JSON as it is sent on: a number that no double holds keeps its digits.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  // Most texts have no such number, and looking at every value is slow.
  if (!/\d{16}|\de\+?\d{2}/i.test(text)) return JSON.parse(text)
  return exact.parse(text, (_, value, { source }) =>
    typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER && source !== undefined
      ? exact.rawJSON(source)
      : value,
  )
}

/** Undefined for what is no JSON. */
export function tryParseJson(text: string): unknown {
  try {
    return parseJson(text)
  } catch {
    return undefined
  }
}

export function cloneJson(value: unknown): unknown {
  return parseJson(JSON.stringify(value))
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !exact.isRawJSON(value)
}

/** A number that was kept as text becomes one that can be shown. */
export function shownValue(value: unknown): unknown {
  return exact.isRawJSON(value) ? (value as { rawJSON: string }).rawJSON : value
}

export function sameJson(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const merged = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name)
    else merged.set(name, mergePatch(merged.get(name), value))
  }
  return Object.fromEntries(merged)
}

/** Names under which services wrap a record; any other counts when the record is all there is. */
const WRAPPERS: ReadonlySet<string> = new Set(['data', 'result', 'item', 'record', 'resource', '_source'])

/** The name under which a document holds the record these fields belong to; undefined when it is the record itself. */
export function wrapperOf(document: JsonObject, fields: JsonObject): string | undefined {
  const names = Object.keys(fields)
  const holds = (value: unknown) => isObject(value) && names.some((name) => Object.hasOwn(value, name))
  if (holds(document)) return undefined
  const alone = Object.keys(document).length === 1
  return Object.keys(document).find((name) => (alone || WRAPPERS.has(name)) && holds(document[name]))
}

const LISTS = ['data', 'items', 'results', 'value', 'values', 'entries', 'records', 'hits'] as const

/** A collection, as far as its shape tells. */
export function isList(value: unknown): boolean {
  if (Array.isArray(value)) return true
  return isObject(value) && (value['object'] === 'list' || LISTS.some((name) => Array.isArray(value[name])))
}

/** True for a document one of whose own values, or of its record's, is the last part of its path. */
export function isItem(value: unknown, segment: string): boolean {
  if (!isObject(value) || isList(value)) return false
  const named = (record: JsonObject) =>
    Object.values(record).some((each) => {
      const value = shownValue(each)
      return typeof value !== 'object' && String(value) === segment
    })
  return named(value) || Object.values(value).some((each) => isObject(each) && named(each))
}
