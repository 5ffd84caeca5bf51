import type { OnConflictClause } from '@pgsql/types'
import { indexColumns, type Table, type UniqueIndex } from './catalog.js'
import { deparse } from './grammar.js'
import { assignments } from './preview-assign.js'
import {
  idPerRow,
  NO_ROW_ID,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  rowAsText,
  rowId,
  type Target,
  withGenerated,
} from './preview-parts.js'
import { bindReturning, type Returning, returnsOld, tableoidOf } from './preview-returning.js'
import { quoteName } from './tree.js'
import { oldColumns, type TriggerFiring } from './trigger-fire.js'
import { violationColumn } from './violation-column.js'

interface ConflictingInsert {
  readonly target: Target
  /** Query of the rows to insert, with their order in `ord__`. */
  readonly inserted: string
  /** Its hidden columns. */
  readonly hidden: readonly string[]
  readonly firing: TriggerFiring
  readonly statement: Returning
  readonly options: PreviewOptions
}

interface ConflictPreview {
  /** The query, given its list. */
  select(list: string): string
  readonly list: string
  /** Number of RETURNING columns, null without RETURNING. */
  readonly returning: number | null
}

/** `INSERT … ON CONFLICT` over rows that are already worked out. */
export async function conflictingInsert(clause: OnConflictClause, insert: ConflictingInsert): Promise<ConflictPreview> {
  if (insert.target.view !== undefined) throw new PreviewUnsupported('ON CONFLICT through a view')
  const arbiters = arbitersOf(clause, insert.target.table)
  if (arbiters.some((index) => index.numbers.includes(0)))
    throw new PreviewUnsupported('ON CONFLICT over an expression')
  return clause.action === 'ONCONFLICT_NOTHING'
    ? await insertOrSkip(arbiters, insert)
    : await insertOrUpdate(clause, arbiters, insert)
}

function arbitersOf(clause: OnConflictClause, table: Table): readonly UniqueIndex[] {
  const indexes = table.indexes ?? []
  const { infer } = clause
  if (infer === undefined) return indexes
  if (infer.conname) {
    const named = indexes.filter((index) => index.constraint === infer.conname)
    if (named.length === 0) throw new PreviewUnsupported(`ON CONFLICT ON CONSTRAINT ${infer.conname}`)
    return named
  }
  const keys = (infer.indexElems ?? []).map((element) => ('IndexElem' in element ? element.IndexElem.name : undefined))
  if (keys.some((key) => key === undefined)) throw new PreviewUnsupported('ON CONFLICT over an expression')
  const wanted = [...keys].sort().join('\0')
  const matching = indexes.filter((index) => {
    const own = indexColumns(table, index).map((column) => column.name)
    return own.sort().join('\0') === wanted && (index.predicate === null || infer.whereClause !== undefined)
  })
  if (matching.length === 0) {
    throw new PreviewUnsupported(
      'there is no unique or exclusion constraint matching the ON CONFLICT specification',
      // The planner finds out, so describing the statement does not.
      indexes.some((index) => index.numbers.includes(0)) ? undefined : '42P10',
    )
  }
  return matching
}

function names(table: Table, index: UniqueIndex): string[] {
  return indexColumns(table, index).map((column) => quoteName(column.name))
}

/** A condition: the existing row conflicts with the incoming one. */
function conflicts(table: Table, arbiters: readonly UniqueIndex[], existing: string, incoming: string): string {
  const tests = arbiters.map((index) => {
    const same = names(table, index).map((name) => `${existing}.${name} = ${incoming}.${name}`)
    if (index.predicate !== null) same.push(`(SELECT ${index.predicate} FROM (SELECT ${existing}.*) p__)`)
    return `(${same.join(' AND ')})`
  })
  return tests.join(' OR ') || 'false'
}

async function insertOrSkip(arbiters: readonly UniqueIndex[], insert: ConflictingInsert): Promise<ConflictPreview> {
  const { target, inserted, hidden, firing, statement, options } = insert
  const { table, columns, quotedAlias } = target
  // Of rows that conflict with each other the first one is inserted.
  const firsts = arbiters.map((index, number) => {
    const keys = names(table, index).map((name) => `x__.${name}`)
    const hasNull = keys.map((key) => `${key} IS NULL`).join(' OR ')
    return `${hasNull} OR row_number() OVER (PARTITION BY ${keys.join(', ')} ORDER BY x__.ord__) = 1 AS k${number}__`
  })
  const candidates =
    `SELECT ${['x__.*', ...firsts].join(', ')} FROM (${inserted}) x__ WHERE NOT EXISTS ` +
    `(SELECT 1 FROM ${readFrom(target, options, 'e__')} WHERE ${conflicts(table, arbiters, 'e__', 'x__')})`
  const kept = arbiters.map((_, number) => `k${number}__`).join(' AND ')
  const query = `SELECT * FROM (${candidates}) c__${kept === '' ? '' : ` WHERE ${kept}`}`
  const written = await firing.after({ event: 'INSERT', query, hidden })
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    column: visible,
    old: null,
    fresh: visible,
    tableoid: tableoidOf(table, quotedAlias),
  })
  const list = [
    "'i'::text AS op__",
    'NULL::text[] AS old__',
    `${rowAsText(quotedAlias, columns)} AS new__`,
    violationColumn(table, quotedAlias, {
      command: 'a',
      replaces: false,
      reads: true,
      handled: arbiters,
      raised: firing.raised(quotedAlias),
      existing: (alias) => readFrom(target, options, alias),
    }),
    NO_ROW_ID,
    ...(returning ?? []),
  ]
  return {
    select: (text) => `SELECT ${text} FROM (${written.query}) AS ${quotedAlias} ORDER BY ${quotedAlias}.ord__`,
    list: list.join(', '),
    returning: returning === null ? null : returning.length,
  }
}

/**
 * `excluded` is the incoming row. The existing row keeps the table's name
 * inside the LATERAL subquery, where SET and WHERE see it.
 */
async function insertOrUpdate(
  clause: OnConflictClause,
  arbiters: readonly UniqueIndex[],
  insert: ConflictingInsert,
): Promise<ConflictPreview> {
  const { target, inserted, hidden, firing, statement, options } = insert
  const { table, columns, quotedAlias } = target
  const assigned = assignments(
    clause.targetList ?? [],
    target,
    (column) => idPerRow(options.syntheticIds(1, column)),
    ({ name }) => `${quotedAlias}.${quoteName(name)}`,
  )
  const wantsOld = returnsOld(statement, target)
  const kept = wantsOld ? columns.map(({ name }, index) => `${quotedAlias}.${quoteName(name)} AS o${index}__`) : []
  const olds = kept.map((_, index) => `o${index}__`)
  if (assigned.joins.length > 0) throw new PreviewUnsupported('ON CONFLICT with a subquery for several columns')
  const updated = columns.map((column) => {
    const name = quoteName(column.name)
    if (column.generated) return `CAST(NULL AS ${column.type}) AS ${name}`
    return `${assigned.values.get(column.name) ?? `${quotedAlias}.${name}`} AS ${name}`
  })
  const condition = clause.whereClause === undefined ? 'true' : `(${deparse(clause.whereClause)})`
  const fires = firing.firesRows('UPDATE')
  const before = oldColumns(fires ? columns : [], ({ name }) => `${quotedAlias}.${quoteName(name)}`)
  const columnList = [...kept, ...before.list, ...updated].join(', ')
  const event = { event: 'UPDATE', changed: new Set(assigned.values.keys()), old: before.of } as const
  const own = ['to__', 'ctid__', 'old__', ...olds, ...before.names]
  const existing = await firing.before({
    ...event,
    query:
      `SELECT ${quotedAlias}.tableoid AS to__, ${quotedAlias}.ctid AS ctid__, ${rowAsText(quotedAlias, columns)} AS old__, ` +
      `${columnList}, ${condition} AS ok__ FROM ${readFrom(target, options)} ` +
      `WHERE ${conflicts(table, arbiters, quotedAlias, 'excluded')}`,
    hidden: [...own, 'ok__'],
    verdict: 'ok__',
    where: '$ok__',
  })
  const brought = existing.hidden.filter((name) => name !== 'ok__')
  const either = columns.map((column) => {
    const name = quoteName(column.name)
    return `CASE WHEN u__.ctid__ IS NOT NULL THEN u__.${name} ELSE excluded.${name} END AS ${name}`
  })
  const complete = withGenerated(
    `SELECT ${[...hidden.map((name) => `excluded.${name}`), ...brought.map((name) => `u__.${name}`), ...either].join(', ')} FROM (${inserted}) AS excluded ` +
      `LEFT JOIN LATERAL (${existing.query}) AS u__ ON true WHERE u__.ctid__ IS NULL OR u__.ok__`,
    columns,
    [...hidden, ...brought],
  )
  const added = { query: complete, hidden: [...hidden, ...brought] }
  const come = await firing.after({ event: 'INSERT', ...added, where: '$ctid__ IS NULL' })
  const { query: rows } = await firing.after({ ...event, ...come, where: '$ctid__ IS NOT NULL' })
  const visible = (name: string) => `${quotedAlias}.${quoteName(name)}`
  const returning = bindReturning(statement, {
    target,
    column: visible,
    old: (name) => `${quotedAlias}.o${target.visible.indexOf(name)}__`,
    oldPresent: `${quotedAlias}.ctid__ IS NOT NULL`,
    fresh: visible,
    tableoid: tableoidOf(table, quotedAlias),
  })
  const list = [
    `CASE WHEN ${quotedAlias}.ctid__ IS NULL THEN 'i' ELSE 'u' END::text AS op__`,
    `${quotedAlias}.old__`,
    `${rowAsText(quotedAlias, columns)} AS new__`,
    violationColumn(table, quotedAlias, {
      command: 'a',
      replaces: true,
      reads: true,
      raised: firing.raised(quotedAlias),
      existing: (alias) => readFrom(target, options, alias),
    }),
    rowId(`${quotedAlias}.to__`, `${quotedAlias}.ctid__`),
    ...(returning ?? []),
  ]
  return {
    select: (text) => `SELECT ${text} FROM (${rows}) AS ${quotedAlias} ORDER BY ${quotedAlias}.ord__`,
    list: list.join(', '),
    returning: returning === null ? null : returning.length,
  }
}
