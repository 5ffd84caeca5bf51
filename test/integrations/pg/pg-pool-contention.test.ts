import { it } from 'vitest'
import { expectKeptApart } from '../../support/postgres-contention.js'
import { observedPostgres } from '../../support/postgres-world.js'

observedPostgres()

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
  await expectKeptApart({
    type: 'module',
    max,
    rounds: 5,
    callers: 240,
    load: "import pg from 'pg'",
    setup: `
      const pool = new pg.Pool({ connectionString: process.env.PG_URL, max: Number(process.env.MAX) })
      ${STYLES}
      const insert = (who, n) => styles[n % styles.length]('INSERT INTO marks (who, n) VALUES ($1, $2)', [who, n])`,
    teardown: 'await pool.end()',
  })
})
