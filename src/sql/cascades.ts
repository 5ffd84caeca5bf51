import { keyColumns, type Reference, type Table } from './catalog.js'
import { parseTextArray } from './pg-array.js'
import { rowAsText } from './preview-parts.js'
import { quoteName } from './tree.js'
import { otherTable, referenceLabel } from './violation-column.js'
import { type Violation, violationOf } from './violation-message.js'
import { columnViolation } from './violations.js'

/** Rows of another table that would change because of foreign keys. */
export interface Cascade {
  readonly table: string
  readonly name: string
  readonly action: 'delete' | 'set null' | 'set default' | 'update'
  readonly rows: number
  /** What would be raised because of it. */
  readonly violation?: Violation
}

export interface CascadeReader {
  lookup(relation: string): Promise<Table>
  /** Result of a query with one number. */
  count(text: string): Promise<number>
  /** First row of a query; without it, nothing is said of violations further down. */
  first?(text: string): Promise<readonly (string | null)[] | undefined>
}

const MAX_DEPTH = 4
const MAX_QUERIES = 20
const DELETES: Readonly<Record<string, Cascade['action']>> = { c: 'delete', n: 'set null', d: 'set default' }
const UPDATES: Readonly<Record<string, Cascade['action']>> = { c: 'update', n: 'set null', d: 'set default' }

/**
 * Counts what foreign keys would delete or change along with the rows of a
 * preview, given as its SELECT. Follows cascading deletes to tables further
 * down, within bounds.
 */
export async function cascadesOf(table: Table, preview: string, reader: CascadeReader): Promise<Cascade[]> {
  const found: Cascade[] = []
  const columns = table.columns ?? []
  const at = (name: string) => columns.findIndex((column) => column.name === name)
  const value = (side: 'old__' | 'new__', name: string) =>
    `CAST(p__.${side}[${at(name) + 1}] AS ${columns[at(name)]?.type})`
  for (const reference of table.referencedBy ?? []) {
    const same = (alias: string) =>
      reference.columns
        .map((name, index) => `${alias}.${quoteName(name)} = ${value('old__', reference.referenced[index] ?? '')}`)
        .join(' AND ')
    const rekeyed = reference.referenced
      .map((name) => `p__.old__[${at(name) + 1}] IS DISTINCT FROM p__.new__[${at(name) + 1}]`)
      .join(' OR ')
    const rows = (alias: string, condition: string) =>
      `EXISTS (SELECT 1 FROM (SELECT op__, old__, new__ FROM (${preview}) q__) p__ WHERE ${condition} AND ${same(alias)})`
    const deletes = DELETES[reference.onDelete]
    const updates = UPDATES[reference.onUpdate]
    if (deletes !== undefined) await follow(reference, deletes, (alias) => rows(alias, "p__.op__ = 'd'"), 1)
    if (updates !== undefined) {
      await follow(reference, updates, (alias) => rows(alias, `p__.op__ = 'u' AND (${rekeyed})`), 1)
    }
  }
  return found

  async function follow(
    reference: Reference,
    action: Cascade['action'],
    condition: (alias: string) => string,
    depth: number,
  ): Promise<void> {
    if (found.length >= MAX_QUERIES) return
    const alias = `c${depth}__`
    const rows = await reader.count(`SELECT count(*) FROM ${reference.table} ${alias} WHERE ${condition(alias)}`)
    if (rows === 0) return
    const child = await reader.lookup(reference.table)
    const violation = await inTheWay(reference, child, action, condition, alias)
    found.push({ table: reference.table, name: reference.name, action, rows, ...(violation ? { violation } : {}) })
    if (action !== 'delete' || depth >= MAX_DEPTH) return
    for (const further of child.referencedBy ?? []) {
      const next = DELETES[further.onDelete]
      // A table that refers to itself is counted for one step only.
      if (next === undefined || further.oid === child.oid) continue
      await follow(
        further,
        next,
        (outer) =>
          `EXISTS (SELECT 1 FROM ${reference.table} ${alias} WHERE ` +
          `${further.columns.map((name, index) => `${outer}.${quoteName(name)} = ${alias}.${quoteName(further.referenced[index] ?? '')}`).join(' AND ')} ` +
          `AND ${condition(alias)})`,
        depth + 1,
      )
    }
  }

  /** What stands in the way of the rows that would be changed along. */
  async function inTheWay(
    { columns, partly }: Reference,
    child: Table,
    action: Cascade['action'],
    condition: (alias: string) => string,
    alias: string,
  ): Promise<Violation | undefined> {
    if (reader.first === undefined || child.triggers !== null) return undefined
    const required = child.columns?.find(({ name, notNull }) => notNull && columns.includes(name))
    if (action === 'set null' && required !== undefined && !partly) {
      return columnViolation(
        child,
        (child.columns ?? []).map(({ name }) => (columns.includes(name) ? null : '')),
      )
    }
    if (action !== 'delete') return undefined
    for (const further of child.referencedBy ?? []) {
      const { onDelete, deferrable, hidden, oid, period } = further
      // What is deleted along as well is in nobody's way.
      const reached =
        oid === table.oid || oid === child.oid || table.reached?.some((other) => other.oid === oid || other.triggers)
      if (!/[ar]/.test(onDelete) || deferrable || hidden || period || reached !== false) continue
      const same = further.columns.map(
        (name, index) => `g__.${quoteName(name)} = ${alias}.${quoteName(further.referenced[index] ?? '')}`,
      )
      const [row] =
        (await reader.first(
          `SELECT ${rowAsText(alias, child.columns ?? [])} FROM ${quoteName(child.schema)}.${quoteName(child.name)} ${alias} WHERE ${condition(alias)} ` +
            `AND EXISTS (SELECT 1 FROM ${otherTable(further, further.table)} g__ WHERE ${same.join(' AND ')}) LIMIT 1`,
        )) ?? []
      if (row != null) return violationOf(child, referenceLabel(child, further, onDelete), parseTextArray(row))
    }
    return undefined
  }
}

/** True when a write of this kind could set foreign keys in motion at all. */
export function mayCascade(table: Table, operations: ReadonlySet<string>): boolean {
  return (table.referencedBy ?? []).some(
    ({ onDelete, onUpdate }) =>
      (operations.has('d') && onDelete in DELETES) ||
      (operations.has('u') && onUpdate in UPDATES && keyColumns(table).length > 0),
  )
}
