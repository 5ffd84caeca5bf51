import type { Run } from '../../run/run.js'
import type { Call } from './call.js'
import type { Boss, Originals, QueueRow } from './library.js'

interface Known {
  /** Queues that exist. */
  readonly rows: Map<string, QueueRow>
  /** Reads under way: calls made at the same time share one, and so keep their order. */
  readonly reads: Map<string, Promise<QueueRow | null>>
  /** Queues whose creation was simulated in this run. */
  readonly created: Set<string>
}

const byRun = new WeakMap<Run, WeakMap<Boss, Known>>()

/** The queues of one boss as a run sees them: read once per run, plus those it would have created. */
export function knownQueues(run: Run, boss: Boss): Known {
  const bosses = byRun.get(run) ?? new WeakMap<Boss, Known>()
  byRun.set(run, bosses)
  const known = bosses.get(boss) ?? { rows: new Map(), reads: new Map(), created: new Set() }
  bosses.set(boss, known)
  return known
}

/**
 * The error of the live call when one of its queues does not exist. pg-boss
 * reads the queue before it writes; so do we, with its own method.
 */
export async function missingQueue(run: Run, boss: Boss, call: Call, originals: Originals): Promise<Error | undefined> {
  const { rows, reads, created } = knownQueues(run, boss)
  for (const queue of call.queues) {
    if (rows.has(queue) || created.has(queue)) continue
    const read = reads.get(queue) ?? readQueue(boss, queue, originals)
    reads.set(queue, read)
    const row = await read.finally(() => reads.delete(queue))
    if (row !== null) {
      rows.set(queue, row)
      continue
    }
    if (call.method !== 'schedule') return new Error(`Queue ${queue} does not exist`)
    // Live it is the foreign key that fails, and pg-boss only changes the message.
    return Object.assign(new Error(`Queue ${queue} not found`), { name: 'error', code: '23503' })
  }
  return undefined
}

async function readQueue(boss: Boss, queue: string, originals: Originals): Promise<QueueRow | null> {
  return ((await originals['getQueue']?.call(boss, queue)) ?? null) as QueueRow | null
}
