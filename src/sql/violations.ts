import { type Column, indexColumns, type Table, tableName, type UniqueIndex } from './catalog.js'
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
  /** Columns that were assigned; undefined for a new row. */
  readonly changed?: ReadonlySet<string>
  /** The row has the columns `to__` and `ctid__` of the row it replaces, if any. */
  readonly replaces: boolean
  /** The FROM item that gives the table's rows, with `tableoid` and `ctid`, under an alias. */
  existing(alias: string): string
  /** Unique indexes whose conflicts the statement itself handles. */
  readonly handled?: readonly UniqueIndex[]
}

/** The column `viol__`: codes and names of the constraints the row `alias` would break, as a text array. */
export function violationColumn(table: Table, alias: string, scope: ViolationScope): string {
  const tests = [
    ...checkTests(table, alias),
    ...uniqueTests(table, alias, scope),
    ...foreignKeyTests(table, alias, scope),
  ]
  if (tests.length === 0) return NO_VIOLATIONS
  return `array_remove(ARRAY[${tests.join(', ')}]::text[], NULL) AS viol__`
}

export const NO_VIOLATIONS = 'NULL::text[] AS viol__'

function checkTests(table: Table, alias: string): string[] {
  const row = (table.columns ?? []).map((column) => `${alias}.${quoteName(column.name)}`).join(', ')
  return (table.checks ?? []).map(
    ({ name, expression }) =>
      `(SELECT CASE WHEN (${expression}) IS FALSE THEN ${quoteText(`23514:${name}`)} END FROM (SELECT ${row}) n__)`,
  )
}

function touches(scope: ViolationScope, names: readonly string[]): boolean {
  return scope.changed === undefined || names.some((name) => scope.changed?.has(name))
}

/** Only plain unique indexes: no expressions, no predicate, not deferrable. */
function uniqueTests(table: Table, alias: string, scope: ViolationScope): string[] {
  return (table.indexes ?? []).flatMap((index) => {
    if (index.predicate !== null || !index.immediate || index.numbers.includes(0)) return []
    if (scope.handled?.includes(index)) return []
    const columns = indexColumns(table, index).map((column) => column.name)
    if (!touches(scope, columns)) return []
    const same = columns.map((name) => `e__.${quoteName(name)} = ${alias}.${quoteName(name)}`).join(' AND ')
    const another = scope.replaces
      ? ` AND (${alias}.ctid__ IS NULL OR (e__.tableoid, e__.ctid) IS DISTINCT FROM (${alias}.to__, ${alias}.ctid__))`
      : ''
    const label = quoteText(`23505:${index.constraint ?? index.name}`)
    return [`(SELECT ${label} FROM ${scope.existing('e__')} WHERE ${same}${another} LIMIT 1)`]
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

/**
 * The violations of one new row: what real execution would certainly raise,
 * and what it probably would, as notes (foreign keys may be deferred). `madeUp`
 * tells the run's synthetic ids.
 */
export function judgeRow(
  table: Table,
  row: readonly (string | null)[],
  labels: readonly (string | null)[],
  madeUp: (value: string) => boolean = () => false,
): { certain?: Violation; predicted: readonly Violation[] } {
  const found = columnViolation(table, row)
  const predicted: Violation[] = []
  let certain = found
  for (const label of labels) {
    const violation = label === null ? undefined : labelled(table, label, row)
    if (violation === undefined) continue
    if (violation.code === '23503') {
      if (!refersToMadeUp(table, violation, row, madeUp)) predicted.push(violation)
    } else certain ??= violation
  }
  return certain === undefined ? { predicted } : { certain, predicted }
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

function labelled(table: Table, label: string, row: readonly (string | null)[]): Violation {
  const code = label.slice(0, 5)
  const constraint = label.slice(6)
  const message =
    code === '23505'
      ? `duplicate key value violates unique constraint "${constraint}"`
      : code === '23503'
        ? `insert or update on table "${table.name}" violates foreign key constraint "${constraint}"`
        : `new row for relation "${table.name}" violates check constraint "${constraint}"`
  const detail = code === '23505' ? duplicateDetail(table, constraint, row) : failingRow(code, row)
  return { code, message, constraint, schema: table.schema, table: table.name, ...(detail ? { detail } : {}) }
}

function duplicateDetail(table: Table, name: string, row: readonly (string | null)[]): string | undefined {
  const index = table.indexes?.find((candidate) => (candidate.constraint ?? candidate.name) === name)
  if (index === undefined) return undefined
  const columns = indexColumns(table, index)
  const values = columns.map((column) => row[table.columns?.indexOf(column) ?? -1] ?? 'null')
  return `Key (${columns.map((column) => column.name).join(', ')})=(${values.join(', ')}) already exists.`
}

function failingRow(code: string, row: readonly (string | null)[]): string | undefined {
  return code === '23514' ? `Failing row contains (${row.map((value) => value ?? 'null').join(', ')}).` : undefined
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
  return labelled(table, `23505:${constraint}`, row)
}

/** `23505 duplicate key … (public.customers)`. */
export function describeViolation(violation: Violation, table: Table): string {
  return `${violation.code} ${violation.message} (${tableName(table)})`
}
