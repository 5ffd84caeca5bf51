import { messageOf } from '../../errors.js'
import type { Reference, Table } from '../../sql/catalog.js'
import { classify, type Statement } from '../../sql/classify.js'
import type { RowChange, TableChanges } from '../../sql/overlay.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import { quoteName } from '../../sql/tree.js'
import { overlayOf } from './overlaid.js'
import { keepRows, previewWithOwnRows } from './own-rows.js'
import type { Session } from './session.js'

/** Steps from table to table, or from row to row of a table that refers to itself. */
const MAX_DEPTH = 16
const JSON_OID = 114
const CASCADING = /^[cnd]$/

/** A statement that does to the referring rows what a foreign key would. */
interface Along {
  readonly text: string
  /** Keys of the rows referred to, as they were and, of an update, as they would be. */
  readonly keys: readonly (readonly (string | null)[])[]
}

/**
 * Remembers what a blocked write would have written, and what foreign keys
 * would have changed along, for what the run reads and writes next.
 */
export async function keepWithCascades(
  session: Session,
  statement: Statement,
  changes: readonly TableChanges[],
  blind: string | undefined,
  depth = 0,
): Promise<void> {
  await followCascades(session, keepRows(session, statement, changes, blind), depth)
}

/**
 * Works out, as writes of the run's own, what foreign keys would delete or
 * change along with rows it has written, so that its later reads see that too.
 * Where that cannot be done the referring table counts as unknown.
 */
async function followCascades(session: Session, written: readonly TableChanges[], depth: number): Promise<void> {
  for (const { table, rows } of written) {
    for (const reference of table.referencedBy ?? []) {
      for (const along of [deletedAlong(table, rows, reference), changedAlong(table, rows, reference)]) {
        if (along !== undefined) await follow(session, table, reference, along, depth)
      }
    }
  }
}

async function follow(
  session: Session,
  table: Table,
  reference: Reference,
  { text, keys }: Along,
  depth: number,
): Promise<void> {
  const { conversation, run } = session
  const unknown = (why: string): void => {
    const reason = `rows that refer to changed rows of ${table.name} would change with them (${why})`
    overlayOf(run, conversation.client).stale.set(reference.oid, reason)
  }
  const [statement] = classify(text)
  if (statement === undefined || depth >= MAX_DEPTH) return unknown('the chain of foreign keys is too long')
  try {
    const values = [JSON.stringify(keys)]
    const { outcome, blind } = await previewWithOwnRows(session, statement, values, [JSON_OID], {
      invented: true,
      // The server gives up where a rule has made something else of it.
      withoutRules: 'refused',
    })
    if (outcome.violation !== undefined) return unknown(`which would fail: ${outcome.violation.message}`)
    await keepWithCascades(session, statement, outcome.changes, blind, depth + 1)
  } catch (error) {
    if (conversation.lost !== undefined) throw error
    if (!(error instanceof PreviewUnsupported) && !(error instanceof session.library.DatabaseError)) throw error
    unknown(messageOf(error))
  }
}

function deletedAlong(table: Table, rows: readonly RowChange[], reference: Reference): Along | undefined {
  const { onDelete, columns } = reference
  if (!CASCADING.test(onDelete)) return undefined
  const keys = rows.flatMap(({ operation, before }) =>
    operation === 'd' && before !== null ? keyOf(table, reference, before) : [],
  )
  if (keys.length === 0) return undefined
  const listed = columns.map(quoteName).join(', ')
  const among = `(${listed}) IN (SELECT ${keyColumns(table, reference, 0)} FROM json_array_elements($1::json) AS k__(e))`
  if (onDelete === 'c') return { text: `DELETE FROM ${reference.table} WHERE ${among}`, keys }
  return { text: `UPDATE ${reference.table} SET ${assignments(reference, onDelete)} WHERE ${among}`, keys }
}

function changedAlong(table: Table, rows: readonly RowChange[], reference: Reference): Along | undefined {
  const { onUpdate, columns } = reference
  if (!CASCADING.test(onUpdate)) return undefined
  const keys = rows.flatMap(({ operation, before, after }) => {
    if (operation !== 'u' || before === null || after === null) return []
    const [was] = keyOf(table, reference, before)
    const at = positions(table, reference)
    const willBe = at.map((index) => after[index] ?? null)
    return was === undefined || was.every((value, index) => value === willBe[index]) ? [] : [[...was, ...willBe]]
  })
  if (keys.length === 0) return undefined
  const cells = (from: number) => keyCells(table, reference, from)
  const set =
    onUpdate === 'c'
      ? columns.map((name, index) => `${quoteName(name)} = ${cells(columns.length)[index]}`).join(', ')
      : assignments(reference, onUpdate)
  const same = columns.map((name, index) => `c__.${quoteName(name)} = ${cells(0)[index]}`).join(' AND ')
  return {
    text: `UPDATE ${reference.table} AS c__ SET ${set} FROM json_array_elements($1::json) AS k__(e) WHERE ${same}`,
    keys,
  }
}

function assignments({ columns }: Reference, action: string): string {
  return columns.map((name) => `${quoteName(name)} = ${action === 'n' ? 'NULL' : 'DEFAULT'}`).join(', ')
}

/** The row's referenced key; none when a part of it is NULL, which nothing refers to. */
function keyOf(table: Table, reference: Reference, row: readonly (string | null)[]): string[][] {
  const key = positions(table, reference).map((index) => row[index] ?? null)
  return key.every((value) => value !== null) ? [key as string[]] : []
}

function positions(table: Table, { referenced }: Reference): number[] {
  return referenced.map((name) => (table.columns ?? []).findIndex((column) => column.name === name))
}

function keyColumns(table: Table, reference: Reference, from: number): string {
  return keyCells(table, reference, from).join(', ')
}

/** Cells of one key in the parameter, as values of the referenced columns. */
function keyCells(table: Table, reference: Reference, from: number): string[] {
  return positions(table, reference).map(
    (at, index) => `CAST(k__.e ->> ${from + index} AS ${table.columns?.[at]?.type ?? 'text'})`,
  )
}
