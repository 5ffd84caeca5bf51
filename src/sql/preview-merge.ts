import type { MergeStmt, MergeWhenClause, Node } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { deparse } from './grammar.js'
import { assignments, defaultOf, writtenColumn } from './preview-assign.js'
import {
  castTo,
  constrainedRows,
  dropSchema,
  idPerRow,
  type PreviewOptions,
  PreviewUnsupported,
  rowId,
  type Target,
  textArray,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { bindReturning, tableoidOf } from './preview-returning.js'
import { assignedNames, resolveTarget } from './preview-target.js'
import { type OldRow, oldRow } from './preview-update.js'
import type { RewriteResult } from './rewrite-result.js'
import { firstLabel, newRowLabels, policyLabel } from './row-security.js'
import { nameParts, quoteName, replace } from './tree.js'
import { oldColumns, TriggerFiring } from './trigger-fire.js'
import { referencedColumn, violationColumn } from './violation-column.js'

/** One WHEN clause: when it applies, and what each column becomes. */
interface Branch {
  readonly number: number
  readonly condition: string
  readonly operation: 'i' | 'u' | 'd' | undefined
  readonly values: ReadonlyMap<string, string>
  readonly joins: readonly string[]
  /** Columns whose value is drawn from a sequence. */
  readonly drawn: ReadonlySet<string>
}

const HERE = 'h__.here__ IS NOT NULL'

/**
 * `MERGE INTO t USING s ON c WHEN …` becomes a join of the old rows and the
 * source, the number of the clause that applies (`w__`), and the new row it
 * makes (`n__`). RETURNING finds the source under its own name, and the table's
 * columns in the new row.
 */
export async function previewMerge(statement: MergeStmt, options: PreviewOptions): Promise<RewriteResult> {
  const nothing = await mergeOfNothing(statement, options)
  if (nothing !== undefined) return nothing
  const assigned = (statement.mergeWhenClauses ?? []).flatMap((item) =>
    'MergeWhenClause' in item && item.MergeWhenClause.commandType === 'CMD_UPDATE'
      ? assignedNames(item.MergeWhenClause.targetList)
      : [],
  )
  const target = await resolveTarget(statement.relation, 'MERGE', options, assigned)
  dropSchema(statement, target.relation)
  const { table, columns, quotedAlias, view } = target
  const { sourceRelation: source, joinCondition: condition } = statement
  if (source === undefined || condition === undefined) throw new PreviewUnsupported('MERGE')
  const syntheticIds: string[] = []
  const clauses = (statement.mergeWhenClauses ?? []).flatMap((item) =>
    'MergeWhenClause' in item ? [item.MergeWhenClause] : [],
  )
  const old = oldRow(target, options)
  const sourceName = nameOf(source)
  for (const clause of clauses) {
    if (clause.matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_TARGET') qualify(clause, sourceName, target)
  }
  const branches = clauses.map((clause, index) => branchOf(clause, index + 1, target, old, options))
  const kinds = new Set(clauses.map((clause) => clause.matchKind))
  const left = kinds.has('MERGE_WHEN_NOT_MATCHED_BY_SOURCE')
  const right = kinds.has('MERGE_WHEN_NOT_MATCHED_BY_TARGET')
  const join = left && right ? 'FULL JOIN' : left ? 'LEFT JOIN' : right ? 'RIGHT JOIN' : 'JOIN'

  const cases = branches.map(({ number, condition: when }) => `WHEN ${when} THEN ${number}`)
  const next = columns.map((column) => {
    const name = quoteName(column.name)
    const values = branches.flatMap(({ number, values: of }) => {
      const value = of.get(column.name)
      return value === undefined ? [] : [`WHEN ${number} THEN ${value}`]
    })
    // A deleted row is shown as it was; an inserted one has no old values to keep.
    const kept = old.column(column)
    return `${values.length === 0 ? kept : `CASE w__.n__ ${values.join(' ')} ELSE ${kept} END`} AS ${name}`
  })
  const joins = branches.flatMap((branch) => branch.joins).join('')
  const firing = new TriggerFiring(target, options)
  await firing.statement(...eventsOf(branches))
  // Ids are numbered over all rows, behind the triggers.
  const fires = firing.firesRows('INSERT', 'UPDATE', 'DELETE') && branches.every(({ drawn }) => drawn.size === 0)
  const before = oldColumns(fires ? columns : [], old.column)
  const address = [`${old.table} AS to__`, `${old.address} AS ctid__`]
  const query = `SELECT ${[...address, 'w__.n__ AS k__', ...before.list, ...next].join(', ')}${joins}`
  const hidden = ['to__', 'ctid__', 'k__', ...before.names]
  let changed = { query, hidden: hidden as readonly string[] }
  const acts = fires ? branches.flatMap((branch) => eventOf(branch, before.of)) : []
  if (!fires) firing.blind('INSERT', 'UPDATE', 'DELETE')
  for (const event of acts) changed = await firing.before({ ...event, ...changed })
  changed = { ...changed, query: withGenerated(changed.query, columns, changed.hidden) }
  for (const event of acts) changed = await firing.after({ ...event, ...changed })
  const { query: row } = changed

  const operation = caseOf(branches, ({ operation: does }) => (does === undefined ? 'NULL' : `'${does}'`))
  const value = (column: Column): string => {
    const plain = `n__.${quoteName(column.name)}`
    const drawing = branches.filter(({ drawn }) => drawn.has(column.name)).map(({ number }) => number)
    if (drawing.length === 0) return plain
    const ids = options.syntheticIds(1, column)
    syntheticIds.push(...ids)
    // Numbered over all rows: an id is skipped for each row that is not inserted.
    const id = castTo(column, `${idPerRow(ids)} + row_number() OVER () - 1`)
    return `CASE WHEN w__.n__ IN (${drawing.join(', ')}) THEN ${id} ELSE ${plain} END`
  }
  const values = new Map(columns.map((column) => [column.name, value(column)]))
  // Through a view, its columns of the new row are `v__`.
  const after = (name: string) =>
    view === undefined ? (values.get(name) ?? `n__.${quoteName(name)}`) : `v__.${quoteName(name)}`
  const inserts = numbers(branches, 'i')
  const deletes = numbers(branches, 'd')
  const is = (list: readonly number[]) => (list.length === 0 ? 'false' : `w__.n__ IN (${list.join(', ')})`)
  const returning = bindReturning(statement, {
    target,
    from: [source],
    fromFirst: true,
    bindAll: true,
    column: after,
    old: (name) => `${quotedAlias}.${quoteName(name)}`,
    oldPresent: `NOT ${is(inserts)}`,
    oldAddress: 'n__.ctid__',
    fresh: (name) => (deletes.length === 0 ? after(name) : `CASE WHEN NOT ${is(deletes)} THEN ${after(name)} END`),
    freshPresent: `NOT ${is(deletes)}`,
    tableoid: tableoidOf(table, 'n__'),
    action: caseOf(branches, ({ operation: does }) =>
      does === undefined ? 'NULL' : `'${{ i: 'INSERT', u: 'UPDATE', d: 'DELETE' }[does]}'`,
    ),
  })
  const written = ({ name }: Column) => `n__.${quoteName(name)}`
  const label = caseOf(branches, ({ operation: does }) => policyOf(table, does, statement, old, written))
  const raised = firing.raised('n__')
  const violations = violationArray(
    violationColumn(table, 'n__', {
      command: 'w',
      replaces: true,
      policies: table.rowSecurityActive ? [label] : [],
      old: (index) => old.column(columns[index] as Column),
      viewChecks: view?.checks('n__'),
      raised,
      existing: (alias) => constrainedRows(table, options, alias),
    }),
  )
  const deleted = violationArray(referencedColumn(table, old.column, table.rowSecurityActive ? [label] : [], raised))
  const inherited = old.from
  const acting = branches.flatMap(({ number, operation: does }) => (does === undefined ? [] : [number]))
  const selected = [
    `${operation}::text AS op__`,
    `CASE WHEN NOT ${is(inserts)} THEN ${textArray(columns.map(old.column))} END AS old__`,
    `CASE WHEN NOT ${is(deletes)} THEN ${textArray([...values.values()])} END AS new__`,
    `CASE WHEN ${is(deletes)} THEN ${deleted} ELSE ${violations} END AS viol__`,
    rowId(`n__.to__`, `n__.ctid__`),
    ...(returning ?? []),
  ]
  const sources =
    `${inherited} ${join} (${deparse(source)} CROSS JOIN (SELECT true AS here__) h__) ON ${deparse(condition)} ` +
    `CROSS JOIN LATERAL (SELECT CASE ${cases.join(' ')} END AS n__) w__ ` +
    `CROSS JOIN LATERAL (${row}) n__` +
    (view === undefined ? '' : ` CROSS JOIN LATERAL (${view.shown('n__')}) v__`)
  const select = (text: string, kept?: string) =>
    `${withPrefix(statement.withClause)}SELECT ${text} FROM ${sources} WHERE ${is(acting)}` +
    `${kept === undefined ? '' : ` AND ${kept}`}`
  const { ids, ...fired } = firing.result('n__', select)
  return {
    operation: 'MERGE',
    ...fired,
    target,
    returning: returning === null ? null : returning.length,
    syntheticIds: [...syntheticIds, ...ids],
    sql: select(selected.join(', '), firing.kept('n__')),
  }
}

function violationArray(column: string): string {
  return column.replace(/ AS viol__$/, '')
}

/** What row security demands where this is done: of the row that is there, an error instead of passing it by. */
function policyOf(
  table: Table,
  operation: Branch['operation'],
  { returningClause }: MergeStmt,
  old: OldRow,
  written: (column: Column) => string,
): string {
  if (operation === 'i') return firstLabel(newRowLabels(table, 'a', returningClause !== undefined, written))
  if (operation === 'd') return firstLabel(policyLabel(table, ['d', 'using'], old.column, 'target'))
  if (operation === undefined) return 'NULL'
  return firstLabel([
    ...policyLabel(table, ['w', 'using'], old.column, 'target'),
    ...newRowLabels(table, 'w', true, written),
  ])
}

/** With DO NOTHING in every clause no row is ever written, whatever the view is. */
async function mergeOfNothing(statement: MergeStmt, options: PreviewOptions): Promise<RewriteResult | undefined> {
  const { relation, mergeWhenClauses: clauses = [], returningClause } = statement
  const idle = clauses.every((item) => 'MergeWhenClause' in item && item.MergeWhenClause.commandType === 'CMD_NOTHING')
  if (!idle || relation?.relname === undefined || returningClause !== undefined) return undefined
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  const table = await options.lookup(schema + quoteName(relation.relname))
  const target = { relation, table, columns: [], visible: [], rowType: '', alias: '', quotedAlias: '' }
  const sql = "SELECT 'i'::text, NULL::text[], NULL::text[], NULL::text[], NULL::text WHERE false"
  return { operation: 'MERGE', table, target, returning: null, syntheticIds: [], sql }
}

const EVENTS = { i: 'INSERT', u: 'UPDATE', d: 'DELETE' } as const

function eventsOf(branches: readonly Branch[]) {
  return [...new Set(branches.flatMap(({ operation }) => (operation === undefined ? [] : [EVENTS[operation]])))]
}

/** What one clause does to the rows it applies to. */
function eventOf({ number, operation, values }: Branch, old: (column: Column) => string) {
  if (operation === undefined) return []
  const event = { event: EVENTS[operation], where: `$k__ = ${number}` }
  if (operation === 'i') return [event]
  return [{ ...event, old, ...(operation === 'u' ? { changed: new Set(values.keys()) } : {}) }]
}

function numbers(branches: readonly Branch[], operation: string): number[] {
  return branches.flatMap((branch) => (branch.operation === operation ? [branch.number] : []))
}

function caseOf(branches: readonly Branch[], text: (branch: Branch) => string): string {
  return `CASE w__.n__ ${branches.map((branch) => `WHEN ${branch.number} THEN ${text(branch)}`).join(' ')} END`
}

function branchOf(
  clause: MergeWhenClause,
  number: number,
  target: Target,
  old: OldRow,
  options: PreviewOptions,
): Branch {
  const there = `${old.address} IS NOT NULL`
  const matched = {
    MERGE_WHEN_MATCHED: `${there} AND ${HERE}`,
    MERGE_WHEN_NOT_MATCHED_BY_SOURCE: `${there} AND NOT (${HERE})`,
    MERGE_WHEN_NOT_MATCHED_BY_TARGET: `NOT (${there}) AND ${HERE}`,
  }[clause.matchKind ?? 'MERGE_WHEN_MATCHED']
  const condition = [matched, ...(clause.condition === undefined ? [] : [`(${deparse(clause.condition)})`])].join(
    ' AND ',
  )
  const drawn = new Set<string>()
  const empty = { number, condition, values: new Map<string, string>(), joins: [], drawn }
  switch (clause.commandType) {
    case 'CMD_NOTHING':
      return { ...empty, operation: undefined }
    case 'CMD_DELETE':
      return { ...empty, operation: 'd' }
    case 'CMD_UPDATE': {
      const { values, joins } = assignments(
        clause.targetList ?? [],
        target,
        (column) => idPerRow(options.syntheticIds(1, column)),
        old.column,
      )
      if (joins.length > 0) throw new PreviewUnsupported('MERGE with a subquery for several columns')
      return { ...empty, operation: 'u', values }
    }
    case 'CMD_INSERT':
      return { ...empty, operation: 'i', values: insertedValues(clause, target, drawn), drawn }
    default:
      throw new PreviewUnsupported(`MERGE ${clause.commandType}`)
  }
}

function insertedValues(clause: MergeWhenClause, target: Target, drawn: Set<string>): Map<string, string> {
  const given = new Map<string, Node>()
  const columns =
    clause.targetList === undefined
      ? target.visible.slice(0, clause.values?.length ?? 0).map((name) => writtenColumn(target, name))
      : clause.targetList.map((item) => {
          if (!('ResTarget' in item) || item.ResTarget.indirection?.length) {
            throw new PreviewUnsupported('MERGE into a part of a column')
          }
          return writtenColumn(target, item.ResTarget.name)
        })
  for (const [index, column] of columns.entries()) {
    const value = clause.values?.[index]
    const ignored = column.identity !== '' && clause.override === 'OVERRIDING_USER_VALUE'
    if (value !== undefined && !('SetToDefault' in value) && !ignored) given.set(column.name, value)
  }
  return new Map(
    target.columns.map((column) => {
      const value = given.get(column.name)
      if (column.generated) return [column.name, 'NULL'] as const
      if (value !== undefined) return [column.name, castTo(column, deparse(value))] as const
      const expression = defaultOf(column, target, () => {
        drawn.add(column.name)
        return 'NULL'
      })
      return [column.name, castTo(column, expression)] as const
    }),
  )
}

function nameOf(source: Node): string | undefined {
  if ('RangeVar' in source) return source.RangeVar.alias?.aliasname ?? source.RangeVar.relname
  if ('JoinExpr' in source) return undefined
  return (Object.values(source)[0] as { alias?: { aliasname?: string } }).alias?.aliasname
}

/** Where nothing is matched only the source is in sight: a bare name of both is the source's. */
function qualify(clause: MergeWhenClause, source: string | undefined, target: Target): void {
  if (source === undefined) return
  const name = (node: Record<string, unknown>): Node | undefined => {
    // A subquery has names of its own.
    if ('SubLink' in node) return node as Node
    if (!('ColumnRef' in node)) return undefined
    const { fields = [] } = node['ColumnRef'] as { fields?: Node[] }
    const [only] = nameParts(fields)
    if (fields.length !== 1 || only === undefined || !target.visible.includes(only)) return undefined
    return { ColumnRef: { fields: [{ String: { sval: source } }, ...fields] } }
  }
  replace(clause, name)
}
