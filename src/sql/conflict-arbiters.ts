import type { InferClause, InsertStmt, OnConflictClause } from '@pgsql/types'
import { indexColumns, type Table, type UniqueIndex } from './catalog.js'
import { deparse } from './grammar.js'
import { type PreviewOptions, PreviewUnsupported, readIndexed, type Target } from './preview-parts.js'
import { quoteName } from './tree.js'

/** The unique indexes whose conflicts `ON CONFLICT` handles. @throws PreviewUnsupported, or the server's error. */
export async function arbitersOf(
  clause: OnConflictClause,
  target: Target,
  options: PreviewOptions,
): Promise<readonly UniqueIndex[]> {
  const indexes = target.table.indexes ?? []
  if (clause.infer === undefined) return indexes
  const own = inferred(clause.infer, target)
  if (own !== undefined) return own
  // What implies a predicate and which expressions are equal only the planner knows.
  if (options.arbiters === undefined) throw new PreviewUnsupported('ON CONFLICT over an expression')
  const names = await options.arbiters(probe(clause.infer, target))
  const found = indexes.filter((index) => names.includes(index.name))
  if (found.length === 0 || found.length !== names.length) {
    throw new PreviewUnsupported(`ON CONFLICT over ${names.join(', ') || 'no index'}`)
  }
  return found
}

/** The indexes of a clause that names plain columns or a constraint; undefined where it takes the planner to tell. */
function inferred(infer: InferClause, { table, view }: Target): readonly UniqueIndex[] | undefined {
  const indexes = table.indexes ?? []
  if (infer.conname) {
    const named = indexes.filter((index) => index.constraint === infer.conname)
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
  const alike = indexes.filter((index) => {
    if (index.numbers.includes(0)) return false
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
  return matching
}

/** An INSERT with the same inference, for the planner. */
function probe(infer: InferClause, { relation }: Target): string {
  const onConflictClause: OnConflictClause = { action: 'ONCONFLICT_NOTHING', infer }
  const statement: InsertStmt = { relation, onConflictClause, override: 'OVERRIDING_NOT_SET' }
  return deparse({ InsertStmt: statement })
}

/** Keys are columns, and every row has them. */
export function isPlain(index: UniqueIndex): boolean {
  return index.predicate === null && !index.numbers.includes(0)
}

/** A FROM item `k__` for what the keys and predicates of the arbiters make of the row `x__`; empty without expressions. */
export function keysOfIncoming(table: Table, arbiters: readonly UniqueIndex[]): string {
  const list = arbiters.flatMap((index, number) => {
    if (isPlain(index)) return []
    const keys = index.keys.map((key, position) => `(${key}) AS k${number}_${position}__`)
    return index.predicate === null ? keys : [...keys, `(${index.predicate}) AS p${number}__`]
  })
  if (list.length === 0) return ''
  const row = (table.columns ?? []).map(({ name }) => `x__.${quoteName(name)}`)
  return ` CROSS JOIN LATERAL (SELECT ${list.join(', ')} FROM (SELECT ${row.join(', ')}) n__) AS k__`
}

function incomingKeys(table: Table, index: UniqueIndex, number: number): string[] {
  if (!isPlain(index)) return index.keys.map((_, position) => `k__.k${number}_${position}__`)
  return indexColumns(table, index).map((column) => `x__.${quoteName(column.name)}`)
}

/** A condition: the row `x__` can have no twin, by this index. */
function unmatched(table: Table, index: UniqueIndex, number: number): string[] {
  const keys = index.nullsNotDistinct ? [] : incomingKeys(table, index, number).map((key) => `${key} IS NULL`)
  return index.predicate === null ? keys : [...keys, `k__.p${number}__ IS NOT TRUE`]
}

/** True for the first of the rows `x__` with the same key, in their order. */
export function isFirst(table: Table, index: UniqueIndex, number: number): string {
  const keys = incomingKeys(table, index, number).join(', ')
  const exempt = unmatched(table, index, number)
  const first = `row_number() OVER (PARTITION BY ${keys}, ${exempt.join(' OR ') || 'false'} ORDER BY x__.ord__) = 1`
  return [...exempt, first].join(' OR ')
}

/** A condition: the table's row `e__`, alone in FROM, conflicts with the incoming row. */
export function conflicts(table: Table, arbiters: readonly UniqueIndex[]): string {
  const tests = arbiters.map((index, number) => {
    const equals = index.nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '='
    const incoming = incomingKeys(table, index, number)
    const existing = isPlain(index)
      ? indexColumns(table, index).map((column) => `e__.${quoteName(column.name)}`)
      : index.keys.map((key) => `(${key})`)
    const same = existing.map((key, position) => `${key} ${equals} ${incoming[position]}`)
    if (index.predicate !== null) same.push(`(${index.predicate})`, `k__.p${number}__`)
    return `(${same.join(' AND ')})`
  })
  return tests.join(' OR ') || 'false'
}

/** A condition that picks the conflicting row, given by its columns and address. */
export function picksConflicting(
  target: Target,
  arbiters: readonly UniqueIndex[],
  options: PreviewOptions,
  row: { readonly table: string; readonly address: string; column(name: string): string },
): string {
  const { table } = target
  if (arbiters.every(isPlain)) {
    const tests = arbiters.map((index) => {
      const equals = index.nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '='
      const columns = indexColumns(table, index)
      return columns.map(({ name }) => `${row.column(name)} ${equals} x__.${quoteName(name)}`).join(' AND ')
    })
    return tests.map((test) => `(${test})`).join(' OR ')
  }
  // An expression names its columns bare, so it is looked at where no other table is in sight.
  const among = (what: string) =>
    `ANY (ARRAY(SELECT e__.${what} FROM ${readIndexed(target, options, 'e__')} WHERE ${conflicts(table, arbiters)}))`
  return `${row.address} = ${among('ctid')} AND ${row.table} = ${among('tableoid')}`
}
