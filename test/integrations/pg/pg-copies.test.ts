import { describe, expect, it } from 'vitest'
import { DIST, runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { mustHavePgClients, PG_CLIENTS, pgClientsInstalled } from '../../support/pg-clients.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'

it.runIf(mustHavePgClients)('the other copies of pg are installed: npm ci --prefix test/pg-clients', () => {
  expect(pgClientsInstalled).toBe(true)
})

describe.skipIf(!pgClientsInstalled)('two copies of pg in one process (npm ci --prefix test/pg-clients)', () => {
  observedPostgres('CREATE TABLE mark (id serial PRIMARY KEY, who text)')

  it('are both guarded, with their cursors and streams', async () => {
    const journal = scratchDirectory()
    const finished = await runNode({
      register: true,
      env: { PG_URL: server.url, DRYTRACE_JOURNAL: journal },
      source: `
        import { createRequire } from 'node:module'
        import { Readable } from 'node:stream'
        import { pipeline } from 'node:stream/promises'
        import pg from 'pg'
        import { armed, dryRun } from ${JSON.stringify(`${DIST}/index.js`)}
        const ours = createRequire(import.meta.url)
        const theirs = createRequire(${JSON.stringify(`${PG_CLIENTS}/package.json`)})
        const out = []
        const use = async (name, require) => {
          const { Pool, Client } = require('pg')
          const Cursor = require('pg-cursor'), QueryStream = require('pg-query-stream'), copy = require('pg-copy-streams')
          const pool = new Pool({ connectionString: process.env.PG_URL, max: 1 })
          const client = await pool.connect()
          const work = async (who) => {
            const insert = "INSERT INTO mark (who) VALUES ('" + name + ' ' + who + "') RETURNING who"
            const seen = []
            seen.push((await client.query(insert)).rows.length)
            seen.push((await client.query({ name: 'count', text: 'SELECT count(*)::int AS n FROM mark WHERE who LIKE $1', values: [name + ' ' + who] })).rows[0].n)
            const cursor = client.query(new Cursor(insert))
            const [row] = await cursor.read(5)
            seen.push(row.who)
            await cursor.close()
            let streamed = 0
            for await (const row of client.query(new QueryStream('SELECT id FROM mark WHERE who = $1', [name + ' ' + who], { batchSize: 2 }))) streamed++
            seen.push(streamed)
            const into = client.query(copy.from('COPY mark (who) FROM STDIN'))
            await pipeline(Readable.from([name + ' ' + who + '\\n'], { objectMode: false }), into)
            seen.push(into.rowCount)
            let bytes = 0
            for await (const chunk of client.query(copy.to('COPY (SELECT 1) TO STDOUT'))) bytes += chunk.length
            seen.push(bytes)
            await client.query('BEGIN')
            await client.query(insert)
            seen.push((await client.query('COMMIT')).command)
            return seen
          }
          out.push([name, await work('live'), await dryRun({}, () => work('dry')), await work('after')])
          client.release()
          await pool.end()
        }
        await use('new', ours)
        await use('old', theirs)
        const { status, versions } = armed().find(({ name }) => name === 'pg')
        console.log(JSON.stringify({ out, status, versions: versions.length, different: pg.Client !== theirs('pg').Client }))
      `,
    })
    expect(finished.stderr).toBe('')
    const { out, ...rest } = JSON.parse(finished.stdout) as { out: unknown[] }
    expect(rest).toEqual({ status: 'armed', versions: 2, different: true })
    const seen = (name: string, who: string) => [1, 1, `${name} ${who}`, 2, 1, 2, 'COMMIT']
    expect(out).toEqual(
      ['new', 'old'].map((name) => [name, seen(name, 'live'), seen(name, 'dry'), seen(name, 'after')]),
    )
    const { rows } = await observer.query('SELECT who, count(*)::int AS n FROM mark GROUP BY who ORDER BY who')
    expect(rows).toEqual(['new after', 'new live', 'old after', 'old live'].map((who) => ({ who, n: 4 })))
    const writes = readEffects(journal).filter(({ effect }) => effect === 'write')
    expect(writes.map(({ outcome }) => outcome)).toEqual(Array(8).fill('blocked'))
  })
})
