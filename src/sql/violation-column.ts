import { type Column, indexColumns, MAX_LEAVES, type Table, type UniqueIndex } from './catalog.js'
import { policyTest } from './row-security.js'
import { quoteName, quoteText } from './tree.js'

export interface ViolationScope {
  readonly command: 'a' | 'w'
  /** Columns that were assigned; undefined for a new row. */
  readonly changed?: ReadonlySet<string>
  /** The row has the columns `to__` and `ctid__` of the row it replaces, if any. */
  readonly replaces: boolean
  /** The statement reads the table's rows too, so that policies for reading apply to the new ones. */
  readonly reads?: boolean
  /** Text of the old row's column, by its position; for rows that may lose their references. */
  old?(index: number): string
  /** Conditions of a view's WITH CHECK OPTION. */
  readonly viewChecks?: readonly string[] | undefined
  /** Texts of what triggers raise, NULL where they do not. */
  readonly raised?: readonly string[]
  /** The FROM item that gives the table's rows, with `tableoid` and `ctid`, under an alias. */
  existing(alias: string): string
  /** Unique indexes whose conflicts the statement itself handles. */
  readonly handled?: readonly UniqueIndex[]
}

/**
 * The column `viol__`: what the row `alias` would break, as a text array in the
 * order PostgreSQL checks it. A label is the SQLSTATE, a letter for the kind
 * (`:` a constraint, `p` a partition's bound, `r` no partition, `k` a key that
 * is referred to) and a name.
 */
export function violationColumn(table: Table, alias: string, scope: ViolationScope): string {
  const tests = [
    ...(scope.raised ?? []),
    ...routingTests(table, alias, scope),
    ...policyTests(table, alias, scope),
    ...checkTests(table, alias),
    ...boundTests(table, alias),
    ...uniqueTests(table, alias, scope),
    ...foreignKeyTests(table, alias, scope),
    ...(scope.old === undefined ? [] : referenceTests(table, scope.old, alias, scope)),
    ...(scope.viewChecks ?? []),
  ]
  return labelsColumn(tests)
}

/** `viol__` of a deleted row: keys that others refer to. */
export function referencedColumn(
  table: Table,
  old: (column: Column) => string,
  raised: readonly string[] = [],
): string {
  const columns = table.columns ?? []
  const tests = referenceTests(table, (index) => old(columns[index] as Column))
  return labelsColumn([...tests, ...raised])
}

function labelsColumn(tests: readonly string[]): string {
  return tests.length === 0
    ? 'NULL::text[] AS viol__'
    : `array_remove(ARRAY[${tests.join(', ')}]::text[], NULL) AS viol__`
}

function asRow(table: Table, alias: string): string {
  return `(SELECT ${(table.columns ?? []).map(({ name }) => `${alias}.${quoteName(name)}`).join(', ')})`
}

/** `CASE` over a condition that speaks of the columns by their bare names. */
function labelled(condition: string, label: string, table: Table, alias: string): string {
  const own = /\btableoid\b/.test(condition) ? `, CAST(${table.oid} AS oid) AS tableoid` : ''
  const row = `${asRow(table, alias).slice(0, -1)}${own})`
  return `(SELECT CASE WHEN ${condition} THEN ${quoteText(label)} END FROM ${row} n__)`
}

function checkTests(table: Table, alias: string): string[] {
  return (table.checks ?? []).map(({ name, expression }) =>
    labelled(`(${expression}) IS FALSE`, `23514:${name}`, table, alias),
  )
}

/** A partition that is written directly takes only rows within its bounds. */
function boundTests(table: Table, alias: string): string[] {
  if (!table.partitionBound) return []
  return [labelled(`(${table.partitionBound}) IS FALSE`, `23514p${table.name}`, table, alias)]
}

function routingTests(table: Table, alias: string, scope: ViolationScope): string[] {
  const { leaves } = table
  if (table.kind !== 'p' || scope.changed?.size === 0) return []
  if (leaves === null) return [quoteText(`23514r${table.name}`)]
  if (leaves.length > MAX_LEAVES || leaves.some(({ bound }) => bound === null)) return []
  const any = leaves.map(({ bound }) => `(${bound})`).join(' OR ')
  return [labelled(`(${any}) IS NOT TRUE`, `23514r${table.name}`, table, alias)]
}

function policyTests(table: Table, alias: string, scope: ViolationScope): string[] {
  const column = ({ name }: Column) => `${alias}.${quoteName(name)}`
  const tests = [policyTest(table, scope.command, 'check', column)]
  if (scope.reads) tests.push(policyTest(table, 'r', 'using', column))
  return tests.flatMap((test) =>
    test === undefined ? [] : [`CASE WHEN (${test}) IS NOT TRUE THEN ${quoteText(`42501:${table.name}`)} END`],
  )
}

function touches(scope: ViolationScope, names: readonly string[]): boolean {
  return scope.changed === undefined || names.some((name) => scope.changed?.has(name))
}

/** Unique indexes that are checked row by row: not the deferrable ones. */
function uniqueTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.indexes ?? []).flatMap((index) => {
    if (!index.immediate || scope.handled?.includes(index)) return []
    const plain = index.predicate === null && !index.numbers.includes(0)
    const columns = indexColumns(table, index).map((column) => column.name)
    if (plain && !touches(scope, columns)) return []
    const equals = index.nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '='
    const another = scope.replaces
      ? ` AND (${alias}.ctid__ IS NULL OR (e__.tableoid, e__.ctid) IS DISTINCT FROM (${alias}.to__, ${alias}.ctid__))`
      : ''
    const label = quoteText(`23505:${index.constraint ?? index.name}`)
    if (plain) {
      const same = columns.map((name) => `e__.${quoteName(name)} ${equals} ${alias}.${quoteName(name)}`).join(' AND ')
      return [`(SELECT ${label} FROM ${scope.existing('e__')} WHERE ${same}${another} LIMIT 1)`]
    }
    const keys = index.keys.map((key, number) => `(${key}) AS k${number}__`)
    if (index.predicate !== null) keys.push(`(${index.predicate}) AS p__`)
    const of = (row: string) => `(SELECT ${keys.join(', ')} FROM ${asRow(table, row)} n__)`
    const same = index.keys.map((_, number) => `o__.k${number}__ ${equals} i__.k${number}__`)
    if (index.predicate !== null) same.push('o__.p__', 'i__.p__')
    return [
      `(SELECT ${label} FROM ${of(alias)} i__, ${scope.existing('e__')} CROSS JOIN LATERAL ${of('e__')} o__ ` +
        `WHERE ${same.join(' AND ')}${another} LIMIT 1)`,
    ]
  })
}

function foreignKeyTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.foreignKeys ?? []).flatMap((key) => {
    if (!touches(scope, key.columns)) return []
    const given = key.columns.map((name) => `${alias}.${quoteName(name)} IS NOT NULL`).join(' AND ')
    const same = key.columns
      .map((name, index) => `r__.${quoteName(key.referenced[index] ?? '')} = ${alias}.${quoteName(name)}`)
      .join(' AND ')
    const missing = `NOT EXISTS (SELECT 1 FROM ${key.references} r__ WHERE ${same})`
    return [`CASE WHEN ${given} AND ${missing} THEN ${quoteText(`23503:${key.name}`)} END`]
  })
}

/** Foreign keys of others that forbid to take a key away; `alias` is the row after, where there is one. */
function referenceTests(
  table: Table,
  old: (index: number) => string,
  alias?: string,
  scope?: ViolationScope,
): string[] {
  const columns = table.columns ?? []
  return (table.referencedBy ?? []).flatMap((reference) => {
    const action = alias === undefined ? reference.onDelete : reference.onUpdate
    if (/[cnd]/.test(action)) return []
    if (scope !== undefined && !touches(scope, reference.referenced)) return []
    const at = (name: string) => columns.findIndex((column) => column.name === name)
    const value = (name: string) =>
      alias === undefined ? old(at(name)) : `CAST(${old(at(name))} AS ${columns[at(name)]?.type})`
    const same = reference.columns
      .map((name, index) => `c__.${quoteName(name)} = ${value(reference.referenced[index] ?? '')}`)
      .join(' AND ')
    const rekeyed =
      alias === undefined
        ? ''
        : ` AND (${reference.referenced.map((name) => `${value(name)} IS DISTINCT FROM ${alias}.${quoteName(name)}`).join(' OR ')})`
    const label = quoteText(`23503k${reference.name}`)
    return [`(SELECT ${label} FROM ${reference.table} c__ WHERE ${same}${rekeyed} LIMIT 1)`]
  })
}
