import type { OnConflictClause } from '@pgsql/types'
import type { Column } from './catalog.js'
import {
  type Arbiter,
  arbitersOf,
  conflicts,
  isFirst,
  isKey,
  keptOneByOne,
  keysOfIncoming,
  picksConflicting,
} from './conflict-arbiters.js'
import { deparse } from './grammar.js'
import { assignments } from './preview-assign.js'
import {
  constrainedRows,
  idPerRow,
  NO_ROW_ID,
  type PreviewOptions,
  rowAsText,
  rowId,
  type Target,
  textArray,
  withGenerated,
} from './preview-parts.js'
import { bindReturning, type Returning, returnsOld, tableoidOf } from './preview-returning.js'
import type { OldRow } from './preview-update.js'
import { firstLabel, newRowLabels, policyLabel } from './row-security.js'
import { quoteName, quoteText } from './tree.js'
import { oldColumns, type TriggerFiring } from './trigger-fire.js'
import { failsEarly, violationColumn } from './violation-column.js'

interface ConflictingInsert {
  readonly target: Target
  /** Query of the rows to insert, with their order in `ord__`. */
  readonly inserted: string
  /** Its hidden columns. */
  readonly hidden: readonly string[]
  readonly firing: TriggerFiring
  /** Columns of these rows whose values are made up. */
  readonly madeUp: ReadonlySet<string>
  readonly statement: Returning
  readonly options: PreviewOptions
}

interface ConflictPreview {
  /** The query, given its list. */
  select(list: string): string
  readonly list: string
  /** Number of RETURNING columns, null without RETURNING. */
  readonly returning: number | null
  readonly rekeys?: readonly string[]
  readonly arbiters?: readonly string[]
}

const TWICE = quoteText('21000mON CONFLICT DO UPDATE command cannot affect row a second time')
const DEFERRABLE = quoteText(
  '55000mON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters',
)

/** `INSERT … ON CONFLICT` over rows that are already worked out. */
export async function conflictingInsert(clause: OnConflictClause, insert: ConflictingInsert): Promise<ConflictPreview> {
  const arbiters = await arbitersOf(clause, insert.target, insert.options)
  return clause.action === 'ONCONFLICT_NOTHING'
    ? await insertOrSkip(clause, arbiters, insert)
    : await insertOrUpdate(clause, arbiters, insert)
}

/** A deferrable arbiter is an error, but only once there is a row. */
function arbiterTests(arbiters: readonly Arbiter[]): string[] {
  return arbiters.every((index) => index.immediate) ? [] : [DEFERRABLE]
}

async function insertOrSkip(
  clause: OnConflictClause,
  all: readonly Arbiter[],
  insert: ConflictingInsert,
): Promise<ConflictPreview> {
  const { target, inserted, hidden: given, firing, statement, options } = insert
  const { table, columns, quotedAlias, view } = target
  const arbiters = all.filter((index) => index.immediate)
  const reads = clause.infer !== undefined || statement.returningClause !== undefined
  // Of rows that conflict with each other the first one is inserted.
  const grouped = arbiters.every((index) => index.equality)
  const firsts = grouped ? arbiters.map((index, number) => `(${isFirst(index, number)})`) : []
  const fails = failsEarly(table, 'x__', reads, insert.madeUp)
  const candidates =
    `SELECT x__.*, (${fails}) AS fails__, (${firsts.join(' AND ') || 'true'}) AS first__ FROM (${inserted}) x__` +
    `${keysOfIncoming(table, arbiters)} WHERE (${fails}) OR NOT EXISTS ` +
    `(SELECT 1 FROM ${constrainedRows(table, options, 'e__')} WHERE ${conflicts(arbiters)})`
  const source = grouped ? `(${candidates})` : keptOneByOne(table, arbiters, candidates)
  const query = `SELECT * FROM ${source} AS c__ WHERE c__.fails__ OR c__.first__`
  const written = await firing.after({ event: 'INSERT', query, hidden: given })
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
  const list = [
    "'i'::text AS op__",
    'NULL::text[] AS old__',
    `${rowAsText(row, columns)} AS new__`,
    violationColumn(table, row, {
      command: 'a',
      replaces: false,
      reads,
      handled: arbiters.map((index) => index.handled),
      arbiter: arbiterTests(all),
      raised: firing.raised(row),
      viewChecks: view?.checks(row),
      existing: (alias) => constrainedRows(table, options, alias),
    }),
    NO_ROW_ID,
    ...(returning ?? []),
  ]
  const shown = view === undefined ? '' : `, LATERAL (${view.shown(row)}) AS ${quotedAlias}`
  return {
    select: (text) => `SELECT ${text} FROM (${written.query}) AS ${row}${shown} ORDER BY ${row}.ord__`,
    list: list.join(', '),
    returning: returning === null ? null : returning.length,
  }
}

/**
 * The row that is there, under the statement's own name for it and nothing
 * else: whole-row references must not meet columns of ours.
 */
function existingRow(target: Target, options: PreviewOptions): OldRow {
  const { table, view, quotedAlias, columns } = target
  if (view === undefined && options.source?.(table, target.alias) === undefined) {
    return {
      from: constrainedRows(table, options, target.alias),
      table: `${quotedAlias}.tableoid`,
      address: `${quotedAlias}.ctid`,
      column: ({ name }) => `${quotedAlias}.${quoteName(name)}`,
    }
  }
  const kept = columns.map(({ name }, index) => `r__.${quoteName(name)} AS b${index}__`)
  const row = `SELECT ${columns.map(({ name }, index) => `e__.b${index}__ AS ${quoteName(name)}`).join(', ')}`
  // The view's own condition does not count: a row outside of it conflicts, and is updated.
  const shown =
    view === undefined ? row : `SELECT v__.* FROM (${row}) AS r__ CROSS JOIN LATERAL (${view.shown('r__')}) AS v__`
  return {
    from:
      `(SELECT r__.tableoid AS to__, r__.ctid AS ctid__, ${kept.join(', ')} FROM ${constrainedRows(table, options, 'r__')}) AS e__ ` +
      `CROSS JOIN LATERAL (${shown}) AS ${quotedAlias}`,
    table: 'e__.to__',
    address: 'e__.ctid__',
    column: (column) => `e__.b${columns.indexOf(column)}__`,
  }
}

/**
 * `excluded` is the incoming row. The existing row keeps the table's name
 * inside the LATERAL subquery, where SET and WHERE see it.
 */
async function insertOrUpdate(
  clause: OnConflictClause,
  arbiters: readonly Arbiter[],
  insert: ConflictingInsert,
): Promise<ConflictPreview> {
  const { target, inserted, hidden: given, firing, statement, options } = insert
  const { table, columns, quotedAlias, view } = target
  const old = existingRow(target, options)
  const assigned = assignments(
    clause.targetList ?? [],
    target,
    (column) => idPerRow(options.syntheticIds(1, column)),
    old.column,
  )
  const wantsOld = returnsOld(statement, target)
  const kept = wantsOld ? target.visible.map((name, index) => `${quotedAlias}.${quoteName(name)} AS o${index}__`) : []
  const olds = kept.map((_, index) => `o${index}__`)
  const updated = columns.map((column) => {
    const name = quoteName(column.name)
    if (column.generated) return `CAST(NULL AS ${column.type}) AS ${name}`
    return `${assigned.values.get(column.name) ?? old.column(column)} AS ${name}`
  })
  const condition = clause.whereClause === undefined ? 'true' : `(${deparse(clause.whereClause)})`
  const column = (name: string) => old.column(columns.find((each) => each.name === name) as Column)
  const picks = picksConflicting(target, arbiters, options, { ...old, column })
  // The row to be updated must be one that policies let us update.
  const hidden = firstLabel([
    ...policyLabel(table, ['w', 'using'], old.column, 'conflicting'),
    ...policyLabel(table, ['r', 'using'], old.column, 'conflicting'),
  ])
  const before = oldColumns(firing.firesRows('UPDATE') ? columns : [], old.column)
  const event = { event: 'UPDATE', changed: new Set(assigned.values.keys()), old: before.of } as const
  const existing = await firing.before({
    ...event,
    query:
      `SELECT ${old.table} AS to__, ${old.address} AS ctid__, ${textArray(columns.map(old.column))} AS old__, ` +
      `CAST(${hidden} AS text) AS hidden__, ${[...kept, ...before.list, ...updated].join(', ')}, ${condition} AS ok__ ` +
      `FROM ${old.from}${assigned.joins.join('')} WHERE ${picks}`,
    hidden: ['to__', 'ctid__', 'old__', 'hidden__', ...olds, ...before.names, 'ok__'],
    verdict: 'ok__',
    where: '$ok__',
  })
  const carried = existing.hidden.filter((name) => name !== 'ok__')
  const either = columns.map((each) => {
    const name = quoteName(each.name)
    return `CASE WHEN u__.ctid__ IS NOT NULL THEN u__.${name} ELSE x__.${name} END AS ${name}`
  })
  const excluded = view?.shown('x__') ?? `SELECT ${columns.map(({ name }) => `x__.${quoteName(name)}`).join(', ')}`
  const plain = arbiters.every((index) => index.columns !== undefined)
  // Plain keys are compared as the rows come.
  const twin = plain ? 'false' : `NOT (${arbiters.map((index, number) => `(${isFirst(index, number)})`).join(' AND ')})`
  const complete = withGenerated(
    `SELECT ${[...given.map((name) => `x__.${name}`), `${twin} AS twin__`, ...carried.map((name) => `u__.${name}`), ...either].join(', ')} ` +
      `FROM (${inserted}) AS x__${keysOfIncoming(table, arbiters)} CROSS JOIN LATERAL (${excluded}) AS excluded ` +
      // What the new row itself would break comes first, even where it is not to be inserted.
      `LEFT JOIN LATERAL (${existing.query}) AS u__ ON NOT (${failsEarly(table, 'x__', true, insert.madeUp)}) WHERE u__.ctid__ IS NULL OR u__.ok__`,
    columns,
    [...given, 'twin__', ...carried],
    table.kind === 'p' ? tableoidOf(table, 'b__') : `coalesce(nullif(b__.to__, 0), ${table.oid})`,
  )
  const added = { query: complete, hidden: [...given, 'twin__', ...carried] }
  const come = await firing.after({ event: 'INSERT', ...added, where: '$ctid__ IS NULL' })
  const { query: rows } = await firing.after({ ...event, ...come, where: '$ctid__ IS NOT NULL' })
  const row = view === undefined ? quotedAlias : 'n__'
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    bindAll: view !== undefined,
    column: visible,
    old: (name) => `${row}.o${target.visible.indexOf(name)}__`,
    oldPresent: `${row}.ctid__ IS NOT NULL`,
    oldAddress: `${row}.ctid__`,
    fresh: visible,
    tableoid: tableoidOf(table, row),
  })
  const own = (each: { name: string }) => `${row}.${quoteName(each.name)}`
  const policies = table.rowSecurityActive
    ? [
        `CASE WHEN ${row}.ctid__ IS NULL THEN ${firstLabel(newRowLabels(table, 'a', true, own))} ` +
          `ELSE ${firstLabel([`${row}.hidden__`, ...newRowLabels(table, 'w', true, own)])} END`,
      ]
    : []
  const referred = (table.referencedBy ?? []).some(({ referenced }) =>
    referenced.some((name) => assigned.values.has(name)),
  )
  const list = [
    `CASE WHEN ${row}.ctid__ IS NULL THEN 'i' ELSE 'u' END::text AS op__`,
    `${row}.old__`,
    `${rowAsText(row, columns)} AS new__`,
    violationColumn(table, row, {
      command: 'a',
      replaces: true,
      policies,
      arbiter: [...arbiterTests(arbiters), ...(plain ? [] : [`CASE WHEN ${row}.twin__ THEN ${TWICE} END`])],
      ...(referred ? { old: (index: number) => `${row}.old__[${index + 1}]` } : {}),
      raised: firing.raised(row),
      viewChecks: view?.checks(row),
      existing: (alias) => constrainedRows(table, options, alias),
    }),
    rowId(`${row}.to__`, `${row}.ctid__`),
    ...(returning ?? []),
  ]
  const shown = view === undefined ? '' : `, LATERAL (${view.shown(row)}) AS ${quotedAlias}`
  const rekeys = [...assigned.values.keys()].filter((name) => arbiters.some((index) => isKey(index, name)))
  return {
    select: (text) => `SELECT ${text} FROM (${rows}) AS ${row}${shown} ORDER BY ${row}.ord__`,
    list: list.join(', '),
    returning: returning === null ? null : returning.length,
    rekeys,
    arbiters: arbiters.map(({ constraint, name }) => constraint ?? name),
  }
}
