import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import type { Statement } from '../../sql/classify.js'
import { ambiguousSettings, markStale, overlayOf } from './overlaid.js'
import type { Session } from './session.js'

/** Has the run's later reads find these tables empty, until it writes to them. */
export async function keepEmptied(
  session: Session,
  statement: Statement,
  empties: readonly string[] | undefined,
): Promise<void> {
  const { conversation, reader, run } = session
  const overlay = overlayOf(run, conversation.client)
  const reason = empties === undefined ? 'it was not worked out' : ambiguousSettings(conversation)
  if (empties === undefined || reason !== undefined) return await markStale(session, statement, reason ?? '')
  const tables: Table[] = []
  for (const name of empties) {
    const [row] = await reader.rows({ text: tableQuery(name) })
    const table = row?.[0] ? readTable(row[0]) : undefined
    // The rows of a partitioned table are those of its partitions, which have names of their own.
    if (table?.kind !== 'r') return await markStale(session, statement, `${name} is no plain table`)
    tables.push(table)
  }
  const { undo } = conversation.state
  undo.follow(overlay)
  overlay.empty(undo, tables)
}
