import {
  type Column,
  type ForeignKey,
  indexColumns,
  MAX_LEAVES,
  type Reference,
  type Table,
  type UniqueIndex,
} from './catalog.js'
import { firstLabel, newRowLabels } from './row-security.js'
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
  readonly handled?: readonly Pick<UniqueIndex, 'constraint'>[]
  /** What row security demands, as texts that are NULL when it holds; without it, what it demands of a plain write. */
  readonly policies?: readonly string[]
  /** What the statement checks before unique indexes, as texts that are NULL when it holds. */
  readonly arbiter?: readonly string[]
}

/**
 * The column `viol__`: what the row `alias` would break, as a text array in the
 * order PostgreSQL checks it. A label is the SQLSTATE, a letter for the kind
 * (`:` a constraint, `p` a partition's bound, `l` a constraint of a leaf, `r` no
 * partition, `e` an empty period, `f` a MATCH FULL key with some NULLs, `k` a key
 * that is referred to, `d` a default that refers to none) and a name.
 */
export function violationColumn(table: Table, alias: string, scope: ViolationScope): string {
  const tests = [
    ...(scope.raised ?? []),
    ...earlyTests(table, alias, scope),
    ...(scope.arbiter ?? []),
    ...uniqueTests(table, alias, scope),
    ...exclusionTests(table, alias, scope),
    ...foreignKeyTests(table, alias, scope),
    ...(scope.old === undefined ? [] : referenceTests(table, scope.old, alias, scope)),
    ...(scope.viewChecks ?? []),
  ]
  return labelsColumn(tests)
}

/** What is checked of a new row before the table is looked at. */
function earlyTests(
  table: Table,
  alias: string,
  scope: Pick<ViolationScope, 'changed' | 'command' | 'reads' | 'policies'>,
) {
  return [
    ...routingTests(table, alias, scope),
    ...(scope.policies ?? policyTests(table, alias, scope)),
    ...checkTests(table, alias),
    ...boundTests(table, alias),
    ...leafTests(table, alias),
  ]
}

/**
 * A condition: a new row would fail before the statement looks for conflicts.
 * Nothing is said of columns whose value is made up.
 */
export function failsEarly(table: Table, alias: string, reads: boolean, madeUp: ReadonlySet<string>): string {
  const missing = (table.columns ?? [])
    .filter((column) => column.notNull)
    .map(({ name }) => `${alias}.${quoteName(name)} IS NULL`)
  const labels = earlyTests(withoutColumns(table, [...madeUp]), alias, { command: 'a', reads })
  return [...missing, ...labels.map((label) => `${label} IS NOT NULL`)].join(' OR ') || 'false'
}

/** The table without the conditions that speak of some columns. */
function withoutColumns(table: Table, names: readonly string[]): Table {
  const known = (text: string | null | undefined) => !names.some((name) => text?.includes(name))
  const routed = table.leaves?.every(({ bound }) => known(bound)) ?? true
  return {
    ...table,
    kind: routed ? table.kind : 'r',
    checks: table.checks?.filter(({ expression }) => known(expression)) ?? null,
    partitionBound: known(table.partitionBound) ? table.partitionBound : null,
    rowSecurityActive:
      table.rowSecurityActive && (table.policies ?? []).every(({ using, check }) => known(using) && known(check)),
  }
}

/** `viol__` of a deleted row: keys that others refer to. */
export function referencedColumn(
  table: Table,
  old: (column: Column) => string,
  policies: readonly string[] = [],
  raised: readonly string[] = [],
): string {
  const columns = table.columns ?? []
  const tests = [...policies, ...referenceTests(table, (index) => old(columns[index] as Column)), ...raised]
  return labelsColumn(tests)
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

function routingTests(table: Table, alias: string, scope: Pick<ViolationScope, 'changed'>): string[] {
  const { leaves } = table
  if (table.kind !== 'p' || scope.changed?.size === 0) return []
  if (leaves === null) return [quoteText(`23514r${table.name}`)]
  if (leaves.length > MAX_LEAVES || leaves.some(({ bound }) => bound === null)) return []
  const any = leaves.map(({ bound }) => `(${bound})`).join(' OR ')
  return [labelled(`(${any}) IS NOT TRUE`, `23514r${table.name}`, table, alias)]
}

/** What a partition demands besides of the rows that go there. */
function leafTests(table: Table, alias: string): string[] {
  if (table.kind !== 'p' || (table.leaves?.length ?? 0) > MAX_LEAVES) return []
  return (table.leaves ?? []).flatMap(({ oid, bound, checks }) =>
    (checks ?? []).map(({ name, expression }) =>
      labelled(`(${bound ?? 'true'}) AND (${expression}) IS FALSE`, `23514l${oid}:${name}`, table, alias),
    ),
  )
}

function policyTests(
  table: Table,
  alias: string,
  { command, reads = false }: Pick<ViolationScope, 'command' | 'reads'>,
) {
  const labels = newRowLabels(table, command, reads, ({ name }) => `${alias}.${quoteName(name)}`)
  return labels.length === 0 ? [] : [firstLabel(labels)]
}

function touches(scope: ViolationScope, names: readonly string[]): boolean {
  return scope.changed === undefined || names.some((name) => scope.changed?.has(name))
}

/** Another row of the table has the same key. Deferrable constraints too: what that comes to is not for the query. */
function uniqueTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.indexes ?? []).flatMap((index) => {
    if (index.exclusion || index.unreadable || scope.handled?.includes(index)) return []
    const plain = index.predicate === null && !index.numbers.includes(0)
    const columns = indexColumns(table, index).map((column) => column.name)
    if (plain && !touches(scope, columns)) return []
    const equals = index.nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '='
    const label = quoteText(`23505:${index.constraint ?? index.name}`)
    if (plain) {
      const same = columns.map((name) => `e__.${quoteName(name)} ${equals} ${alias}.${quoteName(name)}`).join(' AND ')
      return [`(SELECT ${label} FROM ${scope.existing('e__')} WHERE ${same}${another(table, alias, scope)} LIMIT 1)`]
    }
    const of = (row: string) => keysOf(table, index, row)
    const same = index.keys.map((_, number) => `o__.k${number}__ ${equals} i__.k${number}__`)
    if (index.predicate !== null) same.push('o__.p__', 'i__.p__')
    return [
      `(SELECT ${keyLabel(index)} FROM ${of(alias)} i__, ${scope.existing('e__')} CROSS JOIN LATERAL ${of('e__')} o__ ` +
        `WHERE ${same.join(' AND ')}${another(table, alias, scope)} LIMIT 1)`,
    ]
  })
}

/** The label of a key with expressions: its name and values as JSON, of the FROM item `i__`. */
export function keyLabel({ constraint, name, keys }: UniqueIndex): string {
  const values = keys.map((_, number) => `CAST(i__.k${number}__ AS text)`)
  return `'23505x' || json_build_array(${[`CAST(${quoteText(constraint ?? name)} AS text)`, ...values].join(', ')})`
}

/** The existing row `e__` is not the one that is replaced. A child table's row is under no key of the parent. */
function another(table: Table, alias: string, scope: ViolationScope): string {
  if (!scope.replaces) return ''
  const own = table.kind === 'p' ? '' : ` AND coalesce(${alias}.to__, 0) IN (0, ${table.oid})`
  const other = `(e__.tableoid, e__.ctid) IS DISTINCT FROM (${alias}.to__, ${alias}.ctid__)`
  return ` AND (${alias}.ctid__ IS NULL OR ${other})${own}`
}

/** The keys of an index for a row, as `k0__`, `k1__`, …, and its predicate as `p__`. */
export function keysOf(
  table: Table,
  { keys, predicate }: { readonly keys: readonly string[]; readonly predicate: string | null },
  row: string,
): string {
  const list = keys.map((key, number) => `(${key}) AS k${number}__`)
  if (predicate !== null) list.push(`(${predicate}) AS p__`)
  return `(SELECT ${list.join(', ')} FROM ${asRow(table, row)} n__)`
}

function exclusionTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.exclusions ?? []).flatMap((exclusion) => {
    const { name, keys, operators, numbers, predicate, period } = exclusion
    if (scope.handled?.some((index) => index.constraint === name)) return []
    const columns = (table.columns ?? []).filter(({ number }) => numbers.includes(number))
    const plain = predicate === null && !numbers.includes(0)
    if (
      plain &&
      !touches(
        scope,
        columns.map((column) => column.name),
      )
    )
      return []
    const clash = operators.map((operator, number) => `o__.k${number}__ ${operator} i__.k${number}__`)
    if (predicate !== null) clash.push('o__.p__', 'i__.p__')
    const values = ['i__', 'o__'].flatMap((row) => keys.map((_, number) => `CAST(${row}.k${number}__ AS text)`))
    const label = `'23P01:' || json_build_array(${[`CAST(${quoteText(name)} AS text)`, ...values].join(', ')})`
    const test =
      `(SELECT ${label} FROM ${keysOf(table, exclusion, alias)} i__, ${scope.existing('e__')} ` +
      `CROSS JOIN LATERAL ${keysOf(table, exclusion, 'e__')} o__ ` +
      `WHERE ${clash.join(' AND ')}${another(table, alias, scope)} LIMIT 1)`
    if (period === null) return [test]
    return [`CASE WHEN isempty(${alias}.${quoteName(period)}) THEN ${quoteText(`23514e${period}`)} END`, test]
  })
}

/** The rows of the other table that a foreign key looks at. */
export function otherTable({ partitioned }: Pick<ForeignKey, 'partitioned'>, name: string): string {
  return `${partitioned ? '' : 'ONLY '}${name}`
}

/** A condition: the key of `row` is in `from`, a FROM item `r__`. Of a PERIOD, all of it. */
export function keyFound(key: ForeignKey, row: string, from: string): string {
  const { columns, referenced } = key
  const pairs = columns.map((name, index) => ({
    own: `${row}.${quoteName(name)}`,
    other: `r__.${quoteName(referenced[index] ?? '')}`,
  }))
  const last = key.period ? pairs.pop() : undefined
  const same = pairs.map(({ own, other }) => `${other} = ${own}`)
  if (last === undefined) return `EXISTS (SELECT 1 FROM ${from} WHERE ${same.join(' AND ')})`
  const overlap = [...same, `${last.other} && ${last.own}`].join(' AND ')
  return `coalesce((SELECT ${last.own} <@ pg_catalog.range_agg(${last.other}) FROM ${from} WHERE ${overlap}), false)`
}

/** A condition: the row has a key to be looked for. */
export function keyGiven({ columns }: ForeignKey, row: string): string {
  return columns.map((name) => `${row}.${quoteName(name)} IS NOT NULL`).join(' AND ')
}

function foreignKeyTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.foreignKeys ?? []).flatMap((key) => {
    if (!touches(scope, key.columns)) return []
    const found = keyFound(key, alias, `${otherTable(key, key.references)} r__`)
    const missing = `CASE WHEN ${keyGiven(key, alias)} AND NOT ${found} THEN ${quoteText(`23503:${key.name}`)} END`
    if (!key.full || key.columns.length < 2) return [missing]
    const nulls = `num_nulls(${key.columns.map((name) => `${alias}.${quoteName(name)}`).join(', ')})`
    const mixed = `${nulls} BETWEEN 1 AND ${key.columns.length - 1}`
    return [missing, `CASE WHEN ${mixed} THEN ${quoteText(`23503f${key.name}`)} END`]
  })
}

/** The label of a key that is referred to. */
export function referenceLabel(table: Table, { name }: Reference, action: string): string {
  return `${action === 'r' ? (table.restrictState ?? '23503') : '23503'}k${name}`
}

/** What SET DEFAULT would make of a key, where that is known and not NULL: a key that must be there. */
export function knownDefaults({ defaults, partly }: Reference): readonly string[] | undefined {
  if (!defaults?.length || partly) return undefined
  const known = defaults.flatMap((value) => (value !== null && CONSTANT.test(value) ? [value] : []))
  return known.length === defaults.length ? known : undefined
}

const CONSTANT = /^(\(?-?\d+(\.\d+)?\)?|'[^']*')(::[\w" .]+(\(\d+\))?)?$/

/** The label of a key that SET DEFAULT would put in place: its name and values as JSON. */
export function defaultsLabel({ name }: Reference, defaults: readonly string[]): string {
  const values = defaults.map((value) => `CAST((${value}) AS text)`)
  return `'23503d' || json_build_array(${[`CAST(${quoteText(name)} AS text)`, ...values].join(', ')})`
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
    if (/[cn]/.test(action)) return []
    const defaults = action === 'd' ? knownDefaults(reference) : undefined
    if (action === 'd' && defaults === undefined) return []
    if (scope !== undefined && !touches(scope, reference.referenced)) return []
    const at = (name: string) => columns.findIndex((column) => column.name === name)
    const value = (name: string) =>
      alias === undefined ? old(at(name)) : `CAST(${old(at(name))} AS ${columns[at(name)]?.type})`
    const last = reference.columns.length - 1
    const same = reference.columns
      .map((name, index) => {
        const operator = reference.period && index === last ? '&&' : '='
        return `c__.${quoteName(name)} ${operator} ${value(reference.referenced[index] ?? '')}`
      })
      .join(' AND ')
    const changed = (name: string) =>
      // RESTRICT cares for the bytes; otherwise an equal key is as good.
      action === 'r'
        ? `${old(at(name))} COLLATE "C" IS DISTINCT FROM CAST(${alias}.${quoteName(name)} AS text) COLLATE "C"`
        : `${value(name)} IS DISTINCT FROM ${alias}.${quoteName(name)}`
    const rekeyed = alias === undefined ? '' : ` AND (${reference.referenced.map(changed).join(' OR ')})`
    const label =
      defaults === undefined ? quoteText(referenceLabel(table, reference, action)) : defaultsLabel(reference, defaults)
    return [`(SELECT ${label} FROM ${otherTable(reference, reference.table)} c__ WHERE ${same}${rekeyed} LIMIT 1)`]
  })
}
