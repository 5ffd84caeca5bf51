import type { InsertStmt, Node, SelectStmt } from '@pgsql/types'
import type { Column } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { assignPart, defaultOf, writtenColumn } from './preview-assign.js'
import { conflictingInsert } from './preview-conflict.js'
import {
  castTo,
  dropSchema,
  idPerRow,
  NO_ROW_ID,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  rowAsText,
  type Target,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { bindReturning, tableoidOf } from './preview-returning.js'
import { resolveTarget } from './preview-target.js'
import type { RewriteResult } from './rewrite-result.js'
import { contains, quoteName } from './tree.js'
import { TriggerFiring } from './trigger-fire.js'
import { violationColumn } from './violation-column.js'

/** Rows for which each id is listed; more count up from the last one. */
const MAX_LISTED_IDS = 1000

/** The rows an INSERT reads from: a FROM item called `s__`, and each given column's expression over it. */
interface Source {
  readonly from: string
  readonly given: Map<string, string>
  /** How many rows, where the statement says so. */
  readonly rows: number | undefined
}

/** `INSERT` becomes a SELECT over its own rows, with defaults and generated columns filled in. */
export async function previewInsert(statement: InsertStmt, options: PreviewOptions): Promise<RewriteResult> {
  const target = await resolveTarget(
    statement.relation,
    statement.onConflictClause === undefined ? 'INSERT' : 'UPSERT',
    options,
  )
  dropSchema(statement, target.relation)
  const { columns, table, quotedAlias, view } = target
  const prefix = withPrefix(statement.withClause)
  const syntheticIds: string[] = []
  const takeIds = (count: number, column: Column): readonly string[] => {
    const ids = options.syntheticIds(count, column)
    syntheticIds.push(...ids)
    return ids
  }
  const source = await sourceOf(statement, target, options, (column) => idPerRow(takeIds(1, column)))
  dropOverridden(statement, columns, source.given)

  const drawsIds = columns.some((column) => !source.given.has(column.name) && usesSequence(column))
  const rows = drawsIds
    ? (source.rows ?? (await countRows(`${prefix}SELECT count(*) FROM ${source.from}`, options)))
    : 0
  const ids = (column: Column): string => {
    if (rows === 0) return 'NULL'
    if (rows !== undefined && rows <= MAX_LISTED_IDS) return idPerRow(takeIds(rows, column))
    return `(${takeIds(1, column)[0]}::bigint + row_number() OVER () - 1)`
  }
  const list = columns.map((column) => {
    const value = source.given.get(column.name) ?? castTo(column, defaultOf(column, target, ids))
    return `${column.generated ? 'NULL' : value} AS ${quoteName(column.name)}`
  })
  const upsert = statement.onConflictClause?.action === 'ONCONFLICT_UPDATE'
  const firing = new TriggerFiring(target, options)
  await firing.statement('INSERT', ...(upsert ? (['UPDATE'] as const) : []))
  const event = { event: 'INSERT', single: source.rows === 1 } as const
  const before = await firing.before({
    ...event,
    dropped: statement.onConflictClause !== undefined,
    query: `SELECT ${[...list, 'row_number() OVER () AS ord__'].join(', ')} FROM ${source.from}`,
    hidden: ['ord__'],
  })
  const inserted = withGenerated(before.query, columns, before.hidden)
  const result = { operation: 'INSERT' as const, target }
  if (statement.onConflictClause !== undefined) {
    const { hidden } = before
    const insert = { target, inserted, hidden, statement, options, firing }
    const { select, list, returning } = await conflictingInsert(statement.onConflictClause, insert)
    const { ids, ...fired } = firing.result(quotedAlias, (text) => prefix + select(text))
    const sql = prefix + select(list)
    return { ...result, ...fired, syntheticIds: [...syntheticIds, ...ids], returning, upsert, sql }
  }
  const written = await firing.after({ ...event, query: inserted, hidden: before.hidden })
  const row = view === undefined ? quotedAlias : 'n__'
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    bindAll: view !== undefined,
    column: visible,
    old: null,
    fresh: visible,
    tableoid: tableoidOf(table, row),
  })
  const selected = [
    "'i'::text AS op__",
    'NULL::text[] AS old__',
    `${rowAsText(row, columns)} AS new__`,
    violationColumn(table, row, {
      command: 'a',
      replaces: false,
      reads: statement.returningClause !== undefined,
      viewChecks: view?.checks(row),
      raised: firing.raised(row),
      existing: (alias) => readFrom(target, options, alias),
    }),
    NO_ROW_ID,
    ...(returning ?? []),
  ]
  const shown = view === undefined ? '' : `, LATERAL (${view.shown(row)}) AS ${quotedAlias}`
  const select = (text: string, condition?: string) =>
    `${prefix}SELECT ${text} FROM (${written.query}) AS ${row}${shown}` +
    `${condition === undefined ? '' : ` WHERE ${condition}`} ORDER BY ${row}.ord__`
  const { ids: drawn, ...fired } = firing.result(row, select)
  return {
    ...result,
    ...fired,
    syntheticIds: [...syntheticIds, ...drawn],
    returning: returning === null ? null : returning.length,
    sql: select(selected.join(', '), firing.kept(row)),
  }
}

function usesSequence(column: Column): boolean {
  return column.identity !== '' || /nextval\(/.test(column.default ?? '')
}

async function countRows(query: string, options: PreviewOptions): Promise<number | undefined> {
  try {
    return await options.countRows?.(query)
  } catch {
    // Inside WITH the query may name what only the whole statement defines.
    return undefined
  }
}

async function sourceOf(
  statement: InsertStmt,
  target: Target,
  options: PreviewOptions,
  oneId: (column: Column) => string,
): Promise<Source> {
  const columns = givenColumns(statement, target)
  const query = statement.selectStmt
  if (query === undefined) return { from: '(SELECT 1) AS s__(dummy__)', given: new Map(), rows: 1 }
  if (!('SelectStmt' in query)) throw new PreviewUnsupported('source of INSERT')
  const select = query.SelectStmt
  if (
    select.valuesLists !== undefined &&
    !select.withClause &&
    !select.sortClause &&
    !select.limitCount &&
    !select.limitOffset
  ) {
    return valuesSource(select.valuesLists, columns, target, oneId)
  }
  return await selectSource(select, columns, options)
}

/** What one column of an INSERT's list means: a column, or a part of one. */
interface Place {
  readonly column: Column
  readonly path: readonly Node[]
}

function givenColumns(statement: InsertStmt, target: Target): readonly Place[] {
  if (statement.cols === undefined) {
    // A view's own expressions are not to be written; those at the end need not be.
    const first = target.view === undefined ? -1 : target.visible.findIndex((name) => !target.view?.columnOf.has(name))
    const names = first < 0 ? target.visible : target.visible.slice(0, first)
    return names.map((name) => ({ column: writtenColumn(target, name), path: [] }))
  }
  return statement.cols.map((item) => {
    const named = 'ResTarget' in item ? item.ResTarget : undefined
    return { column: writtenColumn(target, named?.name), path: named?.indirection ?? [] }
  })
}

/** Values by column, where several may each give a part of one. */
function collect(places: readonly { readonly place: Place; readonly value: string }[]): Map<string, string> {
  const given = new Map<string, string>()
  for (const { place, value } of places) {
    const { column, path } = place
    if (column.generated) continue
    const known = given.get(column.name) ?? `CAST(NULL AS ${column.type})`
    given.set(column.name, path.length === 0 ? value : castTo(column, assignPart(column, path, known, value)))
  }
  return given
}

function valuesSource(
  lists: readonly Node[],
  all: readonly Place[],
  target: Target,
  oneId: (column: Column) => string,
): Source {
  const rows = lists.map((list) => ('List' in list ? (list.List.items ?? []) : []))
  const width = rows[0]?.length ?? 0
  if (width === 0 || width > all.length) throw new PreviewUnsupported('more values than columns')
  const places = all.slice(0, width)
  // A column that is DEFAULT in every row is left to the column's default, which knows the row's number.
  const omitted = places.map((_, index) => rows.every((row) => isDefault(row[index])))
  const cells = rows.map((row) =>
    places
      .map(({ column, path }, index) => {
        const cell = row[index]
        if (omitted[index] || cell === undefined) return 'NULL'
        if (path.length > 0) return partValue(column, path, deparse(cell))
        return castTo(column, isDefault(cell) ? defaultOf(column, target, oneId) : deparse(cell))
      })
      .join(', '),
  )
  const given = collect(places.flatMap((place, index) => (omitted[index] ? [] : [{ place, value: `s__.x${index}` }])))
  // One row is a select list to the server too, where a function may give several.
  const values = cells.length === 1 ? `SELECT ${cells[0]}` : `VALUES ${cells.map((row) => `(${row})`).join(', ')}`
  return { from: `(${values}) AS s__(${columnAliases(width)})`, given, rows: rows.length }
}

/** A value for a part of a column, with the type that part has. */
function partValue(column: Column, path: readonly Node[], value: string): string {
  const [first] = path
  if (first !== undefined && 'String' in first) {
    const name = first.String.sval
    const type = column.fields?.find((field) => field.name === name)?.type
    return type === undefined ? value : `CAST((${value}) AS ${type})`
  }
  const slice = first !== undefined && 'A_Indices' in first && first.A_Indices.is_slice
  const type = slice ? column.type : column.element
  return !type ? value : `CAST((${value}) AS ${type})`
}

function isDefault(node: Node | undefined): boolean {
  return node !== undefined && 'SetToDefault' in node
}

function columnAliases(count: number): string {
  return Array.from({ length: count }, (_, index) => `x${index}`).join(', ')
}

async function selectSource(select: SelectStmt, all: readonly Place[], options: PreviewOptions): Promise<Source> {
  const list = select.targetList
  const plain =
    list !== undefined &&
    (select.op === undefined || select.op === 'SETOP_NONE') &&
    !select.distinctClause &&
    !select.groupClause &&
    !list.some((item) => contains(item, 'A_Star'))
  let width: number
  if (plain) {
    width = list.length
    // As the source of an INSERT a bare parameter or literal takes the column's type; in a subquery it would be text.
    for (const [index, item] of list.entries()) {
      const place = all[index]
      const value = 'ResTarget' in item ? item.ResTarget.val : undefined
      if (place === undefined || place.path.length > 0 || value === undefined || !('ResTarget' in item)) continue
      const untyped = 'ParamRef' in value || ('A_Const' in value && 'sval' in value.A_Const)
      if (untyped) item.ResTarget.val = parseExpression(castTo(place.column, deparse(value)))
    }
  } else {
    if (options.countColumns === undefined) throw new PreviewUnsupported('the number of columns is not known')
    width = await options.countColumns(deparse({ SelectStmt: select }))
  }
  if (width > all.length) throw new PreviewUnsupported('more values than columns')
  const given = collect(
    all.slice(0, width).map((place, index) => {
      const { column, path } = place
      const value = path.length > 0 ? partValue(column, path, `s__.x${index}`) : castTo(column, `s__.x${index}`)
      return { place, value }
    }),
  )
  return { from: `(${deparse({ SelectStmt: select })}) AS s__(${columnAliases(width)})`, given, rows: undefined }
}

/** OVERRIDING decides whether a value for an identity column counts. */
function dropOverridden(statement: InsertStmt, columns: readonly Column[], given: Map<string, string>): void {
  for (const column of columns) {
    if (column.identity === '' || !given.has(column.name)) continue
    if (statement.override === 'OVERRIDING_USER_VALUE') given.delete(column.name)
    else if (column.identity === 'a' && statement.override !== 'OVERRIDING_SYSTEM_VALUE') {
      throw new PreviewUnsupported(`a value for ${column.name}, which is GENERATED ALWAYS`)
    }
  }
}
