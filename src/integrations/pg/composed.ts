import { isOfEarlierWrite } from '../../sql/earlier-writes.js'
import type { RowChange, TableChanges } from '../../sql/overlay.js'

/**
 * The changes of writes that were done one after the other, as one change per
 * row: where a later write found a row that an earlier one had left, both become one.
 */
export function composed(changes: readonly TableChanges[]): TableChanges[] {
  const tables = new Map<string, { table: TableChanges['table']; rows: (RowChange | undefined)[] }>()
  const left = new Map<string, number[]>()
  for (const { table, rows } of changes) {
    const known = tables.get(table.oid) ?? { table, rows: [] }
    tables.set(table.oid, known)
    const keyOf = (row: RowChange['after']) => `${table.oid} ${JSON.stringify(row)}`
    const added: [string, number][] = []
    for (const row of rows) {
      const found = isOfEarlierWrite(row.id) ? left.get(keyOf(row.before))?.pop() : undefined
      const earlier = found === undefined ? undefined : known.rows[found]
      const at = earlier === undefined || found === undefined ? known.rows.length : found
      known.rows[at] = earlier === undefined ? row : together(earlier, row)
      if (row.after !== null) added.push([keyOf(row.after), at])
    }
    // A write does not see its own rows.
    for (const [key, at] of added) left.set(key, [...(left.get(key) ?? []), at])
  }
  return [...tables.values()].map(({ table, rows }) => ({ table, rows: rows.filter((row) => row !== undefined) }))
}

/** Undefined for a row that is gone again. */
function together({ before, id }: RowChange, { after }: RowChange): RowChange | undefined {
  if (before === null && after === null) return undefined
  const operation = before === null ? 'i' : after === null ? 'd' : 'u'
  return { operation, before, after, id }
}
