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
    return [
      {
        target,
        key,
        field: column.name,
        ...(before === null ? {} : { before: jsonValue(column, old) }),
        ...(after === null ? {} : { after: jsonValue(column, fresh) }),
      },
    ]
  })
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
