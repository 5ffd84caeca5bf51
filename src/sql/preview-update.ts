import type { DeleteStmt, Node, UpdateStmt } from '@pgsql/types'
import type { Column } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { assignments } from './preview-assign.js'
import {
  constrainedRows,
  dropSchema,
  idPerRow,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  rowId,
  type Target,
  textArray,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { bindReturning, returnsOld, tableoidOf } from './preview-returning.js'
import { assignedNames, resolveTarget } from './preview-target.js'
import type { RewriteResult } from './rewrite-result.js'
import { policyTest } from './row-security.js'
import { changedColumns, columnOf, leftByRules } from './rule-rows.js'
import { contains, nameParts, quoteName, quoteText, walk } from './tree.js'
import { oldColumns, ordinal, TriggerFiring } from './trigger-fire.js'
import { isReadInPart } from './unreadable.js'
import { referencedColumn, violationColumn } from './violation-column.js'
import { namedRows, spellWholeRows } from './whole-rows.js'

/** Where a rewrite finds the old row: the FROM item, and the table's columns and address in it. */
export interface OldRow {
  readonly from: string
  readonly table: string
  readonly address: string
  column(column: Column): string
}

export function oldRow(target: Target, options: PreviewOptions): OldRow {
  const { view, quotedAlias, columns } = target
  if (view === undefined) {
    return {
      from: readFrom(target, options),
      table: `${quotedAlias}.tableoid`,
      address: `${quotedAlias}.ctid`,
      column: ({ name }) => `${quotedAlias}.${quoteName(name)}`,
    }
  }
  return {
    from: view.oldRows(options, target.alias),
    table: `${quotedAlias}.to__`,
    address: `${quotedAlias}.ctid__`,
    column: (column) => `${quotedAlias}.b${columns.indexOf(column)}__`,
  }
}

/** The row the statement's name of the table stands for; spelled out where it is a subquery in the rewrite. */
function wholeRow({ alias, visible: columns, rowType, table, view }: Target, options: PreviewOptions) {
  const spelled =
    view !== undefined || table.kind === 'v' || isReadInPart(table) || options.source?.(table, alias) !== undefined
  return [alias, { columns, type: spelled ? rowType : undefined }] as const
}

/** `WHERE CURRENT OF` as a condition on the row's address; others as they are. */
async function located(
  condition: Node | undefined,
  target: Target,
  old: OldRow,
  options: PreviewOptions,
): Promise<Node | undefined> {
  if (condition === undefined || !('CurrentOfExpr' in condition)) return condition
  const { cursor_name: cursor } = condition.CurrentOfExpr
  if (!cursor || options.cursorRow === undefined) return condition
  const { tableoid, ctid } = await options.cursorRow(cursor, target.table)
  const row = `(CAST(${quoteText(tableoid)} AS oid), CAST(${quoteText(ctid)} AS tid))`
  return parseExpression(`(${old.table}, ${old.address}) = ${row}`)
}

/** The condition of a statement, with what row security and rules add to it. */
export function whereOf(
  condition: Node | undefined,
  command: 'w' | 'd',
  target: Target,
  old: OldRow,
  left?: string,
): string {
  if (contains(condition, 'CurrentOfExpr')) throw new PreviewUnsupported('WHERE CURRENT OF')
  const terms = condition === undefined ? [] : [`(${deparse(condition)})`]
  const policies = policyTest(target.table, command, 'using', old.column)
  if (policies !== undefined) terms.push(policies)
  if (left !== undefined) terms.push(left)
  return terms.length === 0 ? '' : ` WHERE ${terms.join(' AND ')}`
}

/** An expression names a column of the table, which takes the right to read it. */
function names(root: unknown, { alias, visible }: Target): boolean {
  let found = false
  walk(root, (tag, value: { fields?: Node[] }) => {
    if (tag !== 'ColumnRef') return !found
    const [first = '', second] = nameParts(value.fields)
    if (second === undefined ? visible.includes(first) : first === alias) found = true
    return !found
  })
  return found
}

/** The value of each column after an UPDATE, as text over {@link OldRow.from}; NULL for generated columns. */
export function changedValues(statement: UpdateStmt, target: Target, options: PreviewOptions, old: OldRow) {
  const syntheticIds: string[] = []
  const assigned = assignments(
    statement.targetList ?? [],
    target,
    (column) => {
      const ids = options.syntheticIds(1, column)
      syntheticIds.push(...ids)
      return idPerRow(ids)
    },
    old.column,
  )
  const values = target.columns.map((column) =>
    column.generated ? 'NULL' : (assigned.values.get(column.name) ?? old.column(column)),
  )
  return { assigned, values, syntheticIds }
}

/**
 * `UPDATE t SET c = e FROM f WHERE w RETURNING r` becomes a SELECT over `f` and
 * a LATERAL subquery of the same name as `t`: inside it `t` is the old row
 * (what SET and WHERE see), outside the new one (what RETURNING sees). Through a
 * view the table's row is `n__`, and the name stands for the view's columns of it.
 */
export async function previewUpdate(statement: UpdateStmt, options: PreviewOptions): Promise<RewriteResult> {
  const target = await resolveTarget(statement.relation, 'UPDATE', options, assignedNames(statement.targetList))
  dropSchema(statement, target.relation)
  const { table, columns, quotedAlias, view } = target
  const old = oldRow(target, options)
  const named = new Map([...namedRows(statement.fromClause ?? []), wholeRow(target, options)])
  spellWholeRows([statement.targetList, statement.whereClause], named)
  const { assigned, values, syntheticIds } = changedValues(statement, target, options, old)
  const newValues = columns.map(({ name }, index) => `${values[index]} AS ${quoteName(name)}`)
  const from = statement.fromClause ?? []
  const wantsOld = returnsOld(statement, target, from)
  const kept = wantsOld ? target.visible.map((name, index) => `${quotedAlias}.${quoteName(name)} AS o${index}__`) : []
  const hidden = ['to__', 'ctid__', 'old__', ...kept.map((_, index) => `o${index}__`)]
  const firing = new TriggerFiring(target, options)
  await firing.statement('UPDATE')
  const fires = firing.firesRows('UPDATE', ...(table.kind === 'p' ? (['INSERT', 'DELETE'] as const) : []))
  const before = oldColumns(fires ? columns : [], old.column)
  hidden.push(...before.names, ...(fires ? ['ord__'] : []))
  const more = [...before.list, ...(fires ? [ordinal(old.address)] : [])]
  const leading = [`${old.table} AS to__`, `${old.address} AS ctid__`, `${textArray(columns.map(old.column))} AS old__`]
  const rows = { old: columnOf(target, columns.map(old.column)), fresh: changedColumns(target, values) }
  const condition = await located(statement.whereClause, target, old, options)
  const where = whereOf(condition, 'w', target, old, leftByRules(options, target, rows))
  const event = { event: 'UPDATE', changed: new Set(assigned.values.keys()), old: before.of } as const
  const changed = await firing.before({
    ...event,
    query: `SELECT ${[...leading, ...kept, ...more, ...newValues].join(', ')} FROM ${old.from}${assigned.joins.join('')}${where}`,
    hidden,
  })
  const complete = withGenerated(
    changed.query,
    columns,
    changed.hidden,
    table.kind === 'p' ? tableoidOf(table, 'b__') : `coalesce(nullif(b__.to__, 0), ${table.oid})`,
  )
  const changedRow = (await firing.after({ ...event, query: complete, hidden: changed.hidden })).query
  const row = view === undefined ? quotedAlias : 'n__'
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    from,
    bindAll: view !== undefined,
    column: visible,
    old: (name) => `${row}.o${target.visible.indexOf(name)}__`,
    oldAddress: `${row}.ctid__`,
    fresh: visible,
    tableoid: table.kind === 'p' ? tableoidOf(table, row) : `coalesce(nullif(${row}.to__, 0), ${table.oid})`,
  })
  // A row that matches several rows of FROM is updated once.
  const once = from.length === 0 ? '' : `DISTINCT ON (${row}.to__, ${row}.ctid__) `
  const list = [
    "'u'::text AS op__",
    `${row}.old__`,
    `${textArray(columns.map(({ name }) => `${row}.${quoteName(name)}`))} AS new__`,
    violationColumn(table, row, {
      command: 'w',
      changed: new Set(assigned.values.keys()),
      replaces: true,
      reads:
        statement.whereClause !== undefined ||
        statement.returningClause !== undefined ||
        names(statement.targetList, target),
      old: (index) => `${row}.old__[${index + 1}]`,
      viewChecks: view?.checks(row),
      raised: firing.raised(row),
      existing: (alias) => constrainedRows(table, options, alias),
    }),
    rowId(`${row}.to__`, `${row}.ctid__`),
    ...(returning ?? []),
  ]
  const sources = [...from.map((item) => deparse(item)), `LATERAL (${changedRow}) AS ${row}`]
  if (view !== undefined) sources.push(`LATERAL (${view.shown(row)}) AS ${quotedAlias}`)
  const select = (text: string, condition?: string) =>
    `${withPrefix(statement.withClause)}SELECT ${once}${text} FROM ${sources.join(', ')}` +
    `${condition === undefined ? '' : ` WHERE ${condition}`}`
  const { ids, ...fired } = firing.result(row, select)
  return {
    operation: 'UPDATE',
    ...fired,
    target,
    returning: returning === null ? null : returning.length,
    syntheticIds: [...syntheticIds, ...ids],
    sql: select(list.join(', '), firing.kept(row)),
  }
}

/** `DELETE FROM t USING f WHERE w RETURNING r` reads the rows it would delete. */
export async function previewDelete(statement: DeleteStmt, options: PreviewOptions): Promise<RewriteResult> {
  const target = await resolveTarget(statement.relation, 'DELETE', options)
  dropSchema(statement, target.relation)
  const { table, columns, quotedAlias, view } = target
  const old = oldRow(target, options)
  spellWholeRows([statement.whereClause], new Map([wholeRow(target, options)]))
  const using = statement.usingClause ?? []
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    from: using,
    column: visible,
    old: visible,
    oldAddress: old.address,
    fresh: null,
    tableoid: view === undefined ? `${quotedAlias}.tableoid` : `${quotedAlias}.to__`,
    physical: view === undefined && !isReadInPart(table) && options.source?.(table, target.alias) === undefined,
  })
  const once = using.length === 0 ? '' : `DISTINCT ON (${old.table}, ${old.address}) `
  const firing = new TriggerFiring(target, options)
  await firing.statement('DELETE')
  const sources = [old.from, ...using.map((item) => deparse(item))]
  if (firing.firesRows('DELETE')) sources.push(`LATERAL (${await deletedRow(firing, columns, old)}) AS d__`)
  const list = [
    "'d'::text AS op__",
    `${textArray(columns.map(old.column))} AS old__`,
    'NULL::text[] AS new__',
    referencedColumn(table, old.column, [], firing.raised('d__')),
    rowId(old.table, old.address),
    ...(returning ?? []),
  ]
  const rows = { old: columnOf(target, columns.map(old.column)) }
  const condition = await located(statement.whereClause, target, old, options)
  const where = whereOf(condition, 'd', target, old, leftByRules(options, target, rows))
  const select = (text: string, also?: string) => {
    const more = also === undefined ? '' : `${where === '' ? ' WHERE' : ' AND'} ${also}`
    return `${withPrefix(statement.withClause)}SELECT ${once}${text} FROM ${sources.join(', ')}${where}${more}`
  }
  const { ids, ...fired } = firing.result('d__', select)
  return {
    operation: 'DELETE',
    ...fired,
    target,
    returning: returning === null ? null : returning.length,
    syntheticIds: ids,
    sql: select(list.join(', '), firing.kept('d__')),
  }
}

/** What triggers make of the deletion of the row in sight: no row where they leave it out. */
async function deletedRow(firing: TriggerFiring, columns: readonly Column[], old: OldRow): Promise<string> {
  const before = oldColumns(columns, old.column)
  const plain = columns.map((column) => `${old.column(column)} AS ${quoteName(column.name)}`)
  const event = { event: 'DELETE', old: before.of } as const
  const row = await firing.before({
    ...event,
    query: `SELECT ${[`${old.table} AS to__`, `${old.address} AS ctid__`, ordinal(old.address), ...before.list, ...plain].join(', ')}`,
    hidden: ['to__', 'ctid__', 'ord__', ...before.names],
  })
  const { query, hidden } = await firing.after({ ...event, ...row })
  // Without the columns' own names, which would be ambiguous in WHERE.
  return `SELECT ${hidden.map((name) => `d__.${name}`).join(', ')} FROM (${query}) d__`
}
