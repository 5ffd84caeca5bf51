import { type Column, indexColumns, type Table, tableName } from './catalog.js'

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

/** What a trigger raises: `!` BEFORE, `~` AFTER. */
const RAISED = /^[0-9A-Z]{5}[!~]/

/** Checked before lengths and NULLs; `!` is what a BEFORE trigger raises. */
const FIRST = /^(23514r|42501|[0-9A-Z]{5}!)/

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
  // AFTER triggers come last.
  given.sort((left, right) => Number(left[5] === '~') - Number(right[5] === '~'))
  const first = given.find((label) => FIRST.test(label))
  let certain = first === undefined ? undefined : violationOf(table, first, row)
  if (!deleted) certain ??= columnViolation(table, row)
  for (const label of given) {
    const violation = violationOf(table, label, row)
    if (violation.code !== '23503' || RAISED.test(label)) certain ??= violation
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
  const raised = RAISED.test(kind)
  if (kind.startsWith('2350') && !raised) return false
  const names = (table.columns ?? [])
    .filter((_, index) => row[index] != null && madeUp(row[index]))
    .map(({ name }) => name)
  if (names.length === 0) return false
  if (raised) return names.some((name) => raisedBy(label).columns?.includes(name))
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

/** What a label of a trigger says, and which columns of the row decided that it is raised. */
function raisedBy(label: string): Omit<Violation, 'code'> & { readonly columns?: readonly string[] } {
  return JSON.parse(label.slice(6))
}

function violationOf(table: Table, label: string, row: readonly (string | null)[]): Violation {
  const code = label.slice(0, 5)
  const name = label.slice(6)
  const place = { schema: table.schema, table: table.name }
  if (RAISED.test(label)) {
    const { columns: _, ...told } = raisedBy(label)
    return { code, ...told }
  }
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
