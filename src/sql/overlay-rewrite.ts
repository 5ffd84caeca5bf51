import type { Node, RangeVar } from '@pgsql/types'
import { deparse, parseOne } from './grammar.js'
import type { Overlay, TouchedTable } from './overlay.js'
import { type Resolution, relationKey, type VisibleTable } from './overlay-catalog.js'
import { groupByWholeRows, typeWholeRows } from './overlay-rows.js'
import { readsSystemColumns, relationUses } from './relations.js'
import { nameParts, quoteName, walk } from './tree.js'

/** The statement cannot be given the run's own rows; the message says why. */
export class NotOverlaid extends Error {
  override readonly name = 'NotOverlaid'
}

/** A statement over the run's own rows. They travel as parameters after the statement's own. */
export interface OverlaidStatement {
  readonly text: string
  readonly values: readonly string[]
  /** What each value holds, so that the text can be used again when the rows have changed. */
  readonly slots: readonly OverlaySlot[]
  readonly types: readonly number[]
}

export interface OverlayScope {
  readonly overlay: Overlay
  readonly resolution: Resolution
  /** How many parameters the statement has itself. */
  readonly parameters: number
  /** Second attempt: spells out what a table in GROUP BY or used as a value means, and a subquery does not. */
  readonly spellOut?: boolean
}

/** The rows of one table that a parameter of an {@link OverlaidStatement} holds. */
export interface OverlaySlot {
  readonly oid: string
  readonly holds: 'gone' | 'rows'
}

/** What of an overlay decides the text of its rewrites: which tables have rows of either kind. */
export function overlayShape(overlay: Overlay): string {
  return overlay.oids
    .map((oid) => {
      const touched = overlay.table(oid)
      if (touched === undefined) return oid
      return `${oid}${touched.emptied ? 'e' : ''}${touched.rows.size > 0 ? 'r' : ''}${touched.gone.size > 0 ? 'g' : ''}${signatureOf(touched)}`
    })
    .sort()
    .join(' ')
}

const signatures = new WeakMap<object, string>()

function signatureOf({ table, key }: TouchedTable): string {
  const known = signatures.get(table)
  if (known !== undefined) return known
  const signature = JSON.stringify([key, table.columns?.map(({ name, type }) => [name, type])])
  signatures.set(table, signature)
  return signature
}

/** The values of a rewrite as the overlay is now; undefined when the tables are not there any more. */
export function slotValues(slots: readonly OverlaySlot[], overlay: Overlay): string[] | undefined {
  const values: string[] = []
  for (const { oid, holds } of slots) {
    const touched = overlay.table(oid)
    if (touched === undefined) return undefined
    values.push(slotValue(touched, holds))
  }
  return values
}

function slotValue({ rows, gone }: TouchedTable, holds: OverlaySlot['holds']): string {
  return JSON.stringify(holds === 'gone' ? [...gone.values()] : [...rows].map(([number, row]) => [number, ...row]))
}

const JSON_OID = 114
const MARKER = 'drytrace rows'

/** A FROM item for a touched table whose rows also need `tableoid` and `ctid`; {@link overlayStatement} replaces it. */
export function markedTable(oid: string, alias: string): string {
  return `${quoteName(MARKER)}.${quoteName(oid)} AS ${quoteName(alias)}`
}

function markedOid(relation: RangeVar): string | undefined {
  return relation.schemaname === MARKER ? relation.relname : undefined
}

/** The relations whose meaning must be known before {@link overlayStatement}, as the server takes them. */
export function relationsToResolve(text: string, overlay: Overlay): string[] {
  const uses = relationUses(parseOne(text))
  return [
    ...new Set(
      uses.map(({ relation }) => {
        const marked = markedOid(relation)
        const table = marked === undefined ? undefined : overlay.table(marked)?.table
        return table === undefined
          ? relationKey(relation)
          : relationKey({ schemaname: table.schema, relname: table.name })
      }),
    ),
  ]
}

/** @throws NotOverlaid when a touched table is read in a way that the run's own rows cannot be given to. */
export function refuseHiddenReads(text: string, { relations, functions }: Resolution, overlay: Overlay): void {
  for (const { name, through } of relations) {
    if (through.length > 0) throw new NotOverlaid(`${name} reads ${through.join(', ')}`)
  }
  if (functions.length > 0) throw new NotOverlaid(`${functions.join(', ')}() may read what the run has changed`)
  const touched = relations.some(({ oid }) => oid !== null && overlay.table(oid) !== undefined)
  if (touched && readsSystemColumns(parseOne(text))) throw new NotOverlaid('system columns are read')
}

/**
 * Gives a query the run's own rows: every touched table becomes its real rows
 * minus those replaced or deleted, plus the ones of the overlay. Undefined when
 * the query reads no touched table.
 * @throws NotOverlaid
 */
export function overlayStatement(text: string, scope: OverlayScope): OverlaidStatement | undefined {
  const node = parseOne(text)
  const values: string[] = []
  const slots: OverlaySlot[] = []
  const parameter = (touched: TouchedTable, holds: OverlaySlot['holds']): string => {
    slots.push({ oid: touched.table.oid, holds })
    return `CAST($${scope.parameters + values.push(slotValue(touched, holds))} AS json)`
  }
  const sources = new Map<string, string>()
  const overlaid: { relation: RangeVar; alias: string; touched: TouchedTable; visible: VisibleTable }[] = []
  for (const { relation, replace } of relationUses(node)) {
    const marked = markedOid(relation)
    const found = scope.resolution.relations.find((candidate) =>
      marked === undefined ? candidate.name === relationKey(relation) : candidate.oid === marked,
    )
    const touched = found?.oid == null ? undefined : scope.overlay.table(found.oid)
    const visible = found?.table
    if (touched === undefined || visible == null) {
      if (marked !== undefined) throw new NotOverlaid('the table is not to be found')
      // Another connection may have touched it since the relations were resolved: this statement came first.
      continue
    }
    if (replace === undefined) throw new NotOverlaid(`${visible.name} is sampled`)
    refuseTable(touched, visible)
    // One parameter for all places that read the same table.
    const key = `${touched.table.oid} ${marked !== undefined}`
    const source = sources.get(key) ?? rowsOf(touched, visible, marked !== undefined, parameter)
    sources.set(key, source)
    const alias = relation.alias?.aliasname ?? relation.relname ?? ''
    replace({ RangeSubselect: { subquery: parseOne(source), alias: relation.alias ?? { aliasname: alias } } })
    if (marked === undefined) overlaid.push({ relation, alias, touched, visible })
  }
  if (sources.size === 0) return undefined
  dropSchemas(
    node,
    overlaid.map(({ visible }) => visible),
  )
  if (scope.spellOut) {
    groupByWholeRows(node, overlaid)
    typeWholeRows(node, overlaid)
  }
  const result = deparse(node)
  // The deparser is not PostgreSQL's own: what it wrote must read back as what was meant.
  if (!sameTree(parseOne(result), node)) throw new NotOverlaid('the statement cannot be written back')
  return { text: result, values, slots, types: values.map(() => JSON_OID) }
}

function refuseTable({ table }: TouchedTable, visible: VisibleTable): void {
  if (visible.rowSecurity) throw new NotOverlaid(`${visible.name} has row security`)
  if (visible.inherited) throw new NotOverlaid(`${visible.name} has child tables`)
  const known = (table.columns ?? []).map((column) => column.name).join('\0')
  if (known !== visible.columns.map((column) => column.name).join('\0')) {
    throw new NotOverlaid(`the columns of ${visible.name} have changed`)
  }
}

function rowsOf(
  touched: TouchedTable,
  visible: VisibleTable,
  hidden: boolean,
  parameter: (touched: TouchedTable, holds: OverlaySlot['holds']) => string,
): string {
  const { table, key, rows, gone, emptied } = touched
  const columns = visible.columns.map(({ name, type, collation }, index) => {
    const value = `CAST(v__.e ->> ${index + 1} AS ${type})`
    return { name: quoteName(name), value: collation === null ? value : `(${value} COLLATE ${collation})` }
  })
  const real = columns.map(({ name }) => `r__.${name}`)
  const own = columns.map(({ name, value }) => `${value} AS ${name}`)
  if (hidden) {
    real.unshift('r__.tableoid', 'r__.ctid')
    own.unshift('CAST(0 AS oid) AS tableoid', `CAST('(' || (v__.e ->> 0) || ',1)' AS tid) AS ctid`)
  }
  const from = `${quoteName(table.schema)}.${quoteName(table.name)}`
  let text = `SELECT ${real.join(', ')} FROM ${from} r__`
  if (emptied) text += ' WHERE false'
  else if (gone.size > 0) {
    const same =
      key.length > 0
        ? key.map((name, index) => {
            const type = visible.columns.find((column) => column.name === name)?.type
            return `CAST(g__.e ->> ${index} AS ${type}) = r__.${quoteName(name)}`
          })
        : ['CAST(g__.e ->> 0 AS oid) = r__.tableoid', 'CAST(g__.e ->> 1 AS tid) = r__.ctid']
    const list = parameter(touched, 'gone')
    text += ` WHERE NOT EXISTS (SELECT 1 FROM json_array_elements(${list}) g__(e) WHERE ${same.join(' AND ')})`
  }
  if (rows.size > 0) {
    const list = parameter(touched, 'rows')
    text += ` UNION ALL SELECT ${own.join(', ')} FROM json_array_elements(${list}) v__(e)`
  }
  return text
}

/** A subquery has no schema: `public.t.c` becomes `t.c`. */
function dropSchemas(node: Node, tables: readonly VisibleTable[]): void {
  walk({ node }, (tag, value: { fields?: Node[] }) => {
    if (tag !== 'ColumnRef' || (value.fields?.length ?? 0) < 3) return
    const [schema, name] = nameParts(value.fields)
    if (tables.some((table) => table.schema === schema && table.name === name)) value.fields?.shift()
  })
}

/** Where in the text a node was. */
const POSITION = /location$|^stmt_len$|list_(start|end)$/

function sameTree(left: unknown, right: unknown): boolean {
  if (typeof left !== 'object' || left === null || typeof right !== 'object' || right === null) return left === right
  if (Array.isArray(left) || Array.isArray(right)) {
    if (!Array.isArray(left) || !Array.isArray(right) || left.length !== right.length) return false
    return left.every((item, index) => sameTree(item, right[index]))
  }
  const a = left as Record<string, unknown>
  const b = right as Record<string, unknown>
  const keys = new Set([...Object.keys(a), ...Object.keys(b)])
  for (const key of keys) {
    if (POSITION.test(key)) continue
    if (!sameTree(a[key], b[key])) return false
  }
  return true
}
