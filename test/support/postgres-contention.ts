import { expect } from 'vitest'
import { DIST, type RunNodeOptions, runNode, scratchDirectory } from './child.js'
import { readEffects } from './journal.js'
import { live, server } from './postgres-world.js'

export interface Contention {
  /** Format of the program. */
  readonly type: NonNullable<RunNodeOptions['type']>
  /** Connections the program may open; MAX in its environment. */
  readonly max: number
  readonly rounds: number
  /** Callers of a round, a third of them dry; each makes two inserts. */
  readonly callers: number
  /** Loads the library. */
  readonly load: string
  /** Declares `insert(who, n)`, which resolves to the number of rows, in whatever style `n` picks. */
  readonly setup: string
  /** Ends the connections; what it puts on `more` is handed back. */
  readonly teardown: string
}

/** Runs live and dry callers on the same connections, and expects all rows of the live ones and none of the dry. */
export async function expectKeptApart(contention: Contention): Promise<Record<string, unknown>> {
  const { type, max, rounds, callers, load, setup, teardown } = contention
  await live.query('DROP TABLE IF EXISTS marks; CREATE TABLE marks (id serial PRIMARY KEY, who text, n int)')
  const directory = scratchDirectory()
  const finished = await runNode({
    register: true,
    type,
    timeout: 110_000,
    env: { PG_URL: server.url, DRYTRACE_JOURNAL: directory, MAX: String(max) },
    source: `
      ${load}
      async function main() {
      const { dryRun } = await import(${JSON.stringify(`${DIST}/index.js`)})
      ${setup}
      const counts = { live: 0, dry: 0 }
      // A continuation of a live call must still be live, and one of a dry call still dry.
      const call = async (who, n) => {
        const first = await insert(who, n)
        const second = await insert(who, n + 1)
        counts[who] += first + second
      }
      const failures = []
      for (let round = 0; round < ${rounds}; round++) {
        const calls = []
        for (let turn = 0; turn < ${callers}; turn++) {
          const n = round * 1000 + turn
          calls.push((turn * 7 + round) % 3 === 0 ? dryRun({ id: 'run-' + n }, () => call('dry', n)) : call('live', n))
        }
        for (const outcome of await Promise.allSettled(calls)) if (outcome.status === 'rejected') failures.push(String(outcome.reason))
      }
      const more = {}
      ${teardown}
      console.log(JSON.stringify({ counts, failures: failures.slice(0, 3), more }))
      }
      main()
    `,
  })
  const dry = (rounds * callers * 2) / 3
  const liveRows = 2 * dry
  expect(finished.stderr).toBe('')
  const { more, ...outcome } = JSON.parse(finished.stdout)
  expect(outcome).toEqual({ counts: { live: liveRows, dry }, failures: [] })
  const { rows } = await live.query('SELECT who, count(*)::int AS n FROM marks GROUP BY who')
  expect(rows).toEqual([{ who: 'live', n: liveRows }])
  const writes = readEffects(directory).filter(({ effect }) => effect === 'write')
  expect(writes.map(({ outcome }) => outcome)).toEqual(Array(dry).fill('blocked'))
  return more
}
