import { type Exclusion, indexColumns, type Table, type UniqueIndex } from '../../sql/catalog.js'
import { markedTable } from '../../sql/overlay-rewrite.js'
import { parseTextArray } from '../../sql/pg-array.js'
import type { PreviewQuery } from '../../sql/preview.js'
import { constrainedRows } from '../../sql/preview-parts.js'
import { type Settling, settlingQuery } from '../../sql/settling.js'
import { type Violation, violationOf } from '../../sql/violation-message.js'
import type { OverlaidPreview } from './overlaid.js'

/** What the rows of a statement must be judged by together. */
export type Together = Pick<Settling, 'table' | 'labels' | 'among' | 'checked'>

/** What would be raised for certain, the first of it first. */
export type Settled = readonly Violation[]

/**
 * Looks at the rows a preview would write together with those they leave in
 * place. Undefined when that cannot be done: then what was open is a guess.
 */
export async function settle(
  together: Together,
  query: PreviewQuery,
  reader: { readonly own: OverlaidPreview | undefined; rows(text: string): Promise<readonly (string | null)[][]> },
): Promise<Settled | undefined> {
  const { table } = together
  const source = (from: Table, alias: string) => (reader.own?.touches(from) ? markedTable(from.oid, alias) : undefined)
  const text = settlingQuery({ ...together, existing: (alias) => constrainedRows(table, { source }, alias) }, query.sql)
  if (text === undefined) return []
  let rows: readonly (string | null)[][]
  try {
    rows = await reader.rows(text)
  } catch {
    // A lost connection is met again where the statement goes on.
    return undefined
  }
  return rows.map(([label, fresh, old]) => {
    const row = fresh == null ? undefined : parseTextArray(fresh)
    const before = old == null ? undefined : parseTextArray(old)
    return violationOf(table, label ?? '', row ?? before ?? [], before ?? row)
  })
}

export function deferrableOf(constraint: UniqueIndex | Exclusion): { deferrable: boolean; deferred: boolean } {
  if (!('immediate' in constraint)) return constraint
  return { deferrable: !constraint.immediate, deferred: constraint.deferred === true }
}

/** Rows written together may have keys that only the server can compare. */
export function mayClash(table: Table, checked: (constraint: UniqueIndex | Exclusion) => boolean): boolean {
  const indexes = (table.indexes ?? []).filter((index) => !index.exclusion && checked(index))
  const compared = (index: UniqueIndex) =>
    index.immediate && index.predicate === null && indexColumns(table, index).length === index.keys.length
  return (table.exclusions ?? []).some(checked) || indexes.some((index) => !compared(index))
}
