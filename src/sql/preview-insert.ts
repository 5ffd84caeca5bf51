import type { InsertStmt, Node, SelectStmt } from '@pgsql/types'
import type { Column } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { assignPart, defaultOf, partValue, typeOfParts, writtenColumn } from './preview-assign.js'
import { conflictingInsert } from './preview-conflict.js'
import {
  castTo,
  constrainedRows,
  dropSchema,
  idPerRow,
  NO_ROW_ID,
  type PreviewOptions,
  PreviewUnsupported,
  rowAsText,
  type Target,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { bindReturning, tableoidOf } from './preview-returning.js'
import { assignedNames, resolveTarget } from './preview-target.js'
import type { RewriteResult } from './rewrite-result.js'
import { leftByRules } from './rule-rows.js'
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
    assignedNames(statement.onConflictClause?.targetList),
  )
  dropSchema(statement, target.relation)
  const { columns, table, quotedAlias, view } = target
  const upsert = statement.onConflictClause?.action === 'ONCONFLICT_UPDATE'
  const firing = new TriggerFiring(target, options)
  await firing.statement('INSERT', ...(upsert ? (['UPDATE'] as const) : []))
  const { prefix, inserted, hidden, given, single, ...own } = await newRows(statement, target, options, firing)
  const result = { operation: 'INSERT' as const, target }
  if (statement.onConflictClause !== undefined) {
    const { select, list, ...found } = await conflictingInsert(statement.onConflictClause, {
      target,
      inserted,
      hidden,
      firing,
      madeUp: new Set(
        columns.filter((column) => !given.has(column.name) && usesSequence(column)).map(({ name }) => name),
      ),
      statement,
      options,
    })
    const alias = view === undefined ? quotedAlias : 'n__'
    const { ids, ...fired } = firing.result(alias, (text) => prefix + select(text))
    const syntheticIds = [...own.syntheticIds, ...ids]
    return { ...result, ...fired, ...found, syntheticIds, upsert, sql: prefix + select(list) }
  }
  const written = await firing.after({ event: 'INSERT', single, query: inserted, hidden })
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
      existing: (alias) => constrainedRows(table, options, alias),
    }),
    NO_ROW_ID,
    ...(returning ?? []),
  ]
  const shown = view === undefined ? '' : `, LATERAL (${view.shown(row)}) AS ${quotedAlias}`
  const select = (text: string, kept?: string) =>
    `${prefix}SELECT ${text} FROM (${written.query}) AS ${row}${shown}` +
    `${kept === undefined ? '' : ` WHERE ${kept}`} ORDER BY ${row}.ord__`
  const { ids, ...fired } = firing.result(row, select)
  return {
    ...result,
    ...fired,
    syntheticIds: [...own.syntheticIds, ...ids],
    returning: returning === null ? null : returning.length,
    sql: select(selected.join(', '), firing.kept(row)),
  }
}

/** What an INSERT would insert. */
export interface NewRows {
  /** WITH of the statement. */
  readonly prefix: string
  /** Query of whole rows with their order in `ord__`. */
  readonly inserted: string
  /** Its columns that are none of the table's. */
  readonly hidden: readonly string[]
  /** It has one row at most. */
  readonly single: boolean
  /** Columns that the statement gives values for. */
  readonly given: ReadonlyMap<string, string>
  readonly syntheticIds: readonly string[]
}

/**
 * The rows an INSERT would insert, before it meets those that are there.
 * Without `firing` they are as they come to its triggers, which is how rules see them.
 */
export async function newRows(
  statement: InsertStmt,
  target: Target,
  options: PreviewOptions,
  firing?: TriggerFiring,
): Promise<NewRows> {
  const { columns } = target
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
  const query = `SELECT ${[...list, 'row_number() OVER () AS ord__'].join(', ')} FROM ${source.from}`
  const complete = (text: string, hidden: readonly string[]) =>
    withGenerated(text, columns, hidden, tableoidOf(target.table, 'b__'))
  const { given } = source
  const left = leftByRules(options, target, { fresh: (name) => `i__.${quoteName(name)}` })
  const asked = left === undefined ? query : `SELECT i__.* FROM (${complete(query, ['ord__'])}) AS i__ WHERE ${left}`
  const event = { event: 'INSERT', single: source.rows === 1 } as const
  const dropped = statement.onConflictClause !== undefined
  const rest = { ...event, dropped, query: asked, hidden: ['ord__'] }
  const before = firing === undefined ? rest : await firing.before(rest)
  const inserted = left !== undefined && before.query === asked ? asked : complete(before.query, before.hidden)
  return { prefix, given, syntheticIds, inserted, hidden: before.hidden, single: event.single }
}

function usesSequence(column: Column): boolean {
  return column.identity !== '' || /nextval\(/.test(column.default ?? column.domainDefault ?? '')
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
  return await selectSource(select, columns, withPrefix(statement.withClause), options)
}

/** What one column of an INSERT's list means: a column, or a part of one. */
interface Place {
  readonly column: Column
  readonly path: readonly Node[]
}

function givenColumns(statement: InsertStmt, target: Target): readonly Place[] {
  if (statement.cols === undefined) {
    // Columns of a view that cannot be written come after those that are given.
    const end = target.visible.findIndex((name) => target.view !== undefined && !target.view.columnOf.has(name))
    const given = end < 0 ? target.visible : target.visible.slice(0, end)
    return given.map((name) => ({ column: writtenColumn(target, name), path: [] }))
  }
  return statement.cols.map((item) => {
    const named = 'ResTarget' in item ? item.ResTarget : undefined
    return { column: writtenColumn(target, named?.name), path: named?.indirection ?? [] }
  })
}

/** Values by column, where several may each give a part of one. */
function collect(places: readonly { readonly place: Place; readonly value: string }[]): Map<string, string> {
  const given = new Map<string, string>()
  const inParts = new Set<Column>()
  for (const { place, value } of places) {
    const { column, path } = place
    if (column.generated) continue
    // Not of the column's own type: a domain need not allow NULL.
    const known = given.get(column.name) ?? `CAST(NULL AS ${typeOfParts(column)})`
    given.set(column.name, path.length === 0 ? value : assignPart(column, path, known, value))
    if (path.length > 0) inParts.add(column)
  }
  for (const column of inParts) given.set(column.name, castTo(column, given.get(column.name) ?? 'NULL'))
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

function isDefault(node: Node | undefined): boolean {
  return node !== undefined && 'SetToDefault' in node
}

function columnAliases(count: number): string {
  return Array.from({ length: count }, (_, index) => `x${index}`).join(', ')
}

async function selectSource(
  select: SelectStmt,
  all: readonly Place[],
  prefix: string,
  options: PreviewOptions,
): Promise<Source> {
  const list = select.targetList
  if (list === undefined && select.valuesLists === undefined && (select.op ?? 'SETOP_NONE') === 'SETOP_NONE') {
    const rows = { ...select, targetList: [{ ResTarget: { val: parseExpression('1') } }] }
    return { from: `(${deparse({ SelectStmt: rows })}) AS s__(dummy__)`, given: new Map(), rows: undefined }
  }
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
    width = await options.countColumns(prefix + deparse({ SelectStmt: select }))
  }
  if (width > all.length) throw new PreviewUnsupported('more values than columns')
  const given = collect(
    all.slice(0, width).map((place, index) => {
      const { column, path } = place
      const value = path.length > 0 ? partValue(column, path, `s__.x${index}`) : castTo(column, `s__.x${index}`)
      return { place, value }
    }),
  )
  const names = width === 0 ? '' : `(${columnAliases(width)})`
  return { from: `(${deparse({ SelectStmt: select })}) AS s__${names}`, given, rows: undefined }
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
