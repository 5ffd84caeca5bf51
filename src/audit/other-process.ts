import type { EffectRecord, JournalRecord } from '../journal/record.js'

const CHANGES: ReadonlySet<string | null> = new Set(['create', 'update', 'upsert', 'delete'])

/**
 * Reads of an HTTP resource that another process of the run would have
 * changed before: what a run would have written is known to the process that
 * blocked it, and to no other.
 *
 * @param ordered the run's records by time
 * @returns one sentence each, without repeats
 */
export function readsBesideOtherProcesses(
  ordered: readonly { readonly process: string; readonly record: JournalRecord }[],
): string[] {
  const writes = new Map<string, { readonly process: string; readonly write: EffectRecord }>()
  const messages = new Set<string>()
  for (const { process, record } of ordered) {
    if (record.type !== 'effect' || record.system !== 'http') continue
    if (record.outcome === 'blocked' && CHANGES.has(record.action))
      writes.set(record.target, { process, write: record })
    const earlier = writes.get(record.target)
    if (earlier === undefined || earlier.process === process) continue
    if (record.effect !== 'read' || record.outcome !== 'allowed' || record.overlaidBy != null) continue
    const { summary, service } = earlier.write
    messages.add(
      `not overlaid: ${record.summary} by ${record.service} sees the data as it is, without what this run would have ` +
        `changed (${summary} was blocked in another process, of ${service})`,
    )
  }
  return [...messages]
}
