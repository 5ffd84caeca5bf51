import { type Column, indexColumns, MAX_LEAVES, type Table, tableName, type UniqueIndex } from './catalog.js'
import { policyTest } from './row-security.js'
import { quoteName, quoteText } from './tree.js'

/** A constraint a new row would break. */
export interface Violation {
  /** SQLSTATE. */
  readonly code: string
  readonly message: string
  readonly detail?: string
  readonly schema?: string
  readonly table?: string
  readonly column?: string
  readonly constraint?: string
}

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
export function referencedColumn(table: Table, old: (column: Column) => string): string {
  const columns = table.columns ?? []
  const tests = referenceTests(table, (index) => old(columns[index] as Column))
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

/** What PostgreSQL would check before any constraint with a query behind it: lengths and NULLs. */
function columnViolation(table: Table, row: readonly (string | null)[]): Violation | undefined {
  const columns = table.columns ?? []
  for (const [index, column] of columns.entries()) {
    if (tooLong(column, row[index])) {
      return { code: '22001', message: `value too long for type ${column.type}` }
    }
  }
  for (const [index, column] of columns.entries()) {
    if (column.notNull && (row[index] ?? null) === null) {
      const message = `null value in column "${column.name}" of relation "${table.name}" violates not-null constraint`
      return { code: '23502', message, column: column.name, schema: table.schema, table: table.name }
    }
  }
  return undefined
}

function tooLong(column: Column, value: string | null | undefined): boolean {
  if (value == null || column.baseType !== 'character varying' || column.typmod <= 4) return false
  const limit = column.typmod - 4
  // Only blanks may be cut off without an error.
  return value.length > limit && [...value].slice(limit).join('').trim() !== ''
}

/** What the caller knows that makes a foreign key's verdict certain or a guess. */
export interface Judging {
  /** Tells the run's synthetic ids. */
  madeUp?(value: string): boolean
  /** The data of this table (by oid) is what the statement would meet; without it, foreign keys are guesses. */
  settled?(oid: string): boolean
}

/** Checked before lengths and NULLs. */
const FIRST = /^(23514r|42501)/

/**
 * The violations of one row: what real execution would certainly raise, and
 * what it probably would, as notes. `row` is the new row, or a deleted one.
 */
export function judgeRow(
  table: Table,
  row: readonly (string | null)[],
  labels: readonly (string | null)[],
  { madeUp = () => false, settled = () => false }: Judging = {},
  deleted = false,
): { certain?: Violation; predicted: readonly Violation[] } {
  const predicted: Violation[] = []
  const given = labels.filter((label) => {
    if (label === null || !dependsOnMadeUp(table, label, row, madeUp)) return label !== null
    // The id live traffic would give might meet the condition.
    predicted.push(violationOf(table, label, row))
    return false
  }) as string[]
  const first = given.find((label) => FIRST.test(label))
  let certain = first === undefined ? undefined : violationOf(table, first, row)
  if (!deleted) certain ??= columnViolation(table, row)
  for (const label of given) {
    const violation = violationOf(table, label, row)
    if (violation.code !== '23503') certain ??= violation
    else if (isSettled(table, label, settled)) {
      if (!refersToMadeUp(table, violation, row, madeUp)) certain ??= violation
    } else if (!refersToMadeUp(table, violation, row, madeUp)) predicted.push(violation)
  }
  return certain === undefined ? { predicted } : { certain, predicted }
}

/** A condition other than uniqueness that looks at an id the run has made up. */
function dependsOnMadeUp(
  table: Table,
  label: string,
  row: readonly (string | null)[],
  madeUp: (value: string) => boolean,
): boolean {
  const kind = label.slice(0, 6)
  if (kind.startsWith('2350')) return false
  const names = (table.columns ?? [])
    .filter((_, index) => row[index] != null && madeUp(row[index]))
    .map(({ name }) => name)
  if (names.length === 0) return false
  const texts =
    kind === '23514:'
      ? (table.checks ?? []).filter(({ name }) => name === label.slice(6)).map(({ expression }) => expression)
      : kind === '23514p'
        ? [table.partitionBound ?? '']
        : kind === '23514r'
          ? (table.leaves ?? []).map(({ bound }) => bound ?? '')
          : names
  return names.some((name) => texts.some((text) => text.includes(name)))
}

/**
 * A foreign key fails for certain when it is checked at once and nothing else
 * may mend it: no trigger, no other row of the statement, no cascade.
 */
function isSettled(table: Table, label: string, settled: (oid: string) => boolean): boolean {
  const name = label.slice(6)
  if (table.triggers !== null) return false
  if (label[5] === 'k') {
    const reference = table.referencedBy?.find((candidate) => candidate.name === name)
    const cascades = table.referencedBy?.some(({ onDelete, onUpdate }) => /[cnd]/.test(onDelete + onUpdate))
    if (reference === undefined || reference.hidden || cascades || reference.deferrable || reference.oid === table.oid)
      return false
    // Newer servers have an SQLSTATE of its own for RESTRICT.
    return settled(reference.oid) && !/r/.test(reference.onDelete + reference.onUpdate)
  }
  const key = table.foreignKeys?.find((candidate) => candidate.name === name)
  return (
    key !== undefined && !key.deferrable && !key.hidden && key.referencedOid !== table.oid && settled(key.referencedOid)
  )
}

/** A foreign key with a value the run has made up itself: its row is the run's own, wherever it may be. */
function refersToMadeUp(
  table: Table,
  { constraint }: Violation,
  row: readonly (string | null)[],
  madeUp: (value: string) => boolean,
): boolean {
  const columns = table.foreignKeys?.find(({ name }) => name === constraint)?.columns ?? []
  return columns.some((name) => {
    const value = row[table.columns?.findIndex((column) => column.name === name) ?? -1]
    return value != null && madeUp(value)
  })
}

function violationOf(table: Table, label: string, row: readonly (string | null)[]): Violation {
  const code = label.slice(0, 5)
  const name = label.slice(6)
  const place = { schema: table.schema, table: table.name }
  const failing = { detail: `Failing row contains (${row.map((value) => value ?? 'null').join(', ')}).` }
  switch (code + label[5]) {
    case '23505:': {
      const detail = duplicateDetail(table, name, row)
      const message = `duplicate key value violates unique constraint "${name}"`
      return { code, message, constraint: name, ...place, ...(detail ? { detail } : {}) }
    }
    case '23503:': {
      const message = `insert or update on table "${table.name}" violates foreign key constraint "${name}"`
      return { code, message, constraint: name, ...place }
    }
    case '23503k': {
      const child = table.referencedBy?.find((reference) => reference.name === name)?.table ?? ''
      const message = `update or delete on table "${table.name}" violates foreign key constraint "${name}" on table "${child}"`
      return { code, message, constraint: name, schema: table.schema, table: child.split('.').at(-1) ?? child }
    }
    case '23514p':
      return { code, message: `new row for relation "${name}" violates partition constraint`, ...place, ...failing }
    case '23514r':
      return { code, message: `no partition of relation "${name}" found for row`, ...place }
    case '42501:':
      return { code, message: `new row violates row-level security policy for table "${name}"` }
    case '44000:':
      return { code, message: `new row violates check option for view "${name}"`, ...failing }
    default: {
      const message = `new row for relation "${table.name}" violates check constraint "${name}"`
      return { code, message, constraint: name, ...place, ...failing }
    }
  }
}

function duplicateDetail(table: Table, name: string, row: readonly (string | null)[]): string | undefined {
  const index = table.indexes?.find((candidate) => (candidate.constraint ?? candidate.name) === name)
  if (index === undefined || index.numbers.includes(0)) return undefined
  const columns = indexColumns(table, index)
  const values = columns.map((column) => row[table.columns?.indexOf(column) ?? -1] ?? 'null')
  return `Key (${columns.map((column) => column.name).join(', ')})=(${values.join(', ')}) already exists.`
}

/** What a row is unique by: one text per unique index the statement itself checks, none where a value is NULL. */
export function uniqueKeys(table: Table, row: readonly (string | null)[]): { name: string; key: string }[] {
  return (table.indexes ?? []).flatMap((index) => {
    if (index.predicate !== null || !index.immediate || index.numbers.includes(0)) return []
    const values = indexColumns(table, index).map((column) => row[table.columns?.indexOf(column) ?? -1] ?? null)
    return values.includes(null) ? [] : [{ name: index.constraint ?? index.name, key: JSON.stringify(values) }]
  })
}

/** The row has the key of another row of the same statement. */
export function duplicateWithin(table: Table, constraint: string, row: readonly (string | null)[]): Violation {
  return violationOf(table, `23505:${constraint}`, row)
}

/** `23505 duplicate key … (public.customers)`. */
export function describeViolation(violation: Violation, table: Table): string {
  return `${violation.code} ${violation.message} (${tableName(table)})`
}
