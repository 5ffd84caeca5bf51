import type { Statement } from '../../../sql/classify.js'
import type { Session } from '../session.js'

/** Rows written so far in the open transaction, by table: also those written by triggers and cascades. */
const COUNTERS = `SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0`

type Counts = ReadonlyMap<string, readonly [inserted: number, updated: number, deleted: number]>

/** @throws the server's error. */
export async function countTouched({ reader }: Session): Promise<Counts> {
  const rows = await reader.rows({ text: COUNTERS })
  return new Map(
    rows.map(([name, ...counts]) => [name ?? '', [Number(counts[0]), Number(counts[1]), Number(counts[2])]]),
  )
}

/** One sentence for each table that changed without being the statement's target. */
export function secondaryEffects(before: Counts, after: Counts, statement: Statement): string[] {
  const targets = new Set(statement.writes.map(lastPart))
  const sentences: string[] = []
  for (const [name, counts] of after) {
    if (targets.has(lastPart(name))) continue
    const known = before.get(name) ?? [0, 0, 0]
    const parts = ['INSERT', 'UPDATE', 'DELETE'].flatMap((operation, index) => {
      const rows = (counts[index] ?? 0) - (known[index] ?? 0)
      return rows > 0 ? [`${operation} ${rows}`] : []
    })
    if (parts.length > 0) sentences.push(`also changed by triggers, rules or cascades: ${name}: ${parts.join(', ')}`)
  }
  return sentences
}

function lastPart(name: string): string {
  return name.split('.').at(-1) ?? name
}
