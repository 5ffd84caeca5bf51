import type { Run } from '../../run/run.js'
import type { Call } from './call.js'
import type { Boss, Originals, QueueRow } from './library.js'

interface Known {
  readonly rows: Map<string, QueueRow>
  /** Queues whose creation was simulated in this run. */
  readonly created: Set<string>
}

const byRun = new WeakMap<Run, WeakMap<Boss, Known>>()

/** The queues of one boss as a run sees them: read once per run, plus those it would have created. */
export function knownQueues(run: Run, boss: Boss): Known {
  let bosses = byRun.get(run)
  if (bosses === undefined) byRun.set(run, (bosses = new WeakMap()))
  let known = bosses.get(boss)
  if (known === undefined) bosses.set(boss, (known = { rows: new Map(), created: new Set() }))
  return known
}

/**
 * The error of the live call when one of its queues does not exist. pg-boss
 * reads the queue before it writes; so do we, with its own method.
 */
export async function missingQueue(run: Run, boss: Boss, call: Call, originals: Originals): Promise<Error | undefined> {
  const { rows, created } = knownQueues(run, boss)
  for (const queue of call.queues) {
    if (rows.has(queue) || created.has(queue)) continue
    const row = (await originals['getQueue']?.call(boss, queue)) as QueueRow | null | undefined
    if (row === null) {
      return new Error(call.method === 'schedule' ? `Queue ${queue} not found` : `Queue ${queue} does not exist`)
    }
    if (row !== undefined) rows.set(queue, row)
  }
  return undefined
}
