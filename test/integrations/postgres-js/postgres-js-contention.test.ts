import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DIST, runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { startPostgres, type TestPostgres } from '../../support/postgres.js'

let server: TestPostgres
let observer: pg.Client

beforeAll(async () => {
  server = await startPostgres()
  observer = new pg.Client(server.url)
  await observer.connect()
})

afterAll(async () => {
  await observer?.end()
  await server?.stop()
})

/** Ways of making one insert; each resolves to the number of rows. */
const STYLES = `
  const styles = [
    (who, n) => sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n})\`.then(({ count }) => count),
    (who, n) => sql.unsafe("INSERT INTO marks (who, n) VALUES ('" + who + "', " + n + ')').then(({ count }) => count),
    (who, n) => sql.begin(async (tx) => (await tx\`INSERT INTO marks \${tx({ who, n })} RETURNING id\`).length),
    (who, n) => sql.begin((tx) => tx.savepoint(async (inner) => (await inner\`INSERT INTO marks \${sql({ who, n })}\`).count)),
    async (who, n) => {
      const own = await sql.reserve()
      try { return (await own\`INSERT INTO marks (who, n) VALUES (\${who}, \${n})\`).count } finally { own.release() }
    },
    async (who, n) => {
      let rows = 0
      await sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n}) RETURNING id\`.forEach(() => { rows++ })
      return rows
    },
    async (who, n) => {
      let rows = 0
      for await (const portion of sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n}) RETURNING id\`.cursor(10)) rows += portion.length
      return rows
    },
  ]`

it.each([
  [1, 'module'],
  [3, 'commonjs'],
] as const)('%i connections keep live and dry callers apart (%s)', { timeout: 120_000 }, async (max, type) => {
  await observer.query('DROP TABLE IF EXISTS marks; CREATE TABLE marks (id serial PRIMARY KEY, who text, n int)')
  const directory = scratchDirectory()
  const finished = await runNode({
    register: true,
    type,
    timeout: 110_000,
    env: { PG_URL: server.url, DRYTRACE_JOURNAL: directory, MAX: String(max) },
    source: `
      ${type === 'module' ? "import postgres from 'postgres'" : "const postgres = require('postgres')"}
      async function main() {
      const { dryRun } = await import(${JSON.stringify(`${DIST}/index.js`)})
      const sql = postgres(process.env.PG_URL, { max: Number(process.env.MAX) })
      ${STYLES}
      let liveCount = 0
      let dryCount = 0
      const insert = (who, n) => styles[n % styles.length](who, n)
      // A continuation of a live call must still be live, and one of a dry call still dry.
      const live = async (n) => { const one = await insert('live', n); const two = await insert('live', n + 1); liveCount += one + two }
      const dry = (n) => dryRun({ id: 'run-' + n }, async () => { const one = await insert('dry', n); const two = await insert('dry', n + 1); dryCount += one + two })
      const failures = []
      for (let round = 0; round < 2; round++) {
        const calls = []
        for (let n = 0; n < 60; n++) calls.push((n * 7 + round) % 3 === 0 ? dry(round * 1000 + n) : live(round * 1000 + n))
        for (const outcome of await Promise.allSettled(calls)) if (outcome.status === 'rejected') failures.push(String(outcome.reason))
      }
      const [{ open }] = await sql\`SELECT count(*)::int AS open FROM pg_stat_activity WHERE application_name = 'postgres.js'\`
      await sql.end()
      console.log(JSON.stringify({ liveCount, dryCount, failures: failures.slice(0, 3), bounded: open <= 2 * Number(process.env.MAX) }))
      }
      main()
    `,
  })
  expect(finished.stderr).toBe('')
  expect(JSON.parse(finished.stdout)).toEqual({ liveCount: 160, dryCount: 80, failures: [], bounded: true })
  const { rows } = await observer.query('SELECT who, count(*)::int AS n FROM marks GROUP BY who')
  expect(rows).toEqual([{ who: 'live', n: 160 }])
  const writes = readEffects(directory).filter(({ effect }) => effect === 'write')
  expect(writes.map(({ outcome }) => outcome)).toEqual(Array(80).fill('blocked'))
})
