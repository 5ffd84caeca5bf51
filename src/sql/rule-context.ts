import type { DeleteStmt, InsertStmt, Node, SelectStmt, UpdateStmt } from '@pgsql/types'
import { deparse, parseOne } from './grammar.js'
import { newRows } from './preview-insert.js'
import { type PreviewOptions, PreviewUnsupported, type Target, withPrefix } from './preview-parts.js'
import { changedValues, oldRow, whereOf } from './preview-update.js'
import { changedColumns, columnOf, type RuleRows } from './rule-rows.js'
import type { RuledCommand } from './rules.js'
import { nameParts, quoteName, walk } from './tree.js'

/** The statement a rule fires on. */
export interface FiredOn {
  readonly command: RuledCommand
  readonly statement: InsertStmt | UpdateStmt | DeleteStmt
  readonly target: Target
}

/** The name under which an action finds the rows its rule fires for. */
const FIRED = 'fired__'

/** The rows a rule fires for, as a FROM item of its actions. */
export interface RuleContext {
  /** `FROM` item. */
  readonly item: Node
  readonly rows: RuleRows
  readonly syntheticIds: readonly string[]
}

/**
 * An action sees the rows of the statement's own FROM and WHERE, joined, and
 * not the written table's where neither the rule nor the condition asks for
 * them: then it is done once, not for each row.
 */
export async function contextOf(fired: FiredOn, needsRows: boolean, options: PreviewOptions): Promise<RuleContext> {
  const { command, target } = fired
  if (command === 'INSERT') {
    const { prefix, inserted, syntheticIds } = await newRows(fired.statement as InsertStmt, target, options)
    return { item: fromItem(prefix + inserted), rows: { fresh: (name) => `${FIRED}.${quoteName(name)}` }, syntheticIds }
  }
  const statement = fired.statement as UpdateStmt & DeleteStmt
  const others = (statement.fromClause ?? statement.usingClause ?? []).map((item) => deparse(item))
  const prefix = withPrefix(statement.withClause)
  const old = oldRow(target, options)
  const where = whereOf(statement.whereClause, command === 'UPDATE' ? 'w' : 'd', target, old)
  if (!needsRows && !readsTarget(statement.whereClause, target)) {
    const from = others.length === 0 ? '' : ` FROM ${others.join(', ')}`
    return { item: fromItem(`${prefix}SELECT 1 AS one__${from}${where}`), rows: {}, syntheticIds: [] }
  }
  const { columns } = target
  const before = columns.map(old.column)
  const list = before.map((text, index) => `${text} AS o${index}__`)
  const rows: { -readonly [K in keyof RuleRows]: RuleRows[K] } = { old: columnOf(target, named('o', columns.length)) }
  let joins = ''
  let syntheticIds: readonly string[] = []
  if (command === 'UPDATE') {
    const changed = changedValues(statement, target, options, old)
    list.push(...changed.values.map((text, index) => `${text} AS n${index}__`))
    rows.fresh = changedColumns(target, named('n', columns.length))
    joins = changed.assigned.joins.join('')
    syntheticIds = changed.syntheticIds
  }
  const from = [...others, old.from + joins].join(', ')
  return { item: fromItem(`${prefix}SELECT ${list.join(', ')} FROM ${from}${where}`), rows, syntheticIds }
}

function named(letter: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${FIRED}.${letter}${index}__`)
}

function fromItem(query: string): Node {
  return itemOf(`(${query}) AS ${FIRED}`)
}

function itemOf(from: string): Node {
  const node = parseOne(`SELECT FROM ${from}`)
  const item = 'SelectStmt' in node ? node.SelectStmt.fromClause?.[0] : undefined
  if (item === undefined) throw new PreviewUnsupported('the rows of a rule')
  return item
}

/** Whether a condition names a column of the written relation. */
function readsTarget(condition: Node | undefined, { alias, visible }: Target): boolean {
  let found = false
  walk({ condition }, (tag, value: { fields?: Node[] }) => {
    if (tag !== 'ColumnRef') return
    const [first = '', ...more] = nameParts(value.fields)
    if (first === alias || (more.length === 0 && visible.includes(first))) found = true
  })
  return found
}

/** True when a part of a statement needs the rows of the context. */
export function readsContext(part: unknown): boolean {
  let found = false
  walk({ part }, (tag, value: { fields?: Node[] }) => {
    if (tag === 'ColumnRef' && nameParts(value.fields)[0] === FIRED) found = true
  })
  return found
}

/** An action over the rows its rule fires for, in place; `condition` is the rule's. @throws PreviewUnsupported */
export function joinContext(action: Node, item: Node, condition: Node | undefined): void {
  if ('UpdateStmt' in action) {
    const { UpdateStmt: update } = action
    update.fromClause = [item, ...lateral(update.fromClause)]
    update.whereClause = both(update.whereClause, condition)
  } else if ('DeleteStmt' in action) {
    const { DeleteStmt: removal } = action
    removal.usingClause = [item, ...lateral(removal.usingClause)]
    removal.whereClause = both(removal.whereClause, condition)
  } else if ('InsertStmt' in action) {
    const select = sourceOf(action.InsertStmt)
    select.fromClause = [item, ...lateral(select.fromClause)]
    select.whereClause = both(select.whereClause, condition)
    action.InsertStmt.selectStmt = { SelectStmt: select }
  }
}

function both(left: Node | undefined, right: Node | undefined): Node | undefined {
  if (left === undefined || right === undefined) return left ?? right
  return { BoolExpr: { boolop: 'AND_EXPR', args: [left, right] } }
}

/** Subqueries of a rule may name `new` without saying LATERAL. */
function lateral(items: readonly Node[] | undefined): Node[] {
  return (items ?? []).map((item) =>
    'RangeSubselect' in item ? { RangeSubselect: { ...item.RangeSubselect, lateral: true } } : item,
  )
}

/** The source of an INSERT as a plain SELECT, to which rows can be joined. */
function sourceOf(insert: InsertStmt): SelectStmt {
  if (insert.selectStmt === undefined) return selectOf('SELECT')
  const select = 'SelectStmt' in insert.selectStmt && insert.selectStmt.SelectStmt
  if (!select) throw new PreviewUnsupported('source of INSERT in a rule')
  if (select.valuesLists === undefined) {
    if (select.op !== undefined && select.op !== 'SETOP_NONE') throw new PreviewUnsupported('UNION in a rule')
    return select
  }
  const all = select.valuesLists.map((list) => ('List' in list ? (list.List.items ?? []) : []))
  // A column without a value gets its default.
  const given = (all[0] ?? []).map((_, index) => !all.every((list) => isDefault(list[index])))
  const lists = all.map((list) => list.filter((_, index) => given[index]))
  if (!given.includes(true) && all.length === 1) {
    delete insert.cols
    return selectOf('SELECT')
  }
  if (given.includes(false)) {
    if (insert.cols === undefined) throw new PreviewUnsupported('DEFAULT in a rule')
    insert.cols = insert.cols.filter((_, index) => given[index] ?? true)
  }
  const empty = selectOf('SELECT 1')
  const [first = [], ...more] = lists
  if (more.length === 0) return { ...empty, targetList: first.map((val): Node => ({ ResTarget: { val } })) }
  if (lists.flat().some(isDefault)) throw new PreviewUnsupported('DEFAULT in a rule')
  const names = first.map((_, index) => `x${index}`)
  const rows = deparse({ SelectStmt: { ...select, valuesLists: lists.map((items) => ({ List: { items } })) } })
  return {
    ...empty,
    targetList: selectOf(`SELECT ${names.map((name) => `v__.${name}`).join(', ')}`).targetList ?? [],
    fromClause: [itemOf(`LATERAL (${rows}) AS v__(${names.join(', ')})`)],
  }
}

function isDefault(value: Node | undefined): boolean {
  return value !== undefined && 'SetToDefault' in value
}

function selectOf(text: string): SelectStmt {
  const node = parseOne(text)
  if (!('SelectStmt' in node)) throw new PreviewUnsupported('the rows of a rule')
  return node.SelectStmt
}
