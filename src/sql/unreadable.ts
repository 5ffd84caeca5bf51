import type { Exclusion, ForeignKey, Reference, Table, UniqueIndex } from './catalog.js'
import { quoteName } from './tree.js'

/*
 * Who may write a table need not be allowed to read all of it. What cannot be
 * read is NULL in a preview, and nothing is concluded from it.
 */

/** Columns the current user may not read; system columns are among them whenever the table as a whole is not readable. */
export function isReadInPart(table: Table): boolean {
  return table.unreadable != null
}

/**
 * The table as a preview by this user may judge it. `written` are the columns
 * whose new values are known anyway; undefined when all of them are.
 */
export function judgedInPart(table: Table, written?: ReadonlySet<string>): Table {
  const closed = new Set(table.unreadable ?? [])
  const unknown = new Set(written === undefined ? [] : [...closed].filter((name) => !written.has(name)))
  const columns = table.columns ?? []
  const speaksOf = (text: string | null, names: ReadonlySet<string>) =>
    text !== null && [...names].some((name) => text.includes(name))
  const unseen: string[] = []
  const keep = <T extends { name: string }>(all: readonly T[] | null, lost: (each: T) => boolean): T[] | null =>
    all?.filter((each) => {
      if (lost(each)) unseen.push(each.name)
      return !lost(each)
    }) ?? null
  const lostIndex = (index: UniqueIndex) => index.unreadable === true || lostKeys(index)
  const lostKeys = ({ keys, predicate, numbers }: UniqueIndex | Exclusion) =>
    numbers.some((number) => closed.has(columns.find((column) => column.number === number)?.name ?? '')) ||
    [...keys, predicate].some((text) => speaksOf(text, closed))
  const lostKey = (key: ForeignKey) => key.unreadable === true || key.columns.some((name) => unknown.has(name))
  const lostReference = (reference: Reference) =>
    reference.unreadable === true || reference.referenced.some((name) => unknown.has(name))
  const partial = written !== undefined && isReadInPart(table)
  // ON CONFLICT may still name such an index: the server refuses that by itself.
  const indexes = table.indexes?.map((index) => (lostIndex(index) ? { ...index, unreadable: true } : index)) ?? null
  unseen.push(...(indexes?.flatMap((index) => (index.unreadable ? [index.name] : [])) ?? []))
  const changed = {
    indexes,
    exclusions: keep(table.exclusions ?? null, lostKeys),
    checks: keep(table.checks, ({ expression }) => speaksOf(expression, unknown)),
    foreignKeys: keep(table.foreignKeys, lostKey),
    referencedBy: keep(table.referencedBy, lostReference),
  }
  if (unseen.length === 0 && !partial) return table
  return {
    ...table,
    ...changed,
    columns: columns.map((column) => (unknown.has(column.name) ? { ...column, notNull: false } : column)),
    unseen,
    readInPart: partial,
  }
}

/** A FROM item with the columns that may be read; the others and the row's address are made up. */
export function readInPart(table: Table, from: string, alias: string): string {
  const closed = new Set(table.unreadable ?? [])
  const list = (table.columns ?? []).map((column) => {
    const name = quoteName(column.name)
    return closed.has(column.name) ? `CAST(NULL AS ${column.type}) AS ${name}` : `r__.${name}`
  })
  return `(SELECT ${[...madeUpAddress(table), ...list].join(', ')} FROM ${from}) AS ${quoteName(alias)}`
}

/** An address per row, so that rows can be told apart within one query. */
export function madeUpAddress(table: Table, names: readonly [string, string] = ['tableoid', 'ctid']): string[] {
  return [
    `CAST(${table.oid} AS oid) AS ${names[0]}`,
    `CAST('(' || row_number() OVER () || ',1)' AS tid) AS ${names[1]}`,
  ]
}
