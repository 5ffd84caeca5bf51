import { keyColumns, type Table } from '../../sql/catalog.js'
import { cursorQuery, notUpdatable } from '../../sql/cursor-query.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import { quoteName, quoteText } from '../../sql/tree.js'
import { type ReadOnly, textOf } from './read-only.js'

/** The address of a row. */
export interface RowAddress {
  readonly tableoid: string
  readonly ctid: string
}

/**
 * The row a cursor of this session stands on, for `WHERE CURRENT OF`. The
 * server tells it to UPDATE and DELETE only, so the cursor's row is fetched once
 * more, which does not move it, and looked for in the table.
 * @throws PreviewUnsupported where that does not tell, or with the error the write would fail with.
 */
export async function cursorRow(reader: ReadOnly, cursor: string, target: Table): Promise<RowAddress> {
  const [found] = await reader.rows({
    text:
      'SELECT statement, is_holdable AND creation_time < now(), is_binary, is_scrollable, txid_current_if_assigned() ' +
      `FROM pg_catalog.pg_cursors WHERE name = ${quoteText(cursor)}`,
  })
  if (found === undefined) throw new PreviewUnsupported(`cursor "${cursor}" does not exist`, '34000')
  const [statement, held, binary, scrollable, transaction] = found
  if (held === 't') throw new PreviewUnsupported(`cursor "${cursor}" is held from a previous transaction`, '24000')
  const query = cursorQuery(cursor, statement ?? '', target.name)
  const { relname, schemaname } = query.relation
  const relation = [schemaname, relname].flatMap((name) => (name ? [quoteName(name)] : [])).join('.')
  await refuseOtherTables(reader, cursor, target, relation, query.filtered)
  const name = quoteName(cursor)
  // This one moves nothing, and executes nothing.
  const standing = await reader.query({ text: `MOVE RELATIVE 0 FROM ${name}` })
  if (standing.error !== undefined) throw standing.error
  if (standing.tag === 'MOVE 0') throw new PreviewUnsupported(`cursor "${cursor}" is not positioned on a row`, '24000')
  // A fetch that fails would end the application's cursor.
  if (scrollable !== 't' || binary === 't') throw new PreviewUnsupported('WHERE CURRENT OF a cursor that cannot scroll')
  const [values] = await reader.rows({ text: `FETCH RELATIVE 0 FROM ${name}` })
  if (values === undefined) throw new PreviewUnsupported('WHERE CURRENT OF a cursor without a row')
  // The transaction's own writes could have given the values to another row.
  if (transaction !== null && !query.whole) throw new PreviewUnsupported('WHERE CURRENT OF after a write')
  const rows = await reader.rows({ text: query.rowsLike(values.map(textOf)) })
  const [tableoid, ctid] = rows[0] ?? []
  if (rows.length !== 1 || !tableoid || !ctid) {
    throw new PreviewUnsupported(
      `WHERE CURRENT OF a row that is ${rows.length === 0 ? 'no longer there' : 'not the only one'}`,
    )
  }
  return { tableoid, ctid }
}

/**
 * Where the row is in what the run has made of the table: a write of the run
 * moves it, and then its key still tells it.
 * @throws PreviewUnsupported where there is no key, or no row of that key any more.
 */
export async function ownVersion(
  reader: ReadOnly,
  { tableoid, ctid }: RowAddress,
  table: Table,
  source: string,
  overlaid: (text: string) => Promise<(string | null)[][]>,
): Promise<RowAddress> {
  const find = (condition: string) =>
    overlaid(`SELECT CAST(e__.tableoid AS text), CAST(e__.ctid AS text) FROM ${source} WHERE ${condition}`)
  const here = `tableoid = ${quoteText(tableoid)} AND e__.ctid = ${quoteText(ctid)}`
  let [found] = await find(`e__.${here}`)
  const key = keyColumns(table).map(({ name }) => `e__.${quoteName(name)}`)
  if (found === undefined && key.length > 0) {
    const named = `${quoteName(table.schema)}.${quoteName(table.name)} AS e__`
    const [values] = await reader.rows({ text: `SELECT ${key.join(', ')} FROM ${named} WHERE e__.${here}` })
    const equal = key.map((name, index) => `${name} = ${quoteText(values?.[index] ?? '')}`).join(' AND ')
    if (values !== undefined) [found] = await find(equal)
  }
  const [to, at] = found ?? []
  if (!to || !at) throw new PreviewUnsupported('WHERE CURRENT OF a row that the run has deleted or written')
  return { tableoid: to, ctid: at }
}

/** The cursor must scan all the tables that the write looks for its row in. */
async function refuseOtherTables(
  reader: ReadOnly,
  cursor: string,
  target: Table,
  relation: string,
  filtered: boolean,
): Promise<void> {
  const below = (oid: string) => `SELECT CAST(${oid} AS oid) UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN`
  const [row] = await reader.rows({
    text:
      `WITH RECURSIVE own(oid) AS (${below(target.oid)} own ON i.inhparent = own.oid), ` +
      `scanned(oid) AS (${below(`${quoteText(relation)}::regclass`)} scanned ON i.inhparent = scanned.oid) ` +
      'SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM scanned), ' +
      '(SELECT count(*) FROM own JOIN scanned USING (oid)), (SELECT relkind FROM pg_catalog.pg_class WHERE oid = ' +
      `${quoteText(relation)}::regclass)`,
  })
  const [own, scanned, both, kind] = row ?? []
  if (kind !== 'r' && kind !== 'p') throw new PreviewUnsupported('WHERE CURRENT OF a cursor over no table')
  if (both === '0') throw notUpdatable(cursor, target.name)
  // What the planner leaves out of a scan the server does not find.
  if (both !== own || (filtered && scanned !== '1')) {
    throw new PreviewUnsupported('WHERE CURRENT OF a cursor over a part of the tables')
  }
}
