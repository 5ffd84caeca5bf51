import type { Node, RangeVar, ReturningClause, WithClause } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { nameParts, quoteName, replace, tagOf, walk } from './tree.js'

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
  /**
   * The FROM item a written table's rows are read from, with `tableoid` and
   * `ctid`; undefined for the table itself. This is where an overlay goes in.
   */
  source?(table: Table, alias: string): string | undefined
}

export interface Target {
  readonly relation: RangeVar
  readonly table: Table
  readonly columns: readonly Column[]
  /** The name the statement calls the table by, and that name quoted. */
  readonly alias: string
  readonly quotedAlias: string
}

/** Looks up the written table. @throws PreviewUnsupported when it is no plain table. */
export async function resolveTarget(relation: RangeVar | undefined, options: PreviewOptions): Promise<Target> {
  if (relation?.relname === undefined) throw new PreviewUnsupported('the statement names no table')
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  const table = await options.lookup(schema + quoteName(relation.relname))
  if (table.kind !== 'r' && table.kind !== 'p') throw new PreviewUnsupported(`${table.name} is no plain table`)
  if (table.rules !== null) throw new PreviewUnsupported(`${table.name} has rules`)
  if (table.columns === null) throw new PreviewUnsupported(`${table.name} has no columns`)
  const alias = relation.alias?.aliasname ?? relation.relname
  return { relation, table, columns: table.columns, alias, quotedAlias: quoteName(alias) }
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
  const { schema, name } = target.table
  // With its schema, because WITH may define the bare name as something else.
  const named: RangeVar = { ...target.relation, schemaname: schema, relname: name, alias: { aliasname: alias } }
  return options.source?.(target.table, alias) ?? deparse({ RangeVar: named })
}

/** An expression as a value of a column. Lengths are checked on the result: an explicit cast would cut, an assignment fails. */
export function castTo(column: Column, expression: string): string {
  const cuts = column.typmod > 0 && /^(character varying|bit|bit varying)$/.test(column.baseType)
  const type = cuts ? column.baseType.replace(/^bit$/, 'bit varying') : column.type
  return `CAST((${expression}) AS ${type})`
}

/** A whole row as an array of texts, in column order. */
export function rowAsText(alias: string, columns: readonly Column[]): string {
  return `ARRAY[${columns.map((column) => `(${alias}.${quoteName(column.name)})::text`).join(', ')}]::text[]`
}

const SEQUENCE_DEFAULT = /nextval\(/

/** The expression of a column's default; `ids` are used where it draws on a sequence. */
export function defaultExpression(column: Column, ids: (column: Column) => string): string {
  if (column.generated) return 'NULL'
  if (column.identity) return ids(column)
  if (column.default !== null) {
    return SEQUENCE_DEFAULT.test(column.default) ? withIds(column, column.default, ids) : column.default
  }
  if (column.domain && column.domainDefault !== null && !column.domainDefault.includes('(')) {
    return `'${column.domainDefault.replaceAll("'", "''")}'`
  }
  return 'NULL'
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
export function withGenerated(query: string, columns: readonly Column[], hidden: readonly string[]): string {
  if (!columns.some((column) => column.generated)) return query
  const list = [
    ...hidden.map((name) => `b__.${name}`),
    ...columns.map((column) => {
      const name = quoteName(column.name)
      return column.generated ? `CAST((${column.default}) AS ${column.type}) AS ${name}` : `b__.${name}`
    }),
  ]
  return `SELECT ${list.join(', ')} FROM (${query}) b__`
}

/** The expressions of a RETURNING clause, or null when there is none. */
export function returningExpressions(statement: {
  returningClause?: ReturningClause
  returningList?: Node[]
}): readonly Node[] | null {
  const clause = statement.returningClause
  if (clause?.options?.length) throw new PreviewUnsupported('RETURNING WITH (OLD, NEW)')
  return clause?.exprs ?? statement.returningList ?? null
}

/** RETURNING as a select list, `*` spelled out in the table's column order. */
export function returningList(expressions: readonly Node[], target: Target, from: readonly Node[] = []): string[] {
  const all = target.columns.map((column) => `${target.quotedAlias}.${quoteName(column.name)}`)
  return expressions.flatMap((expression) => {
    const star = starQualifier(expression)
    if (star === undefined) return [deparse(expression)]
    if (star === '') return [...all, ...from.flatMap(starOf)]
    return star === target.alias ? all : [deparse(expression)]
  })
}

/** `''` for `*`, `t` for `t.*`, undefined for anything else. */
function starQualifier(expression: Node): string | undefined {
  const value = 'ResTarget' in expression ? expression.ResTarget.val : undefined
  const fields = value !== undefined && 'ColumnRef' in value ? value.ColumnRef.fields : undefined
  const last = fields?.at(-1)
  if (fields === undefined || last === undefined || !('A_Star' in last)) return undefined
  return nameParts(fields.slice(0, -1)).at(-1) ?? ''
}

function starOf(item: Node): string[] {
  if ('RangeVar' in item) return [`${quoteName(item.RangeVar.alias?.aliasname ?? item.RangeVar.relname ?? '')}.*`]
  if ('JoinExpr' in item) {
    const { isNatural, usingClause, alias, larg, rarg } = item.JoinExpr
    if (isNatural || usingClause?.length || alias || !larg || !rarg) {
      throw new PreviewUnsupported('RETURNING * over a join that merges columns')
    }
    return [...starOf(larg), ...starOf(rarg)]
  }
  const { alias } = Object.values(item)[0] as { alias?: { aliasname?: string } }
  if (alias?.aliasname === undefined) throw new PreviewUnsupported('RETURNING * over an unnamed item')
  return [`${quoteName(alias.aliasname)}.*`]
}

/** Names of the RETURNING columns, as PostgreSQL would give them. */
export function returningNames(expressions: readonly Node[], target: Target): string[] {
  return expressions.flatMap((expression) => {
    const star = starQualifier(expression)
    if (star === undefined) return ['ResTarget' in expression ? resultName(expression.ResTarget) : '?column?']
    if (star !== '' && star !== target.alias) throw new PreviewUnsupported('RETURNING another table.* in WITH')
    return target.columns.map((column) => column.name)
  })
}

function resultName(target: { name?: string; val?: Node }): string {
  return target.name ?? implicitName(target.val) ?? '?column?'
}

function implicitName(value: Node | undefined): string | undefined {
  if (value === undefined) return undefined
  if ('ColumnRef' in value) return nameParts(value.ColumnRef.fields).at(-1)
  if ('FuncCall' in value) return nameParts(value.FuncCall.funcname).at(-1)
  if ('TypeCast' in value) {
    return implicitName(value.TypeCast.arg) ?? nameParts(value.TypeCast.typeName?.names).at(-1)
  }
  if ('CoalesceExpr' in value) return 'coalesce'
  if ('CaseExpr' in value) return 'case'
  return undefined
}

/** `WITH … ` of a statement whose common table expressions only read. */
export function withPrefix(clause: WithClause | undefined): string {
  return clause === undefined ? '' : `${deparse({ WithClause: clause })} `
}

/** The values an UPDATE or DO UPDATE assigns, by column, each cast to its column. */
export interface Assignments {
  readonly values: ReadonlyMap<string, string>
  /** Joins for `SET (a, b) = (SELECT …)`. */
  readonly joins: readonly string[]
}

export function assignments(targets: readonly Node[], target: Target, ids: (column: Column) => string): Assignments {
  const values = new Map<string, string>()
  const joins: string[] = []
  const joined = new Map<string, string>()
  for (const item of targets) {
    if (!('ResTarget' in item)) throw new PreviewUnsupported('assignment')
    const { name, indirection, val } = item.ResTarget
    const column = target.columns.find((candidate) => candidate.name === name)
    if (column === undefined || val === undefined) throw new PreviewUnsupported(`unknown column ${name}`)
    if (indirection?.length) throw new PreviewUnsupported('assignment to an array element or a field')
    if (column.generated && !('SetToDefault' in val)) throw new PreviewUnsupported('assignment to a generated column')
    values.set(column.name, castTo(column, assigned(column, val)))
  }
  return { values, joins }

  function assigned(column: Column, value: Node): string {
    if ('SetToDefault' in value) return defaultExpression(column, ids)
    if (!('MultiAssignRef' in value)) return deparse(value)
    const { source, colno = 1, ncolumns = 1 } = value.MultiAssignRef
    if (source !== undefined && 'RowExpr' in source) {
      const element = source.RowExpr.args?.[colno - 1]
      if (element === undefined) throw new PreviewUnsupported('assignment from a row')
      return 'SetToDefault' in element ? defaultExpression(column, ids) : deparse(element)
    }
    const subquery = source !== undefined && 'SubLink' in source ? source.SubLink.subselect : undefined
    if (subquery === undefined) throw new PreviewUnsupported(`assignment from ${source ? tagOf(source) : 'nothing'}`)
    const text = deparse(subquery)
    let alias = joined.get(text)
    if (alias === undefined) {
      alias = `ma${joined.size}__`
      joined.set(text, alias)
      const names = Array.from({ length: ncolumns }, (_, index) => `c${index + 1}`)
      joins.push(` LEFT JOIN LATERAL (${text}) ${alias}(${names.join(', ')}) ON true`)
    }
    return `${alias}.c${colno}`
  }
}
