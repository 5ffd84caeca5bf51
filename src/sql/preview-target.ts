import type { RangeVar } from '@pgsql/types'
import { type Command, type PreviewOptions, PreviewUnsupported, refuseRules, type Target } from './preview-parts.js'
import { plainTarget, viewTarget } from './preview-view.js'
import { quoteName } from './tree.js'

/** Looks up the written table. @throws PreviewUnsupported when it is neither a plain table nor a view over one. */
export async function resolveTarget(
  relation: RangeVar | undefined,
  command: Command,
  options: PreviewOptions,
): Promise<Target> {
  if (relation?.relname === undefined) throw new PreviewUnsupported('the statement names no table')
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  const table = await options.lookup(schema + quoteName(relation.relname))
  if (table.kind === 'v') return await viewTarget(table, relation, command, options)
  if (table.kind !== 'r' && table.kind !== 'p') throw new PreviewUnsupported(`${table.name} is no plain table`)
  refuseRules(table, command)
  return plainTarget(table, relation)
}
