import type { Node, RangeVar, ReturningClause } from '@pgsql/types'
import { parseExpression } from './grammar.js'
import { PreviewUnsupported, type Target } from './preview-parts.js'
import { starQualifier, versionNames } from './preview-returning.js'
import { readsContext } from './rule-context.js'
import { contains, copyOf, nameParts, replace, walk } from './tree.js'

/**
 * RETURNING of a statement as RETURNING of the action that is done instead:
 * the rule's own list says what each column of the statement's relation is.
 * @throws PreviewUnsupported
 */
export function returningThrough(
  asked: ReturningClause,
  given: ReturningClause,
  action: Node,
  target: Target,
): ReturningClause {
  const values = (given.exprs ?? []).map((item) => ('ResTarget' in item ? item.ResTarget.val : undefined))
  if (readsContext(values) && 'InsertStmt' in action) throw new PreviewUnsupported('new in RETURNING of a rule')
  const named = versionNames(asked, [target.alias])
  const written = writtenBy(action)
  const meaningOf = (name: string, version?: 'old' | 'new'): Node => {
    // The rule knows the columns of its own relation, which may be below the view of the statement.
    const own = target.view === undefined ? name : target.view.columnOf.get(name)
    const at = target.columns.findIndex((column) => column.name === own)
    const value = values[at]
    if (value === undefined) throw new PreviewUnsupported('RETURNING of a rule')
    return version === undefined ? copyOf(value) : versioned(value, version, target.columns[at]?.type ?? 'text')
  }
  const versioned = (value: Node, version: 'old' | 'new', type: string): Node => {
    const present = version === 'old' ? !('InsertStmt' in action) : !('DeleteStmt' in action)
    const upsert = 'InsertStmt' in action && action.InsertStmt.onConflictClause !== undefined
    const isColumn = 'ColumnRef' in value && nameParts(value.ColumnRef.fields)[0] === written
    if (upsert && !isColumn) throw new PreviewUnsupported('a version of an expression in RETURNING of a rule')
    if (!present && !upsert) return parseExpression(`CAST(NULL AS ${type})`)
    const known = version === 'old' ? named.old : named.fresh
    const holder = { value: copyOf(value) }
    walk(holder, (tag, column: { fields?: Node[] }) => {
      const [first, ...more] = nameParts(column.fields)
      if (tag === 'ColumnRef' && first === written && more.length > 0) {
        column.fields = [{ String: { sval: known } }, ...(column.fields ?? []).slice(1)]
      }
    })
    return holder.value
  }
  const all = (version?: 'old' | 'new') =>
    target.visible.map((name): Node => ({ ResTarget: { name, val: meaningOf(name, version) } }))
  const exprs = (asked.exprs ?? []).flatMap((expression): Node[] => {
    const star = starQualifier(expression)
    if (star === '' || star === target.alias) return all()
    if (star !== undefined && star === named.old) return all('old')
    if (star !== undefined && star === named.fresh) return all('new')
    const holder = { expression: copyOf(expression) }
    if (contains(holder, 'SubLink')) throw new PreviewUnsupported('a subquery in RETURNING')
    replace(holder, (node) => {
      if (!('ColumnRef' in node)) return undefined
      const parts = nameParts((node['ColumnRef'] as { fields?: Node[] }).fields)
      const [first = '', second] = parts
      if (parts.length === 1 && target.visible.includes(first)) return meaningOf(first)
      if (parts.length === 2 && second !== undefined && target.visible.includes(second)) {
        if (first === target.alias) return meaningOf(second)
        if (first === named.old) return meaningOf(second, 'old')
        if (first === named.fresh) return meaningOf(second, 'new')
      }
      throw new PreviewUnsupported(`${parts.join('.')} in RETURNING of a rule`)
    })
    return [holder.expression]
  })
  return { ...asked, exprs }
}

/** What an action calls the table it writes to. */
function writtenBy(action: Node): string | undefined {
  const { relation } = Object.values(action)[0] as { relation?: RangeVar }
  return relation?.alias?.aliasname ?? relation?.relname
}
