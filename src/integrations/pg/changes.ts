import { isDeepStrictEqual } from 'node:util'
import type { FieldChange } from '../../journal/record.js'
import { type Column, keyColumns, type Table, tableName } from '../../sql/catalog.js'

type Row = readonly (string | null)[]

/** The fields one row would change: of an update the changed ones, of an insert the given ones, of a delete all. */
export function changesOf(table: Table, before: Row | null, after: Row | null): FieldChange[] {
  const columns = table.columns ?? []
  const key = keyOf(table, before ?? after ?? [])
  const target = tableName(table)
  return columns.flatMap((column, index) => {
    const old = before?.[index] ?? null
    const fresh = after?.[index] ?? null
    if (before !== null && after !== null && old === fresh) return []
    if (before === null && fresh === null) return []
    const was = jsonValue(column, old)
    const willBe = jsonValue(column, fresh)
    const parts = before === null || after === null ? undefined : partsOf(was, willBe)
    if (parts !== undefined) {
      return parts.map(({ path, ...values }) => ({ target, key, field: [column.name, ...path].join('.'), ...values }))
    }
    return [
      {
        target,
        key,
        field: column.name,
        ...(before === null ? {} : { before: was }),
        ...(after === null ? {} : { after: willBe }),
      },
    ]
  })
}

/** Parts of one json value that are told one by one; of more the whole value is. */
const MAX_PARTS = 50
const MAX_DEPTH = 6

interface Part {
  readonly path: readonly string[]
  readonly before?: unknown
  readonly after?: unknown
}

/** What changes within a json object, by its keys. A list is one value. Undefined when it has to be told as a whole. */
function partsOf(before: unknown, after: unknown): readonly Part[] | undefined {
  const parts: Part[] = []
  const visit = (was: unknown, willBe: unknown, path: readonly string[]): void => {
    if (isDeepStrictEqual(was, willBe)) return
    if (isObject(was) && isObject(willBe) && path.length < MAX_DEPTH) {
      for (const name of new Set([...Object.keys(was), ...Object.keys(willBe)])) {
        visit(member(was, name), member(willBe, name), [...path, name])
      }
    } else {
      parts.push({
        path,
        ...(was === undefined ? {} : { before: was }),
        ...(willBe === undefined ? {} : { after: willBe }),
      })
    }
  }
  visit(before, after, [])
  const whole = parts.length === 0 || parts.length > MAX_PARTS || parts[0]?.path.length === 0
  return whole ? undefined : parts
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function member(object: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

function keyOf(table: Table, row: Row): string | null {
  const columns = keyColumns(table)
  if (columns.length === 0) return null
  return columns.map((column) => `${column.name}=${row[table.columns?.indexOf(column) ?? -1] ?? 'null'}`).join(',')
}

/** The value as JSON where PostgreSQL's type has one; its text otherwise. */
function jsonValue(column: Column, text: string | null): unknown {
  if (text === null) return null
  switch (column.baseType) {
    case 'smallint':
    case 'integer':
    case 'bigint':
    case 'real':
    case 'double precision': {
      const number = Number(text)
      // bigint beyond 2^53 would change in the journal; NaN and Infinity are no JSON.
      return Number.isFinite(number) && (!Number.isInteger(number) || Number.isSafeInteger(number)) ? number : text
    }
    case 'boolean':
      return text === 'true' || text === 't'
    case 'json':
    case 'jsonb':
      try {
        return JSON.parse(text)
      } catch {
        return text
      }
    default:
      return text
  }
}
