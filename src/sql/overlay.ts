import { keyColumns, type Table } from './catalog.js'

/** A whole row as texts, in the table's column order. */
export type OverlayRow = readonly (string | null)[]

/** One row a blocked statement would have written. */
export interface RowChange {
  readonly operation: 'i' | 'u' | 'd'
  readonly before: OverlayRow | null
  readonly after: OverlayRow | null
  /** `tableoid:ctid` of the row that is replaced or deleted, null for a new one. Rows of the overlay have table 0. */
  readonly id: string | null
}

export interface TableChanges {
  readonly table: Table
  readonly rows: readonly RowChange[]
}

/** What a run has done to one table, as far as later statements can see it. */
export interface TouchedTable {
  readonly table: Table
  /** Names of the key's columns; without a key, rows are known by `tableoid` and `ctid`. */
  readonly key: readonly string[]
  /** Rows that are not in the table, or are there with other values. Their number is their `ctid`'s block. */
  readonly rows: ReadonlyMap<number, OverlayRow>
  /** Keys of the table's rows that are no longer seen, one array of texts each. */
  readonly gone: ReadonlyMap<string, OverlayRow>
  /** Truncated: none of the table's rows is seen any more. */
  readonly emptied: boolean
}

/** Rows a run may collect in one database, counted as writes: a row that is written twice counts twice. */
export const MAX_OVERLAY_ROWS = 10_000

interface Batch {
  readonly owner: object
  readonly at: number
  readonly firstRow: number
  readonly changes: TableChanges
  /** The table was truncated; there are no changes then. */
  readonly empties?: boolean
}

interface Mutable extends TouchedTable {
  readonly rows: Map<number, OverlayRow>
  readonly gone: Map<string, OverlayRow>
  /** Numbers of the rows by key. */
  readonly numbers: Map<string, number>
  emptied: boolean
}

let clock = 0

/** A point in time between two batches, comparable across overlays. */
export function overlayTime(): number {
  return ++clock
}

/**
 * The rows one run would have written to one database.
 *
 * A write is visible at once to every connection of the run, committed or not:
 * a dry run has nobody to be isolated from but itself. Undoing takes back what
 * one connection wrote since a point in time, by replaying what is left.
 */
export class Overlay {
  #batches: Batch[] = []
  #tables = new Map<string, Mutable>()
  #count = 0
  #nextRow = 1
  /** Tables with changes the overlay does not hold, by oid, with the reason. */
  readonly stale = new Map<string, string>()
  /** What the report has been told already. */
  readonly told = new Set<string>()

  get untouched(): boolean {
    return this.#tables.size === 0 && this.stale.size === 0
  }

  /** Oids of tables with rows in the overlay, and of those it cannot speak for. */
  get oids(): string[] {
    return [...new Set([...this.#tables.keys(), ...this.stale.keys()])]
  }

  table(oid: string): TouchedTable | undefined {
    return this.#tables.get(oid)
  }

  /** Adds what one statement of `owner` would have written. False when there is no room for all of it: then nothing is added. */
  apply(owner: object, changes: readonly TableChanges[]): boolean {
    const count = changes.reduce((sum, { rows }) => sum + rows.length, 0)
    if (this.#count + count > MAX_OVERLAY_ROWS) {
      for (const { table } of changes) this.stale.set(table.oid, 'there is no room for more rows of this run')
      return false
    }
    for (const [table, rows] of byTable(changes)) {
      if (rows.length === 0) continue
      const batch = { owner, at: overlayTime(), firstRow: this.#nextRow, changes: { table, rows } }
      this.#nextRow += rows.length
      this.#batches.push(batch)
      this.#replay(batch)
    }
    this.#count += count
    return true
  }

  /** Takes all rows out of these tables, as a TRUNCATE of `owner` would. */
  empty(owner: object, tables: readonly Table[]): void {
    for (const table of tables) {
      const batch = { owner, at: overlayTime(), firstRow: this.#nextRow, changes: { table, rows: [] }, empties: true }
      this.#batches.push(batch)
      this.#replay(batch)
    }
  }

  /** Takes back what `owner` wrote after `since`. */
  undo(owner: object, since: number): void {
    const kept = this.#batches.filter((batch) => batch.owner !== owner || batch.at < since)
    if (kept.length === this.#batches.length) return
    this.#batches = kept
    this.#count = 0
    // The tables stay, without rows: a statement under way may have found them.
    for (const touched of this.#tables.values()) clear(touched, false)
    for (const batch of kept) {
      this.#count += batch.changes.rows.length
      this.#replay(batch)
    }
  }

  #replay({ firstRow, changes, empties }: Batch): void {
    const { table, rows } = changes
    const touched = this.#touch(table)
    if (empties) clear(touched, true)
    // All old rows first: a statement may hand one row's key to another.
    for (const { before, id } of rows) if (before !== null) hide(touched, before, id)
    for (const [index, { after }] of rows.entries()) if (after !== null) show(touched, after, firstRow + index)
  }

  #touch(table: Table): Mutable {
    const known = this.#tables.get(table.oid)
    if (known !== undefined) return known
    const key = keyColumns(table).map((column) => column.name)
    const touched = { table, key, rows: new Map(), gone: new Map(), numbers: new Map(), emptied: false }
    this.#tables.set(table.oid, touched)
    return touched
  }
}

function clear(touched: Mutable, emptied: boolean): void {
  touched.rows.clear()
  touched.gone.clear()
  touched.numbers.clear()
  touched.emptied = emptied
}

/** The parts of one statement together: one part may insert under the key that another deletes. */
function byTable(changes: readonly TableChanges[]): Map<Table, RowChange[]> {
  const tables = new Map<Table, RowChange[]>()
  for (const { table, rows } of changes) {
    const known = [...tables].find(([other]) => other.oid === table.oid)
    if (known !== undefined) known[1].push(...rows)
    else tables.set(table, [...rows])
  }
  return tables
}

const OVERLAY_ROW = /^0:\((\d+),1\)$/

function keyOf({ table, key }: TouchedTable, row: OverlayRow): OverlayRow | undefined {
  if (key.length === 0) return undefined
  return key.map((name) => row[table.columns?.findIndex((column) => column.name === name) ?? -1] ?? null)
}

function hide(touched: Mutable, before: OverlayRow, id: string | null): void {
  const { rows, gone } = touched
  const own = OVERLAY_ROW.exec(id ?? '')
  const key = keyOf(touched, before)
  if (own !== null) rows.delete(Number(own[1]))
  else if (!touched.emptied) {
    // By key where there is one: live traffic may give the row another ctid meanwhile.
    const values = key ?? [(id ?? '').split(':')[0] ?? null, (id ?? '').split(':').slice(1).join(':')]
    gone.set(JSON.stringify(values), values)
  }
  if (key !== undefined) drop(touched, JSON.stringify(key))
}

/** Takes out the row of this key, if there is one. */
function drop({ rows, numbers }: Mutable, key: string): void {
  const number = numbers.get(key)
  if (number !== undefined) rows.delete(number)
  numbers.delete(key)
}

/** Where two connections have written the same row at the same time, the last one wins. */
function show(touched: Mutable, after: OverlayRow, number: number): void {
  const key = keyOf(touched, after)
  if (key !== undefined) {
    drop(touched, JSON.stringify(key))
    touched.numbers.set(JSON.stringify(key), number)
  }
  touched.rows.set(number, after)
}
