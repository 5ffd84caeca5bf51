import type { FieldChange } from '../../journal/record.js'
import type { Table } from '../../sql/catalog.js'
import { isChecked } from '../../sql/constraint-modes.js'
import { MAX_OVERLAY_ROWS, type RowChange } from '../../sql/overlay.js'
import { parseTextArray } from '../../sql/pg-array.js'
import { LEADING_COLUMNS, type PreviewPart, type PreviewQuery, PreviewUnsupported } from '../../sql/preview.js'
import {
  describeViolation,
  duplicateWithin,
  type Judging,
  judgeRow,
  type OpenViolation,
  uniqueKeys,
  type Violation,
} from '../../sql/violations.js'
import { changesOf } from './changes.js'
import type { PreviewRequest } from './preview-request.js'
import { textOf } from './read-only.js'
import { deferrableOf, mayClash, type Settled, type Together } from './settle.js'

/** Records spelled out in the diff; all are counted. */
const MAX_DIFF_RECORDS = 100
const MAX_NOTES = 10

const TWICE: Violation = {
  code: '21000',
  message: 'ON CONFLICT DO UPDATE command cannot affect row a second time',
}
const MERGED_TWICE: Violation = { code: '21000', message: 'MERGE command cannot affect row a second time' }

const OF_KEYS = /^(23505|23P01|23503|23001|23514e)(?![!~])/

/** A key that is checked row by row fails with the first row that meets one that is there. */
function sameOf(open: readonly OpenViolation[], settled: Violation | undefined): Violation | undefined {
  if (settled === undefined || !/^(23505|23P01)$/.test(settled.code)) return settled
  const { constraint } = settled
  return open.find(({ violation, ordered }) => ordered && violation.constraint === constraint)?.violation ?? settled
}

/** The table of a row's address. */
function ownerOf(id: string): string {
  return id.slice(0, id.indexOf(':'))
}

/** What triggers write may bring or take rows of this table. */
function mayReach(byTriggers: readonly PreviewPart[], oid: string): boolean {
  // A deleted row may take others along, and a partition's rows are those of its table.
  return byTriggers.some(
    ({ operation, table }) => operation !== 'INSERT' || table.oid === oid || table.partitionBound !== null,
  )
}

/** The row is found under another key now. */
function differs(
  table: Table,
  names: readonly string[],
  before: readonly (string | null)[],
  after: readonly (string | null)[] | null,
): boolean {
  return (table.columns ?? []).some(({ name }, index) => names.includes(name) && before[index] !== after?.[index])
}

/** Sums up the rows of a preview while they come in. */
export class Tally {
  readonly diff: FieldChange[] = []
  readonly changes: { readonly table: Table; readonly rows: RowChange[] }[] = []
  /** `i`, `u`, `d`: what was seen. */
  readonly operations = new Set<string>()
  records = 0
  readonly #severalWrites: boolean
  #byTrigger = false
  /** What would stop the statement in a trigger, unless it fails before. */
  #within: Violation | undefined
  readonly #outdated: boolean
  readonly #upsert: boolean
  readonly #merge: boolean
  readonly #rekeys: readonly string[]
  readonly #arbiters: readonly string[]
  readonly #judging: Judging
  /** By address: the rows that are written already, and what they hold by now. */
  readonly #merged = new Map<string, { before: readonly (string | null)[]; after: readonly (string | null)[] | null }>()
  #moved = false
  /** Addresses of the rows that parts of the statement write. */
  readonly #written = new Set<string>()
  #collides = false
  #keys = new Map<string, Set<string>>()
  #certain: Violation | undefined
  /** Would be raised once all rows are written. */
  #late: Violation | undefined
  /** By label: what other rows of the statement may mend. */
  readonly #open = new Map<string, OpenViolation & { readonly table: Table }>()
  /** Rows of the statement, without those triggers write; and the new ones of them. */
  #rows = 0
  #fresh = 0
  /** There are parts, whether they see each other or not. */
  readonly #parted: boolean
  /** The rows could not be compared with each other. */
  #uncompared = false
  readonly #predicted = new Set<string>()

  constructor(
    { operation, table, parts, upsert, rekeys = [], arbiters = [], sequential = false }: PreviewQuery,
    request: PreviewRequest,
  ) {
    this.#rekeys = rekeys
    this.#arbiters = arbiters
    const { madeUp, outdated = false, stale = () => false, modes, invented } = request
    const byTriggers = parts.filter(({ byTrigger }) => byTrigger)
    const here = byTriggers.some((part) => part.table.oid === table?.oid)
    this.#parted = here || parts.length > byTriggers.length
    this.#severalWrites = here || (this.#parted && !sequential)
    this.#merge = operation === 'MERGE'
    const settled = (oid: string) =>
      !this.#severalWrites && !this.#byTrigger && !outdated && !stale(oid) && !mayReach(byTriggers, oid)
    // Of a statement that stands for another one, more may follow.
    this.#judging = { madeUp, settled, modes: () => (this.#severalWrites || invented ? undefined : modes?.()) }
    this.#outdated = outdated
    this.#upsert = upsert
  }

  /** What follows are the rows of one writing part. */
  begin(table: Table, byTrigger = false): void {
    this.changes.push({ table, rows: [] })
    this.#byTrigger = byTrigger
    this.#keys = new Map()
    this.#merged.clear()
  }

  add(table: Table, row: readonly unknown[]): void {
    const [operation, before, after, labels, id = null] = row.slice(0, LEADING_COLUMNS).map(textOf)
    if (operation != null) this.operations.add(operation)
    const old = before == null ? null : parseTextArray(before)
    const fresh = after == null ? null : parseTextArray(after)
    if (++this.records <= MAX_DIFF_RECORDS) this.diff.push(...changesOf(table, old, fresh))
    if (this.records <= MAX_OVERLAY_ROWS + 1) {
      this.changes.at(-1)?.rows.push({ operation: operation as RowChange['operation'], before: old, after: fresh, id })
    }
    // A row of a child table is under the parent's CHECK constraints only.
    const inherited = table.kind === 'r' && id !== null && !/^(null|0)$/.test(ownerOf(id)) && ownerOf(id) !== table.oid
    const given = (labels == null ? [] : parseTextArray(labels)).filter(
      (label) => !inherited || !OF_KEYS.test(label ?? ''),
    )
    if (!this.#byTrigger) {
      this.#rows++
      if (fresh !== null) this.#fresh++
    }
    const judged = judgeRow(table, fresh ?? old ?? [], given, this.#judging, operation ?? 'i', old ?? undefined)
    for (const violation of judged.predicted) this.#predict(violation, table)
    if (this.#severalWrites && operation !== 'i' && id !== null) {
      if (this.#written.has(id)) this.#collides = true
      this.#written.add(id)
    }
    if ((this.#merge || this.#upsert) && !this.#parted && !this.#byTrigger && operation !== 'i' && id !== null && old) {
      const earlier = this.#merged.get(id)
      if (earlier === undefined) this.#merged.set(id, { before: old, after: fresh })
      // A row whose key was changed is not met again.
      else if (differs(table, this.#rekeys, earlier.before, earlier.after)) this.#moved = true
      else this.#certain ??= this.#merge ? MERGED_TWICE : TWICE
    }
    const twin = this.#severalWrites || fresh === null || inherited ? undefined : this.#twin(table, fresh)
    for (const open of judged.open) {
      if (this.#parted || this.#byTrigger || this.#outdated) this.#predict(open.violation, table)
      else if (!this.#open.has(open.label)) this.#open.set(open.label, { ...open, table })
    }
    for (const [violation, late] of [
      [judged.certain, false],
      [judged.late, true],
      [judged.certain === undefined ? twin : undefined, false],
    ] as const) {
      if (violation === undefined) continue
      // Within one statement one part may make room for the other's rows, so a duplicate is only a guess.
      const guessed = this.#byTrigger || (violation !== twin && (this.#severalWrites || this.#outdated))
      if (guessed && /^(23505|23P01)$/.test(violation.code)) this.#predict(violation, table)
      else if (this.#byTrigger) this.#within ??= violation
      else if (late) this.#late ??= violation
      else this.#certain ??= violation
    }
  }

  /** Another row of this statement has taken the key already. */
  #twin(table: Table, row: readonly (string | null)[]): Violation | undefined {
    let found: Violation | undefined
    for (const { name, key } of uniqueKeys(table, row)) {
      const taken = this.#keys.get(name) ?? new Set()
      this.#keys.set(name, taken)
      if (taken.has(key)) found ??= this.#arbiters.includes(name) ? TWICE : duplicateWithin(table, name, row)
      taken.add(key)
    }
    return found
  }

  #predict(violation: Violation, table: Table): void {
    if (this.#predicted.size < MAX_NOTES) this.#predicted.add(describeViolation(violation, table))
  }

  /** What only all rows together can tell; undefined when there is nothing. */
  together(count: number, { table }: PreviewQuery): Together | undefined {
    if (this.#certain !== undefined || this.#parted || this.#outdated || table === null) return undefined
    const open = [...this.#open.values()].filter(({ single }) => !(single && count === 1))
    const checked: Together['checked'] = (constraint) => isChecked(deferrableOf(constraint), this.#judging.modes?.())
    const among = this.#fresh > 1 && !this.#upsert
    const compares = among && mayClash(table, checked)
    if (open.length === 0 && !compares) return undefined
    return { table, labels: new Set(open.map(({ label }) => label)), among, checked }
  }

  /** What would be raised for certain; `settled` is what the rows together have shown, if that was found out. */
  violation(settled: Settled | undefined): Violation | undefined {
    if (this.#moved) throw new PreviewUnsupported('a row is to be updated whose key the statement has changed')
    if (this.#certain !== undefined) return this.#certain
    this.#uncompared = settled === undefined
    const open = [...this.#open.values()]
    const single = this.#rows === 1 ? open.find((each) => each.single)?.violation : undefined
    const found = single ?? sameOf(open, settled?.[0]) ?? this.#late
    if (found !== undefined) return found
    for (const { violation, table, ordered } of open) {
      // The order in which the rows are written decides.
      if (settled === undefined || ordered) this.#predict(violation, table)
    }
    return this.#within
  }

  /** Something would probably fail, or go another way. */
  get predicts(): boolean {
    return this.#predicted.size > 0 || this.#collides || this.#uncompared
  }

  notes(): string[] {
    const notes = [...this.#predicted].map((text) => `would fail if checked as the data is now (predicted): ${text}`)
    if (this.#collides) notes.push('parts of the statement write the same row, and only one of them takes effect')
    if (this.#uncompared) notes.push('keys of the rows were not compared with each other')
    if (this.records > MAX_DIFF_RECORDS) {
      notes.push(`the diff shows the first ${MAX_DIFF_RECORDS} of ${this.records} records`)
    }
    return notes
  }
}
