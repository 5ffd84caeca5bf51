import { classify } from '../../sql/classify.js'
import { type Hazards, hazardOf } from '../../sql/hazards.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import type { PlanReader } from './preview-bounds.js'

interface Plan {
  readonly 'Conflict Arbiter Indexes'?: readonly string[]
}

/**
 * Names of the indexes that the planner takes for the conflicts of an INSERT.
 * Nothing is executed.
 * @throws PreviewUnsupported, or the server's error.
 */
export async function plannedArbiters(
  reader: PlanReader & { hazards(): Promise<Hazards> },
  statement: string,
): Promise<readonly string[]> {
  const [only] = classify(statement)
  const culprit = only === undefined ? undefined : (only.denied[0] ?? hazardOf(only, await reader.hazards()))
  // An expression over constants is evaluated while planning.
  if (only === undefined || culprit !== undefined) throw new PreviewUnsupported(`it would call ${culprit}`)
  const [row] = await reader.rows({ text: `EXPLAIN (FORMAT JSON) ${statement}` })
  const [top] = JSON.parse(row?.[0] ?? '[]') as { Plan?: Plan }[]
  return top?.Plan?.['Conflict Arbiter Indexes'] ?? []
}
