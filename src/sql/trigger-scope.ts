import type { Node } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { deparse, parseExpression, parseOne } from './grammar.js'
import { NotFollowed } from './plpgsql.js'
import { nameParts, quoteName, quoteText, replace, walk } from './tree.js'
import type { FollowedTrigger } from './trigger.js'

export type Event = 'INSERT' | 'UPDATE' | 'DELETE'
export type Timing = 'BEFORE' | 'AFTER' | 'INSTEAD OF'

/** The values of a row, as SQL, by column. */
export type Row = ReadonlyMap<string, string>

/** A call of a trigger function, as its special variables tell it. */
export interface Call {
  readonly trigger: FollowedTrigger
  readonly event: Event
  readonly timing: Timing
  readonly level: 'ROW' | 'STATEMENT'
  readonly table: Table
  /** The oid of the table that fires, as SQL: a partition for rows of a partitioned table. */
  readonly firing: string | undefined
  readonly arguments: readonly string[]
}

/** A scalar's value as SQL, or the FROM item whose columns are a record's fields. */
export type Value = { readonly sql: string } | { readonly record: string }

/** What names stand for at one point of a function. */
export interface Scope {
  readonly call: Call
  readonly fresh: Row
  readonly old: Row
  variable(name: string): Value | undefined
  /** Told of the columns of NEW that are looked at. */
  uses(column: string): void
}

/** The trigger is that of a table that inherits from the one the statement names. */
function isHeir({ trigger, table }: Pick<Call, 'trigger' | 'table'>): boolean {
  return table.kind === 'r' && trigger.leaf !== undefined && trigger.leaf !== table.oid
}

/** `tg_op` and the like as SQL, undefined for other names. @throws NotFollowed where it is not known */
function special(name: string, { trigger, event, timing, level, table, firing, arguments: given }: Call) {
  const firingTable = (column: string) => {
    if ((table.kind !== 'p' && !isHeir({ trigger, table })) || level === 'STATEMENT') return undefined
    if (firing === undefined) throw new NotFollowed('the partition that fires is not known')
    return `(SELECT ${column} FROM pg_catalog.pg_class t__ WHERE t__.oid = ${firing})`
  }
  const text = (value: string, type: string) => `CAST(${quoteText(value)} AS ${type})`
  switch (name) {
    case 'tg_name':
      return text(trigger.name, 'name')
    case 'tg_when':
      return text(timing, 'text')
    case 'tg_level':
      return text(level, 'text')
    case 'tg_op':
      return text(event, 'text')
    case 'tg_relid':
      return level === 'ROW' && firing !== undefined ? firing : `CAST(${table.oid} AS oid)`
    case 'tg_relname':
    case 'tg_table_name':
      return firingTable('t__.relname') ?? text(table.name, 'name')
    case 'tg_table_schema':
      return (
        firingTable('(SELECT s__.nspname FROM pg_catalog.pg_namespace s__ WHERE s__.oid = t__.relnamespace)') ??
        text(table.schema, 'name')
      )
    case 'tg_nargs':
      return String(given.length)
    case 'tg_argv': {
      // Counted from 0.
      const items = given.map((item) => `"${item.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`)
      const bounds = given.length === 0 ? '' : `[0:${given.length - 1}]=`
      return text(`${bounds}{${items.join(',')}}`, 'text[]')
    }
    default:
      return undefined
  }
}

/** What a condition comes to for this call whatever the row; undefined when the row decides. */
export function foretold(condition: string, call: Call): boolean | undefined {
  return decide(valueNode(condition), call)
}

function decide(node: Node, call: Call): boolean | undefined {
  if ('A_Const' in node && 'boolval' in node.A_Const) return node.A_Const.boolval?.boolval ?? false
  if ('BoolExpr' in node) {
    const { boolop, args = [] } = node.BoolExpr
    const found = args.map((item) => decide(item, call))
    if (boolop === 'NOT_EXPR') return found[0] === undefined ? undefined : !found[0]
    const deciding = boolop === 'OR_EXPR'
    if (found.includes(deciding)) return deciding
    return found.includes(undefined) ? undefined : !deciding
  }
  if (!('A_Expr' in node)) return undefined
  const { kind, name, lexpr, rexpr } = node.A_Expr
  const left = lexpr === undefined ? undefined : textOf(lexpr, call)
  if (left === undefined || rexpr === undefined) return undefined
  const items = 'List' in rexpr ? (rexpr.List.items ?? []) : [rexpr]
  const right = items.map((item) => textOf(item, call))
  if (right.includes(undefined)) return undefined
  const operator = nameParts(name).at(-1) ?? ''
  if ((kind !== 'AEXPR_OP' && kind !== 'AEXPR_IN') || !/^(=|<>|!=)$/.test(operator)) return undefined
  return right.includes(left) === (operator === '=')
}

/** A text that is the same for every row. */
function textOf(node: Node, call: Call): string | undefined {
  if ('A_Const' in node) {
    const { sval, ival } = node.A_Const
    if (sval !== undefined) return sval.sval ?? ''
    return ival === undefined ? undefined : String(ival.ival ?? 0)
  }
  if ('TypeCast' in node && node.TypeCast.arg !== undefined) return textOf(node.TypeCast.arg, call)
  if (!('ColumnRef' in node)) return undefined
  const fields = node.ColumnRef.fields ?? []
  const [name = ''] = nameParts(fields)
  if (fields.length !== 1) return undefined
  if (name === 'tg_op') return call.event
  if (name === 'tg_when') return call.timing
  if (name === 'tg_level') return call.level
  if (name === 'tg_nargs') return String(call.arguments.length)
  if (name === 'tg_name') return call.trigger.name
  if ((call.table.kind === 'p' && call.level === 'ROW') || isHeir(call)) return undefined
  if (name === 'tg_table_name' || name === 'tg_relname') return call.table.name
  return name === 'tg_table_schema' ? call.table.schema : undefined
}

/** An expression of a function, with the values its names stand for. @throws NotFollowed */
export function bound(expression: string, scope: Scope): Node {
  return boundNode(valueNode(expression), scope)
}

/** PL/pgSQL takes all that may follow SELECT for an expression: `count(*) FROM t`. */
function valueNode(expression: string): Node {
  const node = parseOne(`SELECT ${expression}`)
  const select = 'SelectStmt' in node ? node.SelectStmt : undefined
  if (select?.targetList?.length !== 1) throw new NotFollowed('an expression has several values')
  const { targetList: _, limitOption: __, op: ___, ...more } = select
  return Object.keys(more).length === 0 ? parseExpression(expression) : parseExpression(`(SELECT ${expression})`)
}

/** The same of a statement or an expression's tree, which is changed. @throws NotFollowed */
export function boundNode(node: Node, scope: Scope): Node {
  const holder = { node }
  refuseShadows(holder, scope)
  spreadRows(holder, scope)
  replace(holder, (found) => {
    if ('FuncCall' in found) {
      const { funcname } = found['FuncCall'] as { funcname?: Node[] }
      // The first trigger of a statement.
      if (nameParts(funcname).at(-1) === 'pg_trigger_depth') return parseExpression('1')
      return undefined
    }
    if (!('ColumnRef' in found)) return undefined
    const text = resolved((found['ColumnRef'] as { fields?: Node[] }).fields ?? [], scope)
    return text === undefined ? undefined : parseExpression(text)
  })
  return holder.node
}

function resolved(fields: readonly Node[], scope: Scope): string | undefined {
  const star = fields.some((field) => 'A_Star' in field)
  const parts = nameParts(fields).filter((part) => part !== '')
  const [first = '', second, third] = parts
  const row = first === 'new' ? scope.fresh : first === 'old' ? scope.old : undefined
  if (row !== undefined) {
    if (scope.call.level === 'STATEMENT') throw new NotFollowed(`${first} is used for the whole statement`)
    if (first === 'new') for (const name of second === undefined ? row.keys() : [second]) scope.uses(name)
    if (second === undefined) {
      if (isHeir(scope.call)) throw new NotFollowed(`${first} may have more columns than the table`)
      return wholeRow(row, scope.call.table)
    }
    const value = row.get(second)
    if (value === undefined) throw new NotFollowed(`${first} has no field ${second}`)
    return third === undefined ? value : `(${value}).${quoteName(third)}`
  }
  const value = scope.variable(first)
  if (value !== undefined) {
    if ('sql' in value) {
      if (second === undefined) return value.sql
      return `(${value.sql}).${quoteName(second)}`
    }
    if (second === undefined || star) throw new NotFollowed(`record ${first} is used as a whole`)
    return `${value.record}.${quoteName(second)}`
  }
  return second === undefined && !star ? special(first, scope.call) : undefined
}

function wholeRow(row: Row, table: Table): string {
  const cells = (table.columns ?? []).map(({ name }) => row.get(name) ?? 'NULL')
  return `CAST(ROW(${cells.join(', ')}) AS ${quoteName(table.schema)}.${quoteName(table.name)})`
}

/** `NEW.*` in a list stands for its columns. */
function spreadRows(root: unknown, scope: Scope): void {
  const columnsOf = (item: Node): Node[] | undefined => {
    const value = 'ResTarget' in item ? item.ResTarget.val : item
    if (value === undefined || !('ColumnRef' in value)) return undefined
    const fields = value.ColumnRef.fields ?? []
    const [first = ''] = nameParts(fields)
    if (fields.length !== 2 || !('A_Star' in (fields[1] as Node)) || (first !== 'new' && first !== 'old')) {
      return undefined
    }
    return (scope.call.table.columns ?? []).map(({ name }) => {
      const column: Node = { ColumnRef: { fields: [{ String: { sval: first } }, { String: { sval: name } }] } }
      return 'ResTarget' in item ? { ResTarget: { name, val: column } } : column
    })
  }
  walk(root, (tag, value: { args?: Node[]; items?: Node[]; targetList?: Node[] }) => {
    const spread = (list: Node[] | undefined) => list?.flatMap((item) => columnsOf(item) ?? [item])
    if (tag === 'RowExpr' && value.args) value.args = spread(value.args) as Node[]
    if (tag === 'List' && value.items) value.items = spread(value.items) as Node[]
    if (tag === 'SelectStmt' && value.targetList) value.targetList = spread(value.targetList) as Node[]
  })
}

/** A FROM item or WITH query with the name of a variable would be meant instead of it. */
function refuseShadows(root: unknown, scope: Scope): void {
  walk(root, (tag, value: { relname?: string; alias?: { aliasname?: string }; ctename?: string }) => {
    const name =
      tag === 'RangeVar'
        ? (value.alias?.aliasname ?? value.relname)
        : tag === 'CommonTableExpr'
          ? value.ctename
          : tag.startsWith('Range')
            ? value.alias?.aliasname
            : undefined
    if (name === undefined) return
    if (name === 'new' || name === 'old' || scope.variable(name) !== undefined) {
      throw new NotFollowed(`${name} is also the name of a table`)
    }
  })
}

/** What the statement that creates a trigger says. */
export interface Declared {
  readonly condition: string | undefined
  /** `UPDATE OF` these columns; undefined for any. */
  readonly columns: readonly string[] | undefined
  readonly arguments: readonly string[]
  readonly transitions: readonly string[]
}

/** Reads `pg_get_triggerdef`. */
export function declared({ definition }: FollowedTrigger): Declared {
  const node = parseOne(definition)
  if (!('CreateTrigStmt' in node)) throw new NotFollowed('its definition was not understood')
  const { whenClause, columns, args, transitionRels } = node.CreateTrigStmt
  return {
    condition: whenClause === undefined ? undefined : deparse(whenClause),
    columns: columns?.length ? nameParts(columns) : undefined,
    arguments: nameParts(args),
    transitions: (transitionRels ?? []).flatMap((item) =>
      'TriggerTransition' in item ? [item.TriggerTransition.name ?? ''] : [],
    ),
  }
}

/** The columns a row consists of, all NULL. */
export function emptyRow(columns: readonly Column[]): Map<string, string> {
  return new Map(columns.map(({ name, type }) => [name, `CAST(NULL AS ${type})`]))
}
