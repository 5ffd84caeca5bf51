import type { InferClause, InsertStmt, OnConflictClause } from '@pgsql/types'
import { type Exclusion, indexColumns, type Table, type UniqueIndex } from './catalog.js'
import { deparse } from './grammar.js'
import { constrainedRows, type PreviewOptions, PreviewUnsupported, type Target } from './preview-parts.js'
import { quoteName } from './tree.js'

/** An index whose conflicts `ON CONFLICT` handles. */
export interface Arbiter {
  readonly name: string
  readonly constraint: string | null
  readonly keys: readonly string[]
  /** Names of the key columns, where all keys are columns and every row has them. */
  readonly columns: readonly string[] | undefined
  readonly predicate: string | null
  /** For each key, what makes two of them conflict. */
  readonly operators: readonly string[]
  /** Keys conflict when they are equal, so that they can be grouped. */
  readonly equality: boolean
  readonly nullsNotDistinct: boolean
  readonly immediate: boolean
  /** What the column `viol__` knows it by. */
  readonly handled: Pick<UniqueIndex, 'constraint'>
}

/** The indexes of a clause, and those that violate nothing because of it. @throws PreviewUnsupported, or the server's error. */
export async function arbitersOf(
  clause: OnConflictClause,
  target: Target,
  options: PreviewOptions,
): Promise<readonly Arbiter[]> {
  const { indexes, exclusions } = target.table
  const all = [
    ...(indexes ?? []).filter((index) => !index.exclusion).map((index) => ofIndex(target.table, index)),
    ...(exclusions ?? []).map(ofExclusion),
  ]
  if (clause.infer === undefined && indexes?.some((index) => index.unreadable)) {
    throw new PreviewUnsupported('ON CONFLICT where not every key may be read')
  }
  if (clause.infer === undefined) return all
  const own = inferred(clause.infer, target, all)
  if (own !== undefined) return own
  // What implies a predicate and which expressions are equal only the planner knows.
  if (options.arbiters === undefined) throw new PreviewUnsupported('ON CONFLICT over an expression')
  const names = await options.arbiters(probe(clause.infer, target))
  const found = all.filter((index) => names.includes(index.name))
  if (found.length === 0 || found.length !== names.length) {
    throw new PreviewUnsupported(`ON CONFLICT over ${names.join(', ') || 'no index'}`)
  }
  return found
}

function ofIndex(table: Table, index: UniqueIndex): Arbiter {
  const { name, constraint, keys, predicate, immediate, nullsNotDistinct = false } = index
  const plain = predicate === null && !index.numbers.includes(0)
  return {
    name,
    constraint,
    keys,
    columns: plain ? indexColumns(table, index).map((column) => column.name) : undefined,
    predicate,
    operators: keys.map(() => (nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '=')),
    equality: true,
    nullsNotDistinct,
    immediate,
    handled: index,
  }
}

/** The index of a constraint has its name. */
function ofExclusion({ name, keys, operators, predicate, deferrable }: Exclusion): Arbiter {
  return {
    name,
    constraint: name,
    keys,
    columns: undefined,
    predicate,
    operators,
    equality: false,
    nullsNotDistinct: false,
    immediate: !deferrable,
    handled: { constraint: name },
  }
}

/** The indexes of a clause that names plain columns or a constraint; undefined where it takes the planner to tell. */
function inferred(infer: InferClause, target: Target, all: readonly Arbiter[]): readonly Arbiter[] | undefined {
  const { table, view } = target
  if (infer.conname) {
    const named = all.filter((index) => index.constraint === infer.conname)
    return named.length === 0 ? undefined : named
  }
  const wanted = new Set<string>()
  for (const item of infer.indexElems ?? []) {
    const element = 'IndexElem' in item ? item.IndexElem : undefined
    if (element?.name === undefined || element.collation?.length || element.opclass?.length) return undefined
    const name = view === undefined ? element.name : view.columnOf.get(element.name)
    if (name === undefined) return undefined
    wanted.add(name)
  }
  const alike = (table.indexes ?? []).filter((index) => {
    if (index.exclusion || index.numbers.includes(0)) return false
    const own = new Set(indexColumns(table, index).map((column) => column.name))
    return own.size === wanted.size && [...own].every((name) => wanted.has(name))
  })
  if (infer.whereClause !== undefined && alike.some((index) => index.predicate !== null)) return undefined
  const matching = alike.filter((index) => index.predicate === null)
  if (matching.length === 0) {
    throw new PreviewUnsupported(
      'there is no unique or exclusion constraint matching the ON CONFLICT specification',
      // The planner finds out, so describing the statement does not.
      '42P10',
    )
  }
  return all.filter((arbiter) => matching.some((index) => index.name === arbiter.name))
}

/** The column is part of what decides on a conflict. */
export function isKey({ columns, keys, predicate }: Arbiter, name: string): boolean {
  return columns?.includes(name) ?? [...keys, predicate ?? ''].some((text) => text.includes(name))
}

/** An INSERT with the same inference, for the planner. */
function probe(infer: InferClause, { relation }: Target): string {
  const onConflictClause: OnConflictClause = { action: 'ONCONFLICT_NOTHING', infer }
  const statement: InsertStmt = { relation, onConflictClause, override: 'OVERRIDING_NOT_SET' }
  return deparse({ InsertStmt: statement })
}

/** The keys and the predicate of an arbiter for a row, as a select list: `k0_0__`, `p0__`. */
function keyList({ keys, predicate, columns }: Arbiter, number: number): string[] {
  if (columns !== undefined) return []
  const list = keys.map((key, position) => `(${key}) AS k${number}_${position}__`)
  return predicate === null ? list : [...list, `(${predicate}) AS p${number}__`]
}

/** A FROM item `k__` for what the keys and predicates of the arbiters make of the row `x__`; empty without expressions. */
export function keysOfIncoming(table: Table, arbiters: readonly Arbiter[]): string {
  const list = arbiters.flatMap(keyList)
  if (list.length === 0) return ''
  const row = (table.columns ?? []).map(({ name }) => `x__.${quoteName(name)}`)
  return ` CROSS JOIN LATERAL (SELECT ${list.join(', ')} FROM (SELECT ${row.join(', ')}) n__) AS k__`
}

function incomingKeys({ columns, keys }: Arbiter, number: number): string[] {
  return columns?.map((name) => `x__.${quoteName(name)}`) ?? keys.map((_, position) => `k__.k${number}_${position}__`)
}

/** True for the first of the rows `x__` with the same key, in their order, and for rows that can have no twin. */
export function isFirst(index: Arbiter, number: number): string {
  const keys = incomingKeys(index, number)
  const exempt = index.nullsNotDistinct ? [] : keys.map((key) => `${key} IS NULL`)
  if (index.predicate !== null) exempt.push(`k__.p${number}__ IS NOT TRUE`)
  const group = [...keys, exempt.join(' OR ') || 'false'].join(', ')
  return [...exempt, `row_number() OVER (PARTITION BY ${group} ORDER BY x__.ord__) = 1`].join(' OR ')
}

/** A condition: the table's row `e__`, alone in FROM, conflicts with the incoming row. */
export function conflicts(arbiters: readonly Arbiter[]): string {
  const tests = arbiters.map((index, number) => {
    const existing = index.columns?.map((name) => `e__.${quoteName(name)}`) ?? index.keys.map((key) => `(${key})`)
    const incoming = incomingKeys(index, number)
    const clash = existing.map((key, position) => `${key} ${index.operators[position]} ${incoming[position]}`)
    if (index.predicate !== null) clash.push(`(${index.predicate})`, `k__.p${number}__`)
    return `(${clash.join(' AND ')})`
  })
  return tests.join(' OR ') || 'false'
}

/** A condition that picks the conflicting row, given by its columns and address. */
export function picksConflicting(
  { table }: Target,
  arbiters: readonly Arbiter[],
  options: PreviewOptions,
  row: { readonly table: string; readonly address: string; column(name: string): string },
): string {
  if (arbiters.every((index) => index.columns !== undefined)) {
    const tests = arbiters.map(({ columns = [], operators }) =>
      columns.map((name, index) => `${row.column(name)} ${operators[index]} x__.${quoteName(name)}`).join(' AND '),
    )
    return tests.map((test) => `(${test})`).join(' OR ')
  }
  // An expression names its columns bare, so it is looked at where no other table is in sight.
  const among = (what: string) =>
    `ANY (ARRAY(SELECT e__.${what} FROM ${constrainedRows(table, options, 'e__')} WHERE ${conflicts(arbiters)}))`
  return `${row.address} = ${among('ctid')} AND ${row.table} = ${among('tableoid')}`
}

/**
 * Of the candidates, those that conflict with none that was inserted before. By
 * an operator other than equality a row may conflict with one that is left out
 * itself, so they are gone through one by one.
 */
export function keptOneByOne(table: Table, arbiters: readonly Arbiter[], candidates: string): string {
  const row = (alias: string) => (table.columns ?? []).map(({ name }) => `${alias}.${quoteName(name)}`).join(', ')
  const clash = arbiters.map((index, number) => {
    const of = (alias: string) => {
      const list = keyList({ ...index, columns: undefined }, number)
      return `(SELECT ${list.join(', ')} FROM (SELECT ${row(alias)}) n__)`
    }
    const same = index.operators.map(
      (operator, position) => `o__.k${number}_${position}__ ${operator} i__.k${number}_${position}__`,
    )
    if (index.predicate !== null) same.push(`o__.p${number}__`, `i__.p${number}__`)
    return `EXISTS (SELECT 1 FROM ${of('b__')} o__, ${of('a__')} i__ WHERE ${same.join(' AND ')})`
  })
  return (
    `(WITH RECURSIVE c__ AS MATERIALIZED (SELECT q__.*, row_number() OVER (ORDER BY q__.ord__) AS at__ FROM (${candidates}) q__), ` +
    `s__(n, kept) AS (SELECT CAST(0 AS bigint), CAST('{}' AS bigint[]) UNION ALL ` +
    `SELECT s__.n + 1, CASE WHEN EXISTS (SELECT 1 FROM c__ a__, c__ b__ WHERE a__.at__ = s__.n + 1 AND NOT a__.fails__ ` +
    `AND b__.at__ = ANY (s__.kept) AND (${clash.join(' OR ')})) THEN s__.kept ELSE s__.kept || (s__.n + 1) END ` +
    `FROM s__ WHERE s__.n < (SELECT count(*) FROM c__)) ` +
    `SELECT * FROM c__ WHERE c__.at__ = ANY ((SELECT s__.kept FROM s__ ORDER BY s__.n DESC LIMIT 1)::bigint[]))`
  )
}
