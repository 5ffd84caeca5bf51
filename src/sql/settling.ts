import type { Exclusion, Reference, Table, UniqueIndex } from './catalog.js'
import { quoteName, quoteText } from './tree.js'
import {
  defaultsLabel,
  keyFound,
  keyGiven,
  keyLabel,
  keysOf,
  knownDefaults,
  otherTable,
  referenceLabel,
} from './violation-column.js'
import { constraintOf } from './violation-message.js'

/** What the statement's rows must be judged by together. */
export interface Settling {
  readonly table: Table
  /** Labels of `viol__` that single rows gave. */
  readonly labels: ReadonlySet<string>
  /** Several rows are written: keys that only the server can compare are compared among them. */
  readonly among: boolean
  /** Constraints that are checked before the transaction ends. */
  checked(constraint: UniqueIndex | Exclusion): boolean
  /** The FROM item that gives the table's own rows, with `tableoid` and `ctid`, under an alias. */
  existing(alias: string): string
}

const FRESH = 'f__'
const GONE = 'g__'

/**
 * A query over the rows a preview would write and the rows they leave in place:
 * what would be violated when all of them are written, whatever their order.
 * Its rows are a label as in `viol__`, the new row, and the old one, as text
 * arrays. Undefined when nothing depends on the rows together.
 */
export function settlingQuery(settling: Settling, preview: string): string | undefined {
  const { table, labels } = settling
  const tests = [
    ...keyTests(settling),
    ...(table.foreignKeys ?? [])
      .filter(({ name, referencedOid }) => labels.has(`23503:${name}`) && referencedOid === table.oid)
      .map((key) => {
        const label = quoteText(`23503:${key.name}`)
        const found = keyFound(key, FRESH, after(settling, 'r__', key.referenced))
        return `SELECT ${label}, ${FRESH}.raw__, NULL::text[] FROM ${FRESH} WHERE ${keyGiven(key, FRESH)} AND NOT ${found} ORDER BY ${FRESH}.n__`
      }),
    ...(table.referencedBy ?? []).flatMap((reference) => [
      ...referenceTest(settling, reference, 'd'),
      ...referenceTest(settling, reference, 'u'),
      ...defaultsTest(settling, reference),
    ]),
  ]
  if (tests.length === 0) return undefined
  const columns = table.columns ?? []
  const cast = (side: string) =>
    columns
      .map(({ name, type }, index) => `CAST(p__.${side}[${index + 1}] AS ${type}) AS ${quoteName(name)}`)
      .join(', ')
  // Rows of child tables are under none of the parent's keys.
  const own =
    table.kind === 'p' ? 'true' : `(p__.id__ IS NULL OR split_part(p__.id__, ':', 1) IN ('0', '${table.oid}'))`
  return (
    `WITH p__ AS MATERIALIZED (SELECT op__, old__, new__, id__ FROM (${preview}) q__), ` +
    `${FRESH} AS MATERIALIZED (SELECT row_number() OVER () AS n__, p__.new__ AS raw__, p__.old__ AS was__, ${cast('new__')} ` +
    `FROM p__ WHERE p__.op__ IN ('i', 'u') AND ${own}), ` +
    `${GONE} AS MATERIALIZED (SELECT row_number() OVER () AS n__, p__.op__ AS op__, p__.old__ AS raw__, p__.new__ AS next__, ${cast('old__')} ` +
    `FROM p__ WHERE p__.op__ IN ('u', 'd') AND ${own}) ` +
    tests.map((test) => `(${test} LIMIT 1)`).join(' UNION ALL ')
  )
}

function isOf(label: string, kind: string, name: string): boolean {
  return label.startsWith(kind) && constraintOf(label) === name
}

/** The rows of the table that the statement leaves alone. */
function kept({ table, existing }: Settling, alias: string): string {
  const columns = (table.columns ?? []).map(({ name }) => `e__.${quoteName(name)}`).join(', ')
  const id = "CAST(e__.tableoid AS text) || ':' || CAST(e__.ctid AS text)"
  return (
    `(SELECT ${columns} FROM ${existing('e__')} WHERE NOT EXISTS ` +
    `(SELECT 1 FROM p__ WHERE p__.op__ IN ('u', 'd') AND p__.id__ = ${id})) AS ${alias}`
  )
}

/** The rows of the table after the statement, with some of their columns. */
function after(settling: Settling, alias: string, names: readonly string[]): string {
  const list = (row: string) => names.map((name) => `${row}.${quoteName(name)}`).join(', ')
  return `(SELECT ${list('k__')} FROM ${kept(settling, 'k__')} UNION ALL SELECT ${list('h__')} FROM ${FRESH} h__) AS ${alias}`
}

function keyTests(settling: Settling): string[] {
  const { table, labels, among, checked } = settling
  const tests: string[] = []
  const test = (index: UniqueIndex | Exclusion, operators: readonly string[], label: string, met: boolean): void => {
    const clash = operators.map((operator, number) => `o__.k${number}__ ${operator} i__.k${number}__`)
    if (index.predicate !== null) clash.push('o__.p__', 'i__.p__')
    const with_ = (from: string, more = '') =>
      `SELECT ${label}, ${FRESH}.raw__, ${FRESH}.was__ FROM ${FRESH} CROSS JOIN LATERAL ${keysOf(table, index, FRESH)} i__, ` +
      `${from} CROSS JOIN LATERAL ${keysOf(table, index, 'a__')} o__ WHERE ${[...clash, more].filter(Boolean).join(' AND ')}`
    // Otherwise no row has met one that is there.
    if (met) tests.push(`${with_(kept(settling, 'a__'))} ORDER BY ${FRESH}.n__`)
    tests.push(
      // The later row meets the one before.
      `${with_(`${FRESH} a__`, `a__.n__ < ${FRESH}.n__`)} ORDER BY ${FRESH}.n__, a__.n__`,
    )
  }
  for (const index of table.indexes ?? []) {
    const label = `23505:${index.constraint ?? index.name}`
    // Plain keys of the same statement were compared as they came.
    const compared = index.immediate && index.predicate === null && !index.numbers.includes(0)
    const named = [...labels].some(
      (candidate) => candidate === label || isOf(candidate, '23505x', index.constraint ?? index.name),
    )
    if (index.exclusion || !checked(index) || !(named || (among && !compared))) continue
    const equals = index.nullsNotDistinct ? 'IS NOT DISTINCT FROM' : '='
    test(
      index,
      index.keys.map(() => equals),
      index.predicate === null && !index.numbers.includes(0) ? quoteText(label) : keyLabel(index),
      named,
    )
  }
  for (const exclusion of table.exclusions ?? []) {
    const { name, operators, keys } = exclusion
    const named = [...labels].some((label) => isOf(label, '23P01:', name))
    if (!checked(exclusion) || !(named || among)) continue
    const values = ['i__', 'o__'].flatMap((row) => keys.map((_, number) => `CAST(${row}.k${number}__ AS text)`))
    const list = [`CAST(${quoteText(name)} AS text)`, ...values].join(', ')
    test(exclusion, operators, `'23P01:' || json_build_array(${list})`, named)
  }
  return tests
}

/** Keys that the statement takes away although something refers to them. */
function referenceTest(settling: Settling, reference: Reference, operation: 'u' | 'd'): string[] {
  const { table, labels } = settling
  const action = operation === 'd' ? reference.onDelete : reference.onUpdate
  const label = referenceLabel(table, reference, action)
  if (!labels.has(label) || /[cnd]/.test(action)) return []
  const { columns, referenced } = reference
  const last = columns.length - 1
  const operator = (index: number) => (reference.period && index === last ? '&&' : '=')
  const matches = (row: string, names: readonly string[]) =>
    names
      .map(
        (name, index) => `${row}.${quoteName(name)} ${operator(index)} ${GONE}.${quoteName(referenced[index] ?? '')}`,
      )
      .join(' AND ')
  const child =
    reference.oid === table.oid ? after(settling, 'c__', columns) : `${otherTable(reference, reference.table)} c__`
  const terms = [`${GONE}.op__ = '${operation}'`]
  if (action === 'r') {
    const changed = referenced.map((name) => {
      const at = (table.columns ?? []).findIndex((column) => column.name === name) + 1
      return `${GONE}.raw__[${at}] COLLATE "C" IS DISTINCT FROM ${GONE}.next__[${at}] COLLATE "C"`
    })
    if (operation === 'u') terms.push(`(${changed.join(' OR ')})`)
  } else if (!reference.period) {
    terms.push(`NOT EXISTS (SELECT 1 FROM ${after(settling, 'r__', referenced)} WHERE ${matches('r__', referenced)})`)
  }
  const broken = [matches('c__', columns)]
  if (reference.period && action !== 'r') {
    const own = quoteName(columns[last] ?? '')
    const period = quoteName(referenced[last] ?? '')
    // Other rows may hold what is left of the history that the child refers to.
    broken.push(
      `NOT coalesce((c__.${own} * ${GONE}.${period}) <@ (SELECT pg_catalog.range_agg(r__.${period}) ` +
        `FROM ${after(settling, 'r__', referenced)} WHERE ${matches('r__', referenced)}), false)`,
    )
  }
  terms.push(`EXISTS (SELECT 1 FROM ${child} WHERE ${broken.join(' AND ')})`)
  return [
    `SELECT ${quoteText(label)}, ${GONE}.next__, ${GONE}.raw__ FROM ${GONE} WHERE ${terms.join(' AND ')} ORDER BY ${GONE}.n__`,
  ]
}

/** What SET DEFAULT makes of rows that referred to a key must be there in the end. */
function defaultsTest(settling: Settling, reference: Reference): string[] {
  const { table, labels } = settling
  const defaults = knownDefaults(reference)
  const { name, columns, referenced, onDelete, onUpdate } = reference
  if (defaults === undefined || ![...labels].some((label) => isOf(label, '23503d', name))) return []
  const operations = [onDelete === 'd' ? 'd' : '', onUpdate === 'd' ? 'u' : ''].filter(Boolean)
  const same = columns.map((column, at) => `c__.${quoteName(column)} = ${GONE}.${quoteName(referenced[at] ?? '')}`)
  const still = referenced.map((column) => {
    const at = (table.columns ?? []).findIndex((candidate) => candidate.name === column) + 1
    return `${GONE}.raw__[${at}] COLLATE "C" IS DISTINCT FROM ${GONE}.next__[${at}] COLLATE "C"`
  })
  // Rows that have the default already stay as they are.
  const own = referenced.map((column, at) => `${GONE}.${quoteName(column)} = (${defaults[at]})`)
  const found = referenced.map((column, at) => `r__.${quoteName(column)} = (${defaults[at]})`)
  return [
    `SELECT CASE WHEN ${own.join(' AND ')} THEN ${quoteText(`23503k${name}`)} ELSE ${defaultsLabel(reference, defaults)} END, ${GONE}.next__, ${GONE}.raw__ FROM ${GONE} ` +
      `WHERE ${GONE}.op__ IN (${operations.map((operation) => `'${operation}'`).join(', ')}) AND (${still.join(' OR ')}) ` +
      `AND EXISTS (SELECT 1 FROM ${otherTable(reference, reference.table)} c__ WHERE ${same.join(' AND ')}) ` +
      `AND NOT EXISTS (SELECT 1 FROM ${after(settling, 'r__', referenced)} WHERE ${found.join(' AND ')}) ORDER BY ${GONE}.n__`,
  ]
}
