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

/** Styles of getting at a connection and at a result; each returns a promise of the row count. */
const STYLES = `
  const styles = [
    (text, values) => pool.query(text, values).then((result) => result.rowCount),
    (text, values) => new Promise((resolve, reject) => pool.query(text, values, (error, result) => error ? reject(error) : resolve(result.rowCount))),
    (text, values) => new Promise((resolve, reject) => pool.connect((error, client, release) => {
      if (error) return reject(error)
      client.query(text, values, (error, result) => { release(); error ? reject(error) : resolve(result.rowCount) })
    })),
    async (text, values) => {
      const client = await pool.connect()
      try { return (await client.query(text, values)).rowCount } finally { client.release() }
    },
    async (text, values) => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        const { rowCount } = await client.query(text, values)
        await client.query('COMMIT')
        return rowCount
      } finally { client.release() }
    },
    (text, values) => new Promise((resolve, reject) => pool.connect((error, client, release) => {
      if (error) return reject(error)
      const query = client.query(new pg.Query(text, values))
      query.on('error', (error) => { release(); reject(error) }).on('end', (result) => { release(); resolve(result.rowCount) })
    })),
  ]`

it.each([1, 3])('a pool of %i keeps live and dry callers apart', { timeout: 120_000 }, async (max) => {
  await observer.query('DROP TABLE IF EXISTS marks; CREATE TABLE marks (id serial PRIMARY KEY, who text, n int)')
  const directory = scratchDirectory()
  const finished = await runNode({
    register: true,
    timeout: 110_000,
    env: { PG_URL: server.url, DRYTRACE_JOURNAL: directory, MAX: String(max) },
    source: `
      import pg from 'pg'
      import { dryRun } from ${JSON.stringify(`${DIST}/index.js`)}
      const pool = new pg.Pool({ connectionString: process.env.PG_URL, max: Number(process.env.MAX) })
      ${STYLES}
      let liveCount = 0
      const insert = (who, n) => styles[n % styles.length]('INSERT INTO marks (who, n) VALUES ($1, $2)', [who, n])
      // A continuation of a live call must still be live, and one of a dry call still dry.
      const live = async (n) => {
        const first = await insert('live', n)
        const second = await insert('live', n + 1)
        liveCount += first + second
      }
      const dry = (n) => dryRun({ id: 'run-' + n }, async () => { await insert('dry', n); await insert('dry', n + 1) })
      const failures = []
      for (let round = 0; round < 5; round++) {
        const calls = []
        for (let n = 0; n < 240; n++) calls.push((n * 7 + round) % 3 === 0 ? dry(round * 1000 + n) : live(round * 1000 + n))
        for (const outcome of await Promise.allSettled(calls)) if (outcome.status === 'rejected') failures.push(String(outcome.reason))
      }
      await pool.end()
      console.log(JSON.stringify({ liveCount, failures: failures.slice(0, 3) }))
    `,
  })
  expect(finished.stderr).toBe('')
  expect(JSON.parse(finished.stdout)).toEqual({ liveCount: 1600, failures: [] })
  const { rows } = await observer.query('SELECT who, count(*)::int AS n FROM marks GROUP BY who')
  expect(rows).toEqual([{ who: 'live', n: 1600 }])
  const writes = readEffects(directory).filter(({ effect }) => effect === 'write')
  expect(writes.map(({ outcome }) => outcome)).toEqual(Array(800).fill('blocked'))
})
