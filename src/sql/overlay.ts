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
}

/** Rows a run may collect in one database, counted as writes: a row that is written twice counts twice. */
export const MAX_OVERLAY_ROWS = 10_000

interface Batch {
  readonly owner: object
  readonly at: number
  readonly firstRow: number
  readonly changes: TableChanges
}

interface Mutable {
  readonly table: Table
  readonly key: readonly string[]
  readonly rows: Map<number, OverlayRow>
  readonly gone: Map<string, OverlayRow>
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
    for (const change of changes) {
      if (change.rows.length === 0) continue
      const batch = { owner, at: overlayTime(), firstRow: this.#nextRow, changes: change }
      this.#nextRow += change.rows.length
      this.#batches.push(batch)
      this.#replay(batch)
    }
    this.#count += count
    return true
  }

  /** Takes back what `owner` wrote after `since`. */
  undo(owner: object, since: number): void {
    const kept = this.#batches.filter((batch) => batch.owner !== owner || batch.at < since)
    if (kept.length === this.#batches.length) return
    this.#batches = kept
    this.#tables = new Map()
    this.#count = 0
    for (const batch of kept) {
      this.#count += batch.changes.rows.length
      this.#replay(batch)
    }
  }

  #replay({ firstRow, changes }: Batch): void {
    const { table, rows } = changes
    const touched = this.#touch(table)
    for (const [index, { before, after, id }] of rows.entries()) {
      if (before !== null) hide(touched, before, id)
      if (after !== null) touched.rows.set(firstRow + index, after)
    }
  }

  #touch(table: Table): Mutable {
    const known = this.#tables.get(table.oid)
    if (known !== undefined) return known
    const key = keyColumns(table).map((column) => column.name)
    const touched = { table, key, rows: new Map(), gone: new Map() }
    this.#tables.set(table.oid, touched)
    return touched
  }
}

const OVERLAY_ROW = /^0:\((\d+),1\)$/

function hide({ table, key, rows, gone }: Mutable, before: OverlayRow, id: string | null): void {
  const own = OVERLAY_ROW.exec(id ?? '')
  if (own !== null) {
    rows.delete(Number(own[1]))
    return
  }
  // By key where there is one: live traffic may give the row another ctid meanwhile.
  const columns = table.columns ?? []
  const values =
    key.length > 0
      ? key.map((name) => before[columns.findIndex((column) => column.name === name)] ?? null)
      : [(id ?? '').split(':')[0] ?? null, (id ?? '').split(':').slice(1).join(':')]
  gone.set(JSON.stringify(values), values)
}
