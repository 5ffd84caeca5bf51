import type { Node, ReturningClause } from '@pgsql/types'
import { parseExpression } from './grammar.js'
import { PreviewUnsupported, type Target } from './preview-parts.js'
import { starQualifier, versionNames } from './preview-returning.js'
import { readsContext } from './rule-context.js'
import { contains, copyOf, nameParts, replace, tagOf } from './tree.js'

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
  const { alias, name: relation } = writtenBy(action)
  const meaningOf = (name: string, version?: 'old' | 'new'): Node => {
    const value = values[target.visible.indexOf(name)]
    if (value === undefined) throw new PreviewUnsupported('RETURNING of a rule')
    return version === undefined ? copyOf(value) : versioned(value, version)
  }
  const versioned = (value: Node, version: 'old' | 'new'): Node => {
    const plain = 'ColumnRef' in value ? nameParts(value.ColumnRef.fields) : []
    if (plain.length !== 2 || plain[0] !== (alias ?? relation)) {
      throw new PreviewUnsupported('a version of an expression in RETURNING of a rule')
    }
    const known = version === 'old' ? named.old : named.fresh
    return parseExpression([known, plain[1] ?? ''].map((part) => `"${part.replaceAll('"', '""')}"`).join('.'))
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

function writtenBy(action: Node): { alias: string | undefined; name: string | undefined } {
  const { relation } =
    (action as unknown as Record<string, { relation?: { relname?: string; alias?: { aliasname?: string } } }>)[
      tagOf(action)
    ] ?? {}
  return { alias: relation?.alias?.aliasname, name: relation?.relname }
}
