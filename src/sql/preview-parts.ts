import type { Node, RangeVar, WithClause } from '@pgsql/types'
import type { Column, Rule, Table } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { nameParts, quoteName, replace, walk } from './tree.js'
import { isReadInPart, readInPart } from './unreadable.js'

/** The statement cannot be worked out as a SELECT; the message says which part of it. */
export class PreviewUnsupported extends Error {
  override readonly name = 'PreviewUnsupported'
  /** SQLSTATE, when the server would refuse the statement for this very reason, in these very words. */
  readonly sqlState: string | undefined

  constructor(message: string, sqlState?: string) {
    super(message)
    this.sqlState = sqlState
  }
}

/** A trigger raises this error whatever the rows are, before anything else happens. */
export class RaisedByTrigger extends PreviewUnsupported {
  readonly code: string

  constructor(message: string, code: string) {
    super(message, code)
    this.code = code
  }
}

/** Of triggers: what they do besides changing the row, or all of it. */
export type IgnoredTriggers = 'what they do besides' | 'all'

/** What a rewrite needs to know that is not in the statement. All of it is read-only. */
export interface PreviewOptions {
  /** The catalog's description of a relation, given as a quoted name. */
  lookup(relation: string): Promise<Table>
  /** How many columns a query has. Without it, `INSERT … SELECT *` is unsupported. */
  countColumns?(query: string): Promise<number>
  /** How many rows a query has. Without it, ids for `INSERT … SELECT` start at one synthetic id and count up. */
  countRows?(query: string): Promise<number>
  /** Ids for sequence and identity defaults: out of band, never the sequence's next value. */
  syntheticIds(count: number, column?: Column): readonly string[]
  /** Is told what a preview does not see. */
  note?(text: string): void
  /** The row a cursor of the session stands on. Without it, `WHERE CURRENT OF` is unsupported. */
  cursorRow?(cursor: string, table: Table): Promise<{ readonly tableoid: string; readonly ctid: string }>
  /**
   * The FROM item a written table's rows are read from, with `tableoid` and
   * `ctid`; undefined for the table itself. This is where an overlay goes in.
   */
  source?(table: Table, alias: string): string | undefined
  /**
   * Names of the indexes that the planner takes for the inference of this
   * INSERT. Without it, only inference by plain columns is supported.
   */
  arbiters?(statement: string): Promise<readonly string[]>
  /** A written view is read by its query, so that {@link source} counts for the tables in it. */
  readonly inlineViews?: boolean
  /** Where rules have been applied already; undefined for a statement as it is written. */
  readonly rules?: RuleScope
  /** Rules do not count (COPY), or make a statement unsupported (what foreign keys do). */
  readonly withoutRules?: 'ignored' | 'refused' | undefined
  /** Rewrites a statement within a trigger; without it, triggers are not followed. */
  rewrite?(node: Node, options: PreviewOptions): Promise<InnerRewrite>
  /** What of triggers is not to be followed; and whether any was. */
  readonly triggers?: { readonly ignored: IgnoredTriggers | undefined; followed: boolean }
  /** How many triggers deep. */
  readonly depth?: number
  /** Counts names taken, so that those of a statement within another one differ. */
  readonly names?: { taken: number }
}

/** How far the rules of what a statement writes to have been applied. */
export interface RuleScope {
  /** Oids of relations whose rules are behind us. */
  readonly applied: ReadonlySet<string>
  /** Conditions of INSTEAD rules, over `old` and `new`: rows that meet one are left to the rule. */
  readonly unless: readonly Node[]
  /** Oid of the relation that is to be taken as the written one, views and all. */
  readonly stopAt?: string
}

/** A write as a SELECT, as far as a trigger needs it. */
export interface InnerRewrite {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | 'MERGE'
  readonly table: Table
  /** Number of RETURNING columns, null without RETURNING. */
  readonly returning: number | null
  readonly sql: string
  /** What the rewrite does not promise, one sentence each. */
  readonly notes?: readonly string[]
  /** What triggers would write besides. */
  readonly effects?: readonly EffectPart[]
}

/** A query for the leading columns of what a trigger writes. */
export interface EffectPart {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE'
  readonly table: Table
  readonly sql: string
}

/** A written view over the one table its rows come from. */
export interface WrittenView {
  /** The table's column behind each of the view's, where it is a plain one. */
  readonly columnOf: ReadonlyMap<string, string>
  /** Defaults of the view's own, by the table's column. */
  readonly defaults: ReadonlyMap<string, string>
  /** A FROM item with the view's columns, and `to__`, `ctid__`, `b0__`, `b1__`, … for the table's row. */
  oldRows(options: PreviewOptions, alias: string): string
  /** A query for the view's columns of a row of the table, given as a FROM item's name. */
  shown(row: string): string
  /** What WITH CHECK OPTION demands of a row of the table, as texts that are NULL when it holds. */
  checks(row: string): readonly string[]
}

export interface Target {
  readonly relation: RangeVar
  readonly table: Table
  /** The table's own columns, which `old__` and `new__` hold. */
  readonly columns: readonly Column[]
  /** Names of the columns the statement sees: the table's, or the view's. */
  readonly visible: readonly string[]
  /** Type of a whole row as the statement sees it. */
  readonly rowType: string
  /** The statement names a view; {@link table} is the table it writes to. */
  readonly view?: WrittenView
  /** The name the statement calls the table by, and that name quoted. */
  readonly alias: string
  readonly quotedAlias: string
}

/** MERGE is refused by the server itself where there are rules of any kind. */
export type Command = 'INSERT' | 'UPDATE' | 'DELETE' | 'MERGE' | 'UPSERT'

const RULE_EVENTS: Readonly<Record<Command, string>> = {
  INSERT: '3',
  UPDATE: '2',
  DELETE: '4',
  MERGE: '234',
  UPSERT: '23',
}

/** The rules of a relation that make something else of the command, in the order in which they fire. */
export function rulesFor(table: Table, command: Command): readonly Rule[] {
  return (table.ruleDefinitions ?? []).filter((rule) => rule.enabled && RULE_EVENTS[command].includes(rule.event))
}

/** @throws PreviewUnsupported where rules have not been applied to the statement. */
export function refuseRules(table: Table, command: Command, { rules, withoutRules }: PreviewOptions): void {
  if (table.rules === null || rules?.applied.has(table.oid) || withoutRules === 'ignored') return
  if (table.ruleDefinitions == null || rulesFor(table, command).length > 0) {
    throw new PreviewUnsupported(`${table.name} has rules`)
  }
}

/** Rewrites `schema.table.column` to `table.column`: in the rewrite the table is a subquery, which has no schema. */
export function dropSchema(statement: unknown, relation: RangeVar): void {
  if (!relation.schemaname) return
  walk(statement, (tag, value: { fields?: Node[] }) => {
    if (tag !== 'ColumnRef' || value.fields === undefined) return
    const [schema, table] = nameParts(value.fields)
    if (value.fields.length >= 3 && schema === relation.schemaname && table === relation.relname) value.fields.shift()
  })
}

/** The written table in a FROM clause, with its alias. */
export function readFrom(target: Target, options: PreviewOptions, alias: string = target.alias): string {
  const { schema, name, kind, oid, view } = target.table
  if (kind === 'v') {
    const query =
      view && options.inlineViews ? `(${view.replace(/;\s*$/, '')})` : `${quoteName(schema)}.${quoteName(name)}`
    // A view's rows have no address, but triggers in its place tell them apart by one.
    const address = `CAST('(0,' || row_number() OVER () || ')' AS tid)`
    return `(SELECT v__.*, CAST(${oid} AS oid) AS tableoid, ${address} AS ctid FROM ${query} AS v__) AS ${quoteName(alias)}`
  }
  // With its schema, because WITH may define the bare name as something else.
  const named: RangeVar = { ...target.relation, schemaname: schema, relname: name, alias: { aliasname: alias } }
  const source = options.source?.(target.table, alias)
  if (!isReadInPart(target.table)) return source ?? deparse({ RangeVar: named })
  if (source !== undefined) throw new PreviewUnsupported(`${name} may not be read, and the run has written it`)
  return readInPart(target.table, deparse({ RangeVar: { ...named, alias: { aliasname: 'r__' } } }), alias)
}

/** The rows a table's unique and exclusion constraints look at: those of child tables have constraints of their own. */
export function constrainedRows(table: Table, options: Pick<PreviewOptions, 'source'>, alias: string): string {
  const from = `${table.kind === 'p' ? '' : 'ONLY '}${quoteName(table.schema)}.${quoteName(table.name)}`
  const source = options.source?.(table, alias)
  if (!isReadInPart(table)) return source ?? `${from} AS ${quoteName(alias)}`
  if (source !== undefined) throw new PreviewUnsupported(`${table.name} may not be read, and the run has written it`)
  return readInPart(table, `${from} AS r__`, alias)
}

/** The functions behind an assignment to these types: they cut off blanks and fail on the rest, where a cast cuts all. */
const LENGTH_CHECKED: Readonly<Record<string, string>> = {
  'character varying': 'varchar',
  character: 'bpchar',
  bit: 'bit',
  'bit varying': 'varbit',
}

/** An expression as a value of a column, with the errors an assignment gives. */
export function castTo(column: Pick<Column, 'type' | 'baseType' | 'typmod' | 'domain'>, expression: string): string {
  const check = column.typmod > 0 ? LENGTH_CHECKED[column.baseType] : undefined
  if (check === undefined || column.domain) return `CAST((${expression}) AS ${column.type})`
  const loose = { bit: 'bit varying', bpchar: 'bpchar' }[check] ?? column.baseType
  return `pg_catalog.${check}(CAST((${expression}) AS ${loose}), ${column.typmod}, false)`
}

/** Ends a subquery whose columns are used often: without it the planner puts their expressions in each place. */
export const ONCE = ' OFFSET 0'

/** A whole row as an array of texts, in column order. */
export function rowAsText(alias: string, columns: readonly Column[]): string {
  return textArray(columns.map(({ name }) => `${alias}.${quoteName(name)}`))
}

/** Values as an array of texts. */
export function textArray(values: readonly string[]): string {
  return `ARRAY[${values.map((value) => `(${value})::text`).join(', ')}]::text[]`
}

const SEQUENCE_DEFAULT = /nextval\(/

/** The expression of a column's default; `ids` are used where it draws on a sequence. */
export function defaultExpression(column: Column, ids: (column: Column) => string): string {
  if (column.generated) return 'NULL'
  if (column.identity) return ids(column)
  if (column.default !== null) {
    return SEQUENCE_DEFAULT.test(column.default) ? withIds(column, column.default, ids) : column.default
  }
  if (column.domainDefault === null) return 'NULL'
  return SEQUENCE_DEFAULT.test(column.domainDefault) ? withIds(column, column.domainDefault, ids) : column.domainDefault
}

function withIds(column: Column, expression: string, ids: (column: Column) => string): string {
  const holder = { value: parseExpression(expression) }
  replace(holder, (node) => {
    const call = 'FuncCall' in node ? (node['FuncCall'] as { funcname?: Node[] }) : undefined
    return call !== undefined && nameParts(call.funcname).at(-1) === 'nextval'
      ? parseExpression(ids(column))
      : undefined
  })
  return deparse(holder.value)
}

/** Where the old row is to be found, as one text. */
export function rowId(table: string, row: string): string {
  return `CAST(${table} AS text) || ':' || CAST(${row} AS text) AS id__`
}

export const NO_ROW_ID = 'NULL::text AS id__'

/** One id per row, in row order. */
export function idPerRow(ids: readonly string[]): string {
  if (ids.length === 1) return `CAST(${ids[0]} AS bigint)`
  return `(ARRAY[${ids.join(', ')}]::bigint[])[row_number() OVER ()]`
}

/** Adds generated columns, which may read every other column, around a query that gives the rest. */
export function withGenerated(
  query: string,
  columns: readonly Column[],
  hidden: readonly string[],
  tableoid?: string,
): string {
  if (!columns.some((column) => column.generated)) return query
  const asks = columns.some((column) => column.generated && /\btableoid\b/.test(column.default ?? ''))
  const own = asks && tableoid !== undefined ? `, LATERAL (SELECT CAST(${tableoid} AS oid) AS tableoid) t__` : ''
  const list = [
    ...hidden.map((name) => `b__.${name}`),
    ...columns.map((column) => {
      const name = quoteName(column.name)
      return column.generated ? `CAST((${column.default}) AS ${column.type}) AS ${name}` : `b__.${name}`
    }),
  ]
  return `SELECT ${list.join(', ')} FROM (${query}) b__${own}`
}

/** `WITH … ` of a statement whose common table expressions only read. */
export function withPrefix(clause: WithClause | undefined): string {
  return clause === undefined ? '' : `${deparse({ WithClause: clause })} `
}
