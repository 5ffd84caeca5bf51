import type { Node } from '@pgsql/types'
import type { Statement } from '../../sql/classify.js'
import { parseOne } from '../../sql/grammar.js'
import { contains, nameParts, tagOf, walk } from '../../sql/tree.js'
import type { Field } from './driver.js'

/** What the caller of a blocked statement gets, in wire form. */
export interface SimulatedResult {
  /** CommandComplete tag. */
  readonly tag: string
  /** Text values in the order of the described columns. */
  readonly rows: readonly (string | null)[][]
  readonly syntheticIds: readonly string[]
}

export interface Simulation {
  readonly statement: Statement
  /** Parameters in the driver's wire form. */
  readonly values: readonly unknown[]
  /** Columns of the result, as the server described them; undefined for none. */
  readonly fields: readonly Field[] | undefined
  syntheticId(kind: 'integer' | 'uuid'): string
  /** It selects from a function that gives one row, whatever happens. */
  readonly oneRow?: boolean
}

/** The function that is all the statement selects from: its name, `schema.name` where the statement says so. */
export function soleFunction(node: Node): string | undefined {
  const from = 'SelectStmt' in node ? node.SelectStmt.fromClause : undefined
  const [only, ...more] = from ?? []
  if (only === undefined || more.length > 0 || !('RangeFunction' in only)) return undefined
  const { functions = [], ordinality } = only.RangeFunction
  const [first, ...others] = functions
  const call = first !== undefined && 'List' in first ? first.List.items?.[0] : undefined
  if (call === undefined || others.length > 0 || ordinality || !('FuncCall' in call)) return undefined
  return nameParts(call.FuncCall.funcname).join('.')
}

/**
 * A result from the statement alone: values it states, made-up ones for the
 * rest. Used where the change cannot be worked out as a SELECT.
 */
export function simulateStatement(simulation: Simulation): SimulatedResult {
  const { statement, fields } = simulation
  const node = parseOne(statement.text)
  const given = statedRows(node, simulation.values)
  const syntheticIds: string[] = []
  const made = (field: Field): string | null => {
    const value = madeUp(field, simulation.syntheticId)
    if (value?.synthetic) syntheticIds.push(value.text)
    return value?.text ?? null
  }
  // Of a composite that is NULL: whoever fetches work by such a function finds none.
  const nothing = simulation.oneRow && 'SelectStmt' in node && node.SelectStmt.whereClause === undefined
  const rows =
    fields === undefined
      ? []
      : nothing
        ? [fields.map(() => null)]
        : given.map((row) => fields.map((field) => (row.has(field.name) ? (row.get(field.name) ?? null) : made(field))))
  return { tag: tagFor(node, statement, given.length, rows.length), rows, syntheticIds }
}

function tagFor(node: Node, statement: Statement, affected: number, returned: number): string {
  switch (tagOf(node)) {
    case 'InsertStmt':
      return `INSERT 0 ${affected}`
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      return `${statement.tag} ${affected}`
    case 'SelectStmt':
      return `SELECT ${statement.operation === 'SELECT INTO' ? 0 : returned}`
    case 'CreateTableAsStmt':
      return 'SELECT 0'
    case 'CopyStmt':
      return 'COPY 0'
    default:
      return statement.tag
  }
}

type StatedRow = ReadonlyMap<string, string | null>

/** One map of column to stated value per row the statement would touch, as far as its text tells. */
function statedRows(node: Node, values: readonly unknown[]): readonly StatedRow[] {
  if ('InsertStmt' in node) {
    const { selectStmt, cols } = node.InsertStmt
    if (selectStmt === undefined) return [new Map()]
    const lists = 'SelectStmt' in selectStmt ? selectStmt.SelectStmt.valuesLists : undefined
    if (lists === undefined) return []
    const names = (cols ?? []).map((column) => ('ResTarget' in column ? (column.ResTarget.name ?? '') : ''))
    return lists.map((list) => {
      const row = new Map<string, string | null>()
      const items = 'List' in list ? (list.List.items ?? []) : []
      for (const [index, item] of items.entries()) {
        const value = stated(item, values)
        if (value !== undefined && names[index]) row.set(names[index], value)
      }
      return row
    })
  }
  if ('UpdateStmt' in node) {
    const row = new Map<string, string | null>()
    for (const target of node.UpdateStmt.targetList ?? []) {
      if (!('ResTarget' in target)) continue
      const value = stated(target.ResTarget.val, values)
      if (value !== undefined && target.ResTarget.name) row.set(target.ResTarget.name, value)
    }
    addConditions(row, node.UpdateStmt.whereClause, values)
    return [row]
  }
  if ('DeleteStmt' in node) {
    const row = new Map<string, string | null>()
    addConditions(row, node.DeleteStmt.whereClause, values)
    return [row]
  }
  // Where a procedure has parameters for output, they are one row.
  if ('CallStmt' in node) return [new Map()]
  if ('SelectStmt' in node) {
    // A queue's fetch function that was refused must come back empty, or its worker works on made-up jobs for ever.
    const from = node.SelectStmt.fromClause?.length || contains(node.SelectStmt.withClause, 'CommonTableExpr')
    return from ? [] : [new Map()]
  }
  return []
}

/** `column = constant` in a condition says what the row has there. */
function addConditions(row: Map<string, string | null>, condition: Node | undefined, values: readonly unknown[]): void {
  walk({ condition }, (tag, value: { kind?: string; name?: Node[]; lexpr?: Node; rexpr?: Node }) => {
    if (tag !== 'A_Expr' || value.kind !== 'AEXPR_OP' || nameParts(value.name)[0] !== '=') return
    const column = value.lexpr !== undefined && 'ColumnRef' in value.lexpr ? value.lexpr.ColumnRef.fields : undefined
    const name = nameParts(column).at(-1)
    const constant = stated(value.rexpr, values)
    if (name && constant !== undefined && !row.has(name)) row.set(name, constant)
  })
}

function stated(node: Node | undefined, values: readonly unknown[]): string | null | undefined {
  if (node === undefined) return undefined
  if ('TypeCast' in node) return stated(node.TypeCast.arg, values)
  if ('ParamRef' in node) {
    const value = values[(node.ParamRef.number ?? 0) - 1]
    if (value === null || value === undefined) return null
    return Buffer.isBuffer(value) ? `\\x${value.toString('hex')}` : String(value)
  }
  if (!('A_Const' in node)) return undefined
  const constant = node.A_Const
  if (constant.isnull) return null
  if (constant.sval !== undefined) return constant.sval.sval ?? ''
  if (constant.ival !== undefined) return String(constant.ival.ival ?? 0)
  if (constant.fval !== undefined) return constant.fval.fval ?? '0'
  if (constant.boolval !== undefined) return constant.boolval.boolval ? 't' : 'f'
  return undefined
}

/** A made-up value of a type, by its object id. */
function madeUp(
  field: Field,
  syntheticId: (kind: 'integer' | 'uuid') => string,
): { text: string; synthetic: boolean } | undefined {
  switch (field.dataTypeID) {
    case 20: // bigint
    case 23: // integer
      return { text: syntheticId('integer'), synthetic: true }
    case 2950: // uuid
      return { text: syntheticId('uuid'), synthetic: true }
    case 1114: // timestamp
    case 1184: // timestamptz
      return { text: new Date().toISOString().replace('T', ' ').replace('Z', '+00'), synthetic: false }
    case 1082: // date
      return { text: new Date().toISOString().slice(0, 10), synthetic: false }
    case 16: // boolean
      return { text: 'f', synthetic: false }
    case 21: // smallint
    case 700: // real
    case 701: // double precision
    case 1700: // numeric
      return { text: '0', synthetic: false }
    default:
      return undefined
  }
}
