import type { Node, RangeVar } from '@pgsql/types'
import { nameParts, walk } from './tree.js'

/** One place where a statement names a relation that is no common table expression. */
export interface RelationUse {
  readonly relation: RangeVar
  /** Puts another FROM item in its place; undefined where the grammar takes a table only. */
  readonly replace: ((node: Node) => void) | undefined
}

interface WithHolder {
  readonly withClause?: { readonly ctes?: readonly Node[]; readonly recursive?: boolean }
}

/** The relations a statement names, written ones included, with common table expressions resolved by scope. */
export function relationUses(root: unknown): RelationUse[] {
  const uses: RelationUse[] = []
  visit(root, new Set(), uses)
  return uses
}

function visit(value: unknown, scope: ReadonlySet<string>, uses: RelationUse[]): void {
  if (typeof value !== 'object' || value === null) return
  const holder = value as Record<string, unknown>
  const inner = Array.isArray(value) ? scope : withScope(holder as WithHolder, scope, uses)
  for (const key of Object.keys(holder)) {
    const child = holder[key]
    if (key === 'withClause' || typeof child !== 'object' || child === null) continue
    const tagged = (child as { RangeVar?: RangeVar }).RangeVar
    if (tagged !== undefined) {
      // TABLESAMPLE has its table in `relation`.
      const replaceable = key !== 'relation'
      report(tagged, inner, uses, replaceable ? (node) => (holder[key] = node) : undefined)
    } else if ((key === 'relation' || key === 'rel') && 'relname' in child) {
      // The target of a write is always a table.
      report(child as RangeVar, new Set(), uses, undefined)
    } else {
      visit(child, inner, uses)
    }
  }
}

function report(relation: RangeVar, scope: ReadonlySet<string>, uses: RelationUse[], replace: RelationUse['replace']) {
  if (!relation.schemaname && scope.has(relation.relname ?? '')) return
  uses.push({ relation, replace })
}

/** Visits the parts of a WITH clause and gives the scope of what it belongs to. */
function withScope(holder: WithHolder, scope: ReadonlySet<string>, uses: RelationUse[]): ReadonlySet<string> {
  const clause = holder.withClause
  if (clause?.ctes === undefined) return scope
  const parts = clause.ctes.flatMap((item) => ('CommonTableExpr' in item ? [item.CommonTableExpr] : []))
  const all = new Set([...scope, ...parts.map((part) => part.ctename ?? '')])
  const seen = new Set(scope)
  for (const part of parts) {
    // Without RECURSIVE a part sees the ones before it, and under its own name the table.
    visit({ query: part.ctequery }, clause.recursive ? all : seen, uses)
    seen.add(part.ctename ?? '')
  }
  return all
}

const SYSTEM_COLUMNS = new Set(['ctid', 'tableoid', 'xmin', 'xmax', 'cmin', 'cmax'])

/** True when an expression below `root` reads a system column. */
export function readsSystemColumns(root: unknown): boolean {
  let found = false
  walk(root, (tag, value: { fields?: Node[] }) => {
    if (tag === 'ColumnRef' && SYSTEM_COLUMNS.has(nameParts(value.fields).at(-1) ?? '')) found = true
    return !found
  })
  return found
}
