import { type Column, type ForeignKey, indexColumns, type Reference, type Table, tableName } from './catalog.js'
import { type ConstraintModes, isChecked } from './constraint-modes.js'
import { constraintOf, RAISED, raisedBy, type Violation, violationOf } from './violation-message.js'

export type { Violation } from './violation-message.js'

/** What PostgreSQL would check before any constraint with a query behind it: lengths and NULLs. */
export function columnViolation(table: Table, row: readonly (string | null)[]): Violation | undefined {
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

/** What the caller knows that makes a verdict certain or a guess. */
export interface Judging {
  /** Tells the run's synthetic ids. */
  madeUp?(value: string): boolean
  /** The data of this table (by oid) is what the statement would meet; without it, foreign keys are guesses. */
  settled?(oid: string): boolean
  /** When deferrable constraints are checked. */
  modes?(): ConstraintModes
}

/** A violation by the rows as they are, which other rows of the same statement may mend. */
export interface OpenViolation {
  readonly label: string
  readonly violation: Violation
  /** Certain when no other row is written. */
  readonly single: boolean
  /** Checked row by row: it may fail even though all rows together are well. */
  readonly ordered: boolean
}

export interface Judgement {
  /** What would be raised for certain when the row is written. */
  readonly certain?: Violation
  /** What would be raised for certain once all rows are written. */
  readonly late?: Violation
  readonly open: readonly OpenViolation[]
  readonly predicted: readonly Violation[]
}

/** Checked before lengths and NULLs; `!` is what a BEFORE trigger raises. */
const FIRST = /^(23514r|42501|[0-9A-Z]{5}!)/

/**
 * The violations of one row: what real execution would certainly raise, what
 * depends on the other rows, and what it probably would. `row` is the new row,
 * or a deleted one; `old` the one that is replaced.
 */
export function judgeRow(
  table: Table,
  row: readonly (string | null)[],
  labels: readonly (string | null)[],
  judging: Judging = {},
  operation: string = 'i',
  old: readonly (string | null)[] = row,
): Judgement {
  const { madeUp = () => false } = judging
  const predicted: Violation[] = []
  const open: OpenViolation[] = []
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
  let late: Violation | undefined
  if (operation !== 'd') certain ??= columnViolation(table, row)
  for (const label of given) {
    const violation = violationOf(table, label, row, old)
    const verdict = verdictOf(table, label, judging, operation)
    switch (verdict) {
      case 'now':
        certain ??= violation
        break
      case 'late':
        if (!refersToMadeUp(table, label, row, madeUp)) late ??= violation
        break
      case 'open':
        if (!refersToMadeUp(table, label, row, madeUp)) open.push({ label, violation, single: false, ordered: false })
        break
      case 'single':
      case 'ordered':
        open.push({ label, violation, single: true, ordered: verdict === 'ordered' })
        break
      case 'predicted':
        if (!refersToMadeUp(table, label, row, madeUp)) predicted.push(violation)
        break
      default:
    }
  }
  return {
    ...(certain === undefined ? {} : { certain }),
    ...(late === undefined ? {} : { late }),
    open,
    predicted,
  }
}

/**
 * `now` fails as the row is written, `late` at the end of the statement; `open`
 * depends on the statement's rows together, `single` only if there are several,
 * and `ordered` on their order too. Undefined: it is not checked before the transaction ends.
 */
type Verdict = 'now' | 'late' | 'open' | 'single' | 'ordered' | 'predicted' | undefined

function verdictOf(table: Table, label: string, judging: Judging, operation: string): Verdict {
  const kind = label.slice(0, 6)
  if (RAISED.test(kind)) return kind[5] === '~' ? 'late' : 'now'
  const checked = (constraint: { deferrable: boolean; deferred?: boolean }) => isChecked(constraint, judging.modes?.())
  if (kind.startsWith('23505') || kind === '23P01:') {
    const constraint = keyConstraint(table, constraintOf(label))
    const { deferrable, deferred } = constraint
    if (!checked(constraint)) return deferred ? undefined : 'predicted'
    // An update of several rows may move the one that is in the way.
    if (operation === 'u') return deferrable ? 'single' : 'ordered'
    return deferrable ? 'late' : 'now'
  }
  if (kind !== '23503:' && kind !== '23503f' && !/[dk]/.test(kind[5] ?? '')) return 'now'
  const { settled = () => false } = judging
  const name = constraintOf(label)
  const key: ForeignKey | Reference | undefined = (
    /[dk]/.test(kind[5] ?? '') ? table.referencedBy : table.foreignKeys
  )?.find((candidate) => candidate.name === name)
  if (kind === '23503d') {
    // The default may well be there; without a look at all rows nothing is said.
    const certain = key !== undefined && table.triggers === null && !key.hidden && settled(table.oid)
    return certain && checked(key) ? 'open' : undefined
  }
  // A trigger may mend it.
  if (key === undefined || table.triggers !== null || !checked(key)) return 'predicted'
  if (kind === '23503f') return 'late'
  const other = 'referencedOid' in key ? key.referencedOid : key.oid
  if (key.hidden || !settled(other)) return 'predicted'
  if (!('onDelete' in key)) return other === table.oid ? 'open' : 'late'
  if (mayMend(table, other, operation)) return 'predicted'
  if (other === table.oid || key.period) return 'open'
  const action = operation === 'd' ? key.onDelete : key.onUpdate
  return operation === 'd' || action === 'r' ? 'late' : 'single'
}

/**
 * Rows of the table `oid` may be gone in time: what foreign keys do further
 * down comes after the check, and so only their first step counts, and triggers.
 */
function mayMend({ referencedBy, reached }: Table, oid: string, operation: string): boolean {
  const cascades = (referencedBy ?? []).filter(({ onDelete, onUpdate }) =>
    /[cnd]/.test(operation === 'd' ? onDelete : onUpdate),
  )
  if (cascades.length === 0) return false
  return cascades.some((reference) => reference.oid === oid) || (reached?.some(({ triggers }) => triggers) ?? true)
}

/** When a unique or exclusion constraint is checked. */
function keyConstraint(table: Table, name: string): { deferrable: boolean; deferred: boolean } {
  const exclusion = table.exclusions?.find((candidate) => candidate.name === name)
  if (exclusion !== undefined) return exclusion
  const index = table.indexes?.find((candidate) => (candidate.constraint ?? candidate.name) === name)
  return { deferrable: index?.immediate === false, deferred: index?.deferred === true }
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
  if (/^(2350|23001|21000|55000)/.test(kind) && !raised) return false
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

/** A foreign key with a value the run has made up itself: its row is the run's own, wherever it may be. */
function refersToMadeUp(
  table: Table,
  label: string,
  row: readonly (string | null)[],
  madeUp: (value: string) => boolean,
): boolean {
  if (!label.startsWith('23503') || label[5] === 'd') return false
  const columns = table.foreignKeys?.find(({ name }) => name === label.slice(6))?.columns ?? []
  return columns.some((name) => {
    const value = row[table.columns?.findIndex((column) => column.name === name) ?? -1]
    return value != null && madeUp(value)
  })
}

/** What a row is unique by: one text per unique index the statement itself checks, none where a value is NULL. */
export function uniqueKeys(table: Table, row: readonly (string | null)[]): { name: string; key: string }[] {
  return (table.indexes ?? []).flatMap((index) => {
    if (index.predicate !== null || !index.immediate || index.exclusion || index.numbers.includes(0)) return []
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
