import type { InsertStmt, Node, SelectStmt } from '@pgsql/types'
import type { Column } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import type { RewriteResult } from './preview.js'
import { conflictingInsert } from './preview-conflict.js'
import {
  castTo,
  defaultExpression,
  dropSchema,
  idPerRow,
  NO_ROW_ID,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  resolveTarget,
  returningExpressions,
  returningList,
  rowAsText,
  type Target,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { contains, quoteName } from './tree.js'
import { violationColumn } from './violations.js'

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
  const target = await resolveTarget(statement.relation, options)
  dropSchema(statement, target.relation)
  const { columns, table, quotedAlias } = target
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
    const value = source.given.get(column.name) ?? castTo(column, defaultExpression(column, ids))
    return `${column.generated ? 'NULL' : value} AS ${quoteName(column.name)}`
  })
  const inserted = withGenerated(
    `SELECT ${list.join(', ')}, row_number() OVER () AS ord__ FROM ${source.from}`,
    columns,
    ['ord__'],
  )
  const expressions = returningExpressions(statement)
  const returning = expressions === null ? [] : returningList(expressions, target)
  const result = {
    operation: 'INSERT' as const,
    table,
    target,
    returning: expressions === null ? null : returning.length,
    syntheticIds,
  }
  if (statement.onConflictClause !== undefined) {
    const sql = conflictingInsert(statement.onConflictClause, { target, inserted, returning, options })
    return { ...result, upsert: statement.onConflictClause.action === 'ONCONFLICT_UPDATE', sql: prefix + sql }
  }
  const selected = [
    "'i'::text AS op__",
    'NULL::text[] AS old__',
    `${rowAsText(quotedAlias, columns)} AS new__`,
    violationColumn(table, quotedAlias, { replaces: false, existing: (alias) => readFrom(target, options, alias) }),
    NO_ROW_ID,
    ...returning,
  ]
  return {
    ...result,
    sql: `${prefix}SELECT ${selected.join(', ')} FROM (${inserted}) AS ${quotedAlias} ORDER BY ${quotedAlias}.ord__`,
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
    return valuesSource(select.valuesLists, columns, oneId)
  }
  return await selectSource(select, columns, options)
}

function givenColumns(statement: InsertStmt, target: Target): readonly Column[] {
  if (statement.cols === undefined) return target.columns
  return statement.cols.map((item) => {
    const named = 'ResTarget' in item ? item.ResTarget : undefined
    if (named?.indirection?.length) throw new PreviewUnsupported('INSERT into an array element or a field')
    const column = target.columns.find((candidate) => candidate.name === named?.name)
    if (column === undefined) throw new PreviewUnsupported(`unknown column ${named?.name}`)
    return column
  })
}

function valuesSource(lists: readonly Node[], all: readonly Column[], oneId: (column: Column) => string): Source {
  const rows = lists.map((list) => ('List' in list ? (list.List.items ?? []) : []))
  const width = rows[0]?.length ?? 0
  if (width === 0 || width > all.length) throw new PreviewUnsupported('more values than columns')
  const columns = all.slice(0, width)
  // A column that is DEFAULT in every row is left to the column's default, which knows the row's number.
  const omitted = columns.map((_, index) => rows.every((row) => isDefault(row[index])))
  const cells = rows.map((row) =>
    columns
      .map((column, index) => {
        const cell = row[index]
        if (omitted[index] || cell === undefined) return 'NULL'
        return castTo(column, isDefault(cell) ? defaultExpression(column, oneId) : deparse(cell))
      })
      .join(', '),
  )
  const given = new Map<string, string>()
  for (const [index, column] of columns.entries()) {
    if (!omitted[index] && !column.generated) given.set(column.name, `s__.x${index}`)
  }
  const values = cells.map((row) => `(${row})`).join(', ')
  return { from: `(VALUES ${values}) AS s__(${columnAliases(width)})`, given, rows: rows.length }
}

function isDefault(node: Node | undefined): boolean {
  return node !== undefined && 'SetToDefault' in node
}

function columnAliases(count: number): string {
  return Array.from({ length: count }, (_, index) => `x${index}`).join(', ')
}

async function selectSource(select: SelectStmt, all: readonly Column[], options: PreviewOptions): Promise<Source> {
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
      const column = all[index]
      const value = 'ResTarget' in item ? item.ResTarget.val : undefined
      if (column === undefined || value === undefined || !('ResTarget' in item)) continue
      const untyped = 'ParamRef' in value || ('A_Const' in value && 'sval' in value.A_Const)
      if (untyped) item.ResTarget.val = parseExpression(castTo(column, deparse(value)))
    }
  } else {
    if (options.countColumns === undefined) throw new PreviewUnsupported('the number of columns is not known')
    width = await options.countColumns(deparse({ SelectStmt: select }))
  }
  if (width > all.length) throw new PreviewUnsupported('more values than columns')
  const given = new Map<string, string>()
  for (const [index, column] of all.slice(0, width).entries()) {
    if (!column.generated) given.set(column.name, castTo(column, `s__.x${index}`))
  }
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
