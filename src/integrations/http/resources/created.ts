import { isList, isObject, type JsonObject, tryParseJson } from './json-value.js'
import type { PlannedChange } from './planned-change.js'
import { itemIn, lastSegment, namesItem, type ResourceKey, resourceKey } from './resource-key.js'
import type { Planned } from './resource-overlay.js'
import type { SimulatedWrite } from './simulated-write.js'

export interface Created {
  readonly key: ResourceKey
  readonly planned: Omit<Planned, 'kind'>
  /** Bytes. */
  readonly size: number
  /** The path may as well name the item that was written: which of the two it is shows when it is read. */
  readonly updates: boolean
}

const ID_NAMES = ['id', '_id', 'uuid', 'guid', 'sid', 'key', 'name'] as const
const JSON_TYPE = 'application/json'

/**
 * What a simulated POST has created, as its answer says: by an id, which is
 * read at the collection's path with the id behind it, or by a Location.
 * Undefined where the answer says neither: nobody could ask for it.
 */
export function createdBy(at: ResourceKey, write: SimulatedWrite, change: PlannedChange): Created | undefined {
  const { call, answer, ids } = write
  const text = typeof answer.body === 'string' ? answer.body : undefined
  const told = text === undefined ? undefined : tryParseJson(text)
  const document = isObject(told) && !isList(told) && !('jsonrpc' in told) ? told : {}
  const found = idIn(document, ids)
  const location = headerOf(answer.headers, 'location')
  const key =
    location !== undefined
      ? locationKey(write, location)
      : found !== undefined && !partOf(at, found.id)
        ? itemIn(at, found.id)
        : undefined
  if (key === undefined || (key.path === at.path && key.query === at.query)) return undefined
  const value = planned(document, found?.within, sentBy(change))
  const contentType = headerOf(answer.headers, 'content-type') ?? JSON_TYPE
  return {
    key,
    planned: { value, contentType: /json/i.test(contentType) ? contentType : JSON_TYPE },
    size: Buffer.byteLength(JSON.stringify(value)),
    updates: namesItem(at) && location === undefined && call.method.toUpperCase() === 'POST',
  }
}

interface Found {
  readonly id: string
  /** The name under which the answer wraps the record. */
  readonly within: string | undefined
}

/** The record's id: a usual name, at the top or one level down; else whichever top-level value was made up. */
function idIn(document: JsonObject, made: readonly string[]): Found | undefined {
  const wrapped = Object.entries(document).filter((entry): entry is [string, JsonObject] => isObject(entry[1]))
  const places: (readonly [string | undefined, JsonObject])[] = [[undefined, document], ...wrapped]
  for (const [within, record] of places) {
    const own = ID_NAMES.map((name) => record[name]).find(
      (value, at) => isId(value) && (at < ID_NAMES.indexOf('key') || made.includes(String(value))),
    )
    const id = own ?? Object.values(record).find((value) => isId(value) && made.includes(String(value)))
    if (id !== undefined) return { id: String(id), within }
  }
  return undefined
}

function isId(value: unknown): boolean {
  return (typeof value === 'string' && value !== '') || typeof value === 'number'
}

/** An answer that repeats an id of the path speaks of that item, and of nothing new. */
function partOf({ path }: ResourceKey, id: string): boolean {
  return path.split('/').includes(encodeURIComponent(id)) || lastSegment({ path, query: '' }) === `${id}.json`
}

function locationKey({ call, exchange }: SimulatedWrite, location: string): ResourceKey | undefined {
  const [path = '/'] = exchange.path.split('?', 1)
  const url = URL.parse(location, `${call.protocol}//placeholder.invalid${path.startsWith('/') ? path : '/'}`)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined
  const target = url.pathname + url.search
  if (url.hostname === 'placeholder.invalid') return resourceKey(call, target, exchange.headers['host'])
  const secure = url.protocol === 'https:'
  const origin = {
    protocol: secure ? ('https:' as const) : ('http:' as const),
    host: url.hostname.replace(/^\[|\]$/g, ''),
  }
  return resourceKey({ ...origin, port: Number(url.port) || (secure ? 443 : 80) }, target, undefined)
}

function headerOf(headers: SimulatedWrite['answer']['headers'], wanted: string): string | undefined {
  const value = Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === wanted)?.[1]
  return typeof value === 'string' ? value : value?.[0]
}

/** A body that is not understood leaves what the answer tells. */
function sentBy(change: PlannedChange): JsonObject {
  if (change.kind === 'merge' && isObject(change.patch)) return change.patch
  if (change.kind === 'fields') return change.fields
  return {}
}

/** What was sent, and over it what the answer said. */
function planned(document: JsonObject, within: string | undefined, sent: JsonObject): unknown {
  if (typeof document['_index'] === 'string' && typeof document['_id'] === 'string') {
    const { result: _, _shards: __, ...found } = document
    return { ...found, found: true, _source: sent }
  }
  if (within === undefined) return { ...sent, ...document }
  const record = isObject(sent[within]) ? (sent[within] as JsonObject) : sent
  return { ...document, [within]: { ...record, ...(document[within] as JsonObject) } }
}
