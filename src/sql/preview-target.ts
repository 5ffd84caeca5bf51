import type { Node, RangeVar } from '@pgsql/types'
import { type Command, type PreviewOptions, PreviewUnsupported, refuseRules, type Target } from './preview-parts.js'
import { plainTarget, viewTarget } from './preview-view.js'
import { quoteName } from './tree.js'
import { judgedInPart } from './unreadable.js'

/** Looks up the written table. @throws PreviewUnsupported when it is neither a plain table nor a view over one. */
export async function resolveTarget(
  relation: RangeVar | undefined,
  command: Command,
  options: PreviewOptions,
  /** Names of the columns that a row which is there already gets new values for. */
  assigned: readonly string[] = [],
): Promise<Target> {
  if (relation?.relname === undefined) throw new PreviewUnsupported('the statement names no table')
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  const found = await options.lookup(schema + quoteName(relation.relname))
  const stops = found.oid === options.rules?.stopAt
  if (found.kind === 'v' && !stops) return await viewTarget(found, relation, command, options, assigned)
  const table = found.kind === 'v' ? found : judgedInPart(found, command === 'INSERT' ? undefined : new Set(assigned))
  if (!stops) {
    if (table.kind !== 'r' && table.kind !== 'p') throw new PreviewUnsupported(`${table.name} is no plain table`)
    refuseRules(table, command, options)
  }
  return plainTarget(table, relation)
}

/** The columns a SET list assigns, as the statement names them. */
export function assignedNames(targets: readonly Node[] = []): string[] {
  return targets.flatMap((item) => ('ResTarget' in item && item.ResTarget.name ? [item.ResTarget.name] : []))
}
