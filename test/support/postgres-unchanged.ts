import { expect } from 'vitest'
import { runNode, scratchDirectory } from './child.js'
import { readEffects } from './journal.js'
import { live, server } from './postgres-world.js'

export interface DryProgram {
  /** ES module that works through the texts in STATEMENTS; prints what went wrong, then the rows of a SHOW. */
  readonly source: string
  readonly statements: readonly string[]
  /** The setting that is asked for at the end, and must be on. */
  readonly setting: string
  /** Everything a statement could have changed. */
  snapshot(): Promise<unknown>
}

/** Runs the program as a dry process, and expects that the database is as before and each statement recorded. */
export async function expectNothingChanges({ source, statements, setting, snapshot }: DryProgram): Promise<void> {
  // Statistics are flushed at most once a second; the first reading must have them all.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  const before = await snapshot()
  const log = await live.query('SELECT pg_current_wal_insert_lsn() AS lsn')
  const journal = scratchDirectory()
  const finished = await runNode({
    register: true,
    timeout: 60_000,
    env: { PG_URL: server.url, DRYTRACE_JOURNAL: journal, DRY_RUN: '1', STATEMENTS: JSON.stringify(statements) },
    source,
  })
  expect(finished.stderr).toBe('')
  const [errors, after] = finished.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown[])
  expect(errors).toEqual([])
  expect(after).toEqual([{ [setting]: 'on' }])
  await new Promise((resolve) => setTimeout(resolve, 1100))
  expect(await snapshot()).toEqual(before)
  const blocked = readEffects(journal).filter(({ effect, outcome }) => effect === 'write' && outcome === 'blocked')
  expect(blocked.length).toBeGreaterThan(statements.length)
  // Reads may prune pages and the server notes running transactions; a single written row would take more.
  const moved = await live.query('SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::int AS bytes', [
    log.rows[0].lsn,
  ])
  expect(moved.rows[0].bytes).toBeLessThan(4096)
}
