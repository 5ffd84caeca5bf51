import type { Node } from '@pgsql/types'
import { parseExpression } from './grammar.js'
import { nameParts, quoteName, replace } from './tree.js'

/** A row that a rewrite has as a subquery, under the same name. */
export interface SpelledRow {
  readonly columns: readonly string[]
  /** Type of the row as the statement means it; undefined to leave references to the whole row alone. */
  readonly type?: string | undefined
}

/**
 * Spells out `t` and `t.*` where they mean a whole row, in place: a subquery
 * has no row type, and columns of ours besides. In ROW(…) `t.*` is the columns.
 */
export function spellWholeRows(root: unknown, rows: ReadonlyMap<string, SpelledRow>): void {
  const column = (alias: string, name: string) => `${quoteName(alias)}.${quoteName(name)}`
  replace(root, (node) => {
    // A subquery may have names of its own.
    if ('SubLink' in node) return node as Node
    if ('RowExpr' in node) {
      const expression = node['RowExpr'] as { args?: Node[] }
      expression.args = expression.args?.flatMap((argument) => {
        const alias = starOf(argument)
        const row = alias === undefined ? undefined : rows.get(alias)
        if (alias === undefined || row === undefined) return [argument]
        return row.columns.map((name) => parseExpression(column(alias, name)))
      })
      return undefined
    }
    if (!('ColumnRef' in node)) return undefined
    const { fields = [] } = node['ColumnRef'] as { fields?: Node[] }
    const alias = fields.length === 1 ? nameParts(fields)[0] : starOf(node as Node)
    const row = alias === undefined ? undefined : rows.get(alias)
    if (alias === undefined || row?.type === undefined) return undefined
    // A column of that name comes first.
    if (fields.length === 1 && [...rows.values()].some(({ columns }) => columns.includes(alias))) return undefined
    return parseExpression(`CAST(ROW(${row.columns.map((name) => column(alias, name)).join(', ')}) AS ${row.type})`)
  })
}

/** The name in `name.*`. */
function starOf(node: Node): string | undefined {
  const fields = 'ColumnRef' in node ? (node.ColumnRef.fields ?? []) : []
  const [first, second] = fields
  return fields.length === 2 && second !== undefined && 'A_Star' in second && first !== undefined
    ? nameParts([first])[0]
    : undefined
}

/** The FROM items whose columns the statement itself names: `(VALUES …) AS v(a, b)`. */
export function namedRows(from: readonly Node[]): [string, SpelledRow][] {
  return from.flatMap((item): [string, SpelledRow][] => {
    if (!('RangeSubselect' in item)) return []
    const { alias, subquery } = item.RangeSubselect
    const columns = nameParts(alias?.colnames)
    const [first] = subquery !== undefined && 'SelectStmt' in subquery ? (subquery.SelectStmt.valuesLists ?? []) : []
    const width = first !== undefined && 'List' in first ? first.List.items?.length : undefined
    return alias?.aliasname !== undefined && width === columns.length ? [[alias.aliasname, { columns }]] : []
  })
}
