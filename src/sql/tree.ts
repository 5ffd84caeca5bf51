import type { Node, RangeVar } from '@pgsql/types'

/** Calls `visit` for every tagged node below `root`, parents first. Return false to skip what is below. */
export function walk(root: unknown, visit: (tag: string, value: never) => unknown): void {
  if (Array.isArray(root)) {
    for (const item of root) walk(item, visit)
    return
  }
  if (typeof root !== 'object' || root === null) return
  // Trees are parsed JSON: they inherit nothing.
  for (const tag in root) {
    const value = (root as Record<string, unknown>)[tag]
    if (typeof value !== 'object' || value === null) continue
    if (visit(tag, value as never) === false) continue
    walk(value, visit)
  }
}

/** Replaces nodes below `root` in place: `swap` returns the new node, or undefined to keep and descend. */
export function replace(root: unknown, swap: (node: Record<string, unknown>) => Node | undefined): void {
  if (typeof root !== 'object' || root === null) return
  const holder = root as Record<string, unknown>
  for (const key of Object.keys(holder)) {
    const value = holder[key]
    if (typeof value !== 'object' || value === null) continue
    const swapped = Array.isArray(value) ? undefined : swap(value as Record<string, unknown>)
    if (swapped === undefined) replace(value, swap)
    else holder[key] = swapped
  }
}

/** True when a node with one of these tags is anywhere below `root`. */
export function contains(root: unknown, ...tags: string[]): boolean {
  let found = false
  walk(root, (tag) => {
    if (tags.includes(tag)) found = true
    return !found
  })
  return found
}

/** The one tag of a node: `UpdateStmt`. */
export function tagOf(node: Node): string {
  return Object.keys(node)[0] ?? ''
}

/** The parts of a dotted name list. */
export function nameParts(list: readonly Node[] | undefined): string[] {
  return (list ?? []).map((part) => ('String' in part ? (part.String.sval ?? '') : ''))
}

/** `schema.table`, or `table` when the statement names no schema. Unquoted, as stored in the catalog. */
export function relationName(relation: RangeVar | undefined): string | undefined {
  if (relation?.relname === undefined) return undefined
  return relation.schemaname ? `${relation.schemaname}.${relation.relname}` : relation.relname
}

/** A quoted identifier. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A quoted literal that means the same whatever `standard_conforming_strings` says. */
export function quoteText(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`
  return text.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted
}

/** A deep copy that may be changed. */
export function copyOf<T>(node: T): T {
  return structuredClone(node)
}
