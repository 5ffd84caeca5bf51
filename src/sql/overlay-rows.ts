import type { Node, SelectStmt } from '@pgsql/types'
import { parseExpression } from './grammar.js'
import type { TouchedTable } from './overlay.js'
import type { VisibleTable } from './overlay-catalog.js'
import { nameParts, quoteName, replace } from './tree.js'

/** A touched table in a statement, under the name the statement calls it by. */
export interface OverlaidUse {
  readonly relation: { readonly alias?: { readonly colnames?: readonly Node[] } }
  readonly alias: string
  readonly touched: TouchedTable
  readonly visible: VisibleTable
}

/**
 * Grouped by its primary key, a table's other columns may be selected as they
 * are; those of a subquery may not. So they are added to GROUP BY, which makes
 * no other groups.
 */
export function groupByWholeRows(root: unknown, uses: readonly OverlaidUse[]): void {
  if (typeof root !== 'object' || root === null) return
  for (const value of Object.values(root)) groupByWholeRows(value, uses)
  const select = root as SelectStmt
  const groups = select.groupClause
  if (!Array.isArray(groups) || !Array.isArray(select.fromClause)) return
  const names = new Set(select.fromClause.flatMap(aliasesOf))
  for (const { alias, touched, visible, relation } of uses) {
    if (!names.has(alias) || touched.key.length === 0 || relation.alias?.colnames?.length) continue
    if (!touched.key.every((key) => groups.some((group) => refersTo(group, alias, key)))) continue
    for (const column of visible.columns) {
      if (!column.comparable || touched.key.includes(column.name)) continue
      groups.push(parseExpression(`${quoteName(alias)}.${quoteName(column.name)}`))
    }
  }
}

function aliasesOf(item: Node): string[] {
  if ('JoinExpr' in item)
    return [item.JoinExpr.larg, item.JoinExpr.rarg].flatMap((side) => (side ? aliasesOf(side) : []))
  return 'RangeSubselect' in item ? [item.RangeSubselect.alias?.aliasname ?? ''] : []
}

function refersTo(group: Node, alias: string, column: string): boolean {
  if (!('ColumnRef' in group)) return false
  const parts = nameParts(group.ColumnRef.fields)
  return parts.at(-1) === column && (parts.length === 1 || parts.at(-2) === alias)
}

/** `SELECT t FROM t` gives a value of the table's own row type, which a subquery's row is cast to. */
export function typeWholeRows(root: unknown, uses: readonly OverlaidUse[]): void {
  const columns = new Set(uses.flatMap(({ visible }) => visible.columns.map((column) => column.name)))
  const wholeRow = (node: Record<string, unknown>): { name: string; value: Node } | undefined => {
    const fields = 'ColumnRef' in node ? (node['ColumnRef'] as { fields?: Node[] }).fields : undefined
    const name = fields?.length === 1 ? nameParts(fields)[0] : undefined
    const use = uses.find(({ alias }) => alias === name)
    if (name === undefined || use === undefined || columns.has(name)) return undefined
    const own = quoteName(name)
    const values = use.visible.columns.map((column) => `${own}.${quoteName(column.name)}`).join(', ')
    const type = `${quoteName(use.visible.schema)}.${quoteName(use.visible.name)}`
    return {
      name,
      value: parseExpression(`CASE WHEN ${own} IS NULL THEN NULL ELSE CAST(ROW(${values}) AS ${type}) END`),
    }
  }
  replace(root, (node) => {
    if ('ResTarget' in node) {
      const target = node['ResTarget'] as { name?: string; val?: Record<string, unknown> }
      const row = target.val === undefined ? undefined : wholeRow(target.val)
      if (row === undefined) return undefined
      target.name ??= row.name
      target.val = row.value as never
      return node as Node
    }
    return wholeRow(node)?.value
  })
}
