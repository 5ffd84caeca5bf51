import { readFileSync } from 'node:fs'
import { DryTraceError } from './errors.js'
import { type DryRunOptions, dryRun } from './index.js'
import type { EffectRecord, JournalRecord } from './journal/record.js'
import type { Journal } from './journal/writer.js'
import { createRunId } from './run/run.js'
import { shared } from './run/store.js'

/** What a dry run would have done, for assertions. */
export interface Plan<T> {
  readonly runId: string
  /** What `fn` returned. */
  readonly result: T
  /** Every effect, reads too, in order. */
  readonly effects: readonly EffectRecord[]
  /** Effects that are not allowed reads: what would change. */
  readonly writes: readonly EffectRecord[]
}

/**
 * Runs `fn` dry and returns its plan, inside vitest or node:test. The test
 * process must be started with `--import drytrace/register`.
 *
 * @throws DryTraceError `DRY_NOT_ARMED` without it; whatever `fn` throws.
 * @since 0.1.0
 */
export async function planOf<T>(fn: () => T | Promise<T>, options: DryRunOptions = {}): Promise<Plan<T>> {
  const id = options.id ?? createRunId()
  const result = await dryRun({ ...options, id }, fn)
  const file = (shared.slots.get('journal') as Journal | undefined)?.file
  if (file === undefined) throw new DryTraceError('DRY_JOURNAL', 'the run left no journal')
  const effects = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.includes(id))
    .map((line) => JSON.parse(line) as JournalRecord)
    .filter((record) => record.type === 'effect' && record.runId === id) as EffectRecord[]
  return {
    runId: id,
    result,
    effects,
    writes: effects.filter(({ effect, outcome }) => effect !== 'read' || outcome !== 'allowed'),
  }
}
