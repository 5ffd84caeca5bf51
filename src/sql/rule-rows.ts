import type { Node } from '@pgsql/types'
import { deparse, parseExpression } from './grammar.js'
import { type PreviewOptions, PreviewUnsupported, type Target } from './preview-parts.js'
import { contains, copyOf, nameParts, quoteName, replace, walk } from './tree.js'

/** What `old` and `new` of a rule stand for: the text of each column, by its name. */
export interface RuleRows {
  readonly old?: (name: string) => string
  readonly fresh?: (name: string) => string
}

/** True when a part of a rule names one of the pseudo rows. */
export function mentions(part: unknown, row: 'old' | 'new'): boolean {
  let found = false
  walk({ part }, (tag, value: { fields?: Node[] }) => {
    if (tag === 'ColumnRef' && nameParts(value.fields)[0] === row) found = true
    return !found
  })
  return found
}

/** A copy of a part of a rule in which `old` and `new` are what they stand for. @throws PreviewUnsupported */
export function bindRows<T>(part: T, target: Target, rows: RuleRows): T {
  const holder = { part: copyOf(part) }
  replace(holder, (node) => {
    if (!('ColumnRef' in node)) return undefined
    const fields = (node['ColumnRef'] as { fields?: Node[] }).fields ?? []
    const [row, name, ...deeper] = nameParts(fields)
    if (row !== 'old' && row !== 'new') return undefined
    const column = row === 'old' ? rows.old : rows.fresh
    if (column === undefined || deeper.length > 0) throw new PreviewUnsupported(`${row} in a rule`)
    if (name === undefined || contains(fields, 'A_Star')) {
      const values = target.columns.map((each) => column(each.name))
      // Of the relation that has the rule, which may be below the view of the statement.
      const { schema, name: relation } = target.table
      return parseExpression(`CAST(ROW(${values.join(', ')}) AS ${quoteName(schema)}.${quoteName(relation)})`)
    }
    return parseExpression(column(name))
  })
  return holder.part
}

/** Finds the text of a column by its name. */
export function columnOf({ columns }: Target, texts: readonly string[]): (name: string) => string {
  return (name) => {
    const text = texts[columns.findIndex((column) => column.name === name)]
    if (text === undefined) throw new PreviewUnsupported(`unknown column ${name}`)
    return text
  }
}

/** The same of a changed row, whose generated columns follow from the others. */
export function changedColumns(target: Target, values: readonly string[]): (name: string) => string {
  const { columns } = target
  const plain = columnOf(target, values)
  const row = () => columns.map(({ name }, index) => `${values[index]} AS ${quoteName(name)}`).join(', ')
  return (name) => {
    const column = columns.find((each) => each.name === name)
    if (!column?.generated) return plain(name)
    return `(SELECT CAST((${column.default}) AS ${column.type}) FROM (SELECT ${row()}) g__)`
  }
}

/** The condition for rows that conditional INSTEAD rules leave to the statement itself; undefined where all are. */
export function leftByRules({ rules }: PreviewOptions, target: Target, rows: RuleRows): string | undefined {
  if (rules === undefined || rules.unless.length === 0) return undefined
  return rules.unless.map((condition) => `(${deparse(bindRows(condition, target, rows))}) IS NOT TRUE`).join(' AND ')
}
