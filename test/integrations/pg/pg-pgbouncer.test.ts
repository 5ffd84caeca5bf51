import { createRequire } from 'node:module'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { DatabaseError, Pool } from 'pg'
import Cursor from 'pg-cursor'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { findPgBouncer, startPgBouncer, type TestPgBouncer } from '../../support/pgbouncer.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, takeEffects } = guardPg()
const copy = createRequire(import.meta.url)('pg-copy-streams') as {
  from(text: string): Writable & { rowCount: number }
}
const pgbouncer = findPgBouncer()

describe.skipIf(pgbouncer === undefined)('PgBouncer in transaction mode (apt-get install pgbouncer)', () => {
  let bouncer: TestPgBouncer
  let pool: Pool

  observedPostgres()

  beforeAll(async () => {
    bouncer = await startPgBouncer(pgbouncer as string, server)
    pool = new pg.Pool({ connectionString: bouncer.url('pooled'), max: 8 })
  })

  afterAll(async () => {
    await pool?.end()
    await bouncer?.stop()
  })

  beforeEach(async () => {
    takeEffects()
    await observer.query('DROP TABLE IF EXISTS mark; CREATE TABLE mark (id serial PRIMARY KEY, who text, n int)')
  })

  afterEach(async () => {
    // Nothing is left on the connections that PgBouncer hands to whoever comes next.
    const left = await Promise.all(
      Array.from({ length: 9 }, async () => {
        const { rows } = await pool.query(`SELECT current_setting('transaction_read_only') AS now,
          current_setting('default_transaction_read_only') AS later,
          (SELECT count(*)::int FROM pg_prepared_statements) AS prepared, (SELECT count(*)::int FROM pg_cursors) AS cursors,
          (SELECT count(*)::int FROM pg_listening_channels()) AS channels, pg_sleep(0.01) IS NULL AS slept`)
        return rows[0]
      }),
    )
    const clean = { now: 'off', later: 'off', prepared: 0, cursors: 0, channels: 0, slept: false }
    expect(left).toEqual(Array(9).fill(clean))
    const { rows } = await observer.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
    )
    expect(rows).toEqual([{ n: 0 }])
  })

  const count = async (who: string) =>
    (await observer.query('SELECT count(*)::int AS n FROM mark WHERE who = $1', [who])).rows[0].n as number

  it('reads, blocked writes, errors and transactions', async () => {
    await dry(async () => {
      expect((await pool.query('SELECT $1::int AS n', [1])).rows).toEqual([{ n: 1 }])
      expect((await pool.query("INSERT INTO mark (who) VALUES ('dry') RETURNING who")).rows).toEqual([{ who: 'dry' }])
      expect((await pool.query('SELECT count(*)::int AS n FROM mark')).rows).toEqual([{ n: 1 }])
      const error = await pool.query('SELECT nothing').catch((cause: DatabaseError) => cause.code)
      expect(error).toBe('42703')
      const one = await pool.connect()
      await one.query('BEGIN')
      await one.query("UPDATE mark SET n = 5 WHERE who = 'dry'")
      expect((await one.query('SELECT n FROM mark')).rows).toEqual([{ n: 5 }])
      expect((await one.query('COMMIT')).command).toBe('COMMIT')
      await one.query('BEGIN')
      await one.query('SELECT 1 / 0').catch(() => undefined)
      expect((await one.query('COMMIT')).command).toBe('ROLLBACK')
      one.release()
    })
    expect(await count('dry')).toBe(0)
  })

  it('cursors and COPY', async () => {
    await dry(async () => {
      const one = await pool.connect()
      const cursor = one.query(new Cursor('SELECT n FROM generate_series(1, 5) n'))
      expect(await cursor.read(2)).toEqual([{ n: 1 }, { n: 2 }])
      expect(await cursor.read(2)).toEqual([{ n: 3 }, { n: 4 }])
      await cursor.close()
      const into = one.query(copy.from('COPY mark (who) FROM STDIN') as never) as never as Writable & {
        rowCount: number
      }
      await pipeline(Readable.from(['dry\ndry\n'], { objectMode: false }), into)
      expect(into.rowCount).toBe(2)
      one.release()
    })
    expect(await count('dry')).toBe(0)
  })

  it('a dry statement in a live transaction leaves it able to write', async () => {
    const one = await pool.connect()
    await one.query('BEGIN')
    await one.query("INSERT INTO mark (who) VALUES ('live')")
    await dry(() => one.query("INSERT INTO mark (who) VALUES ('dry')"))
    await dry(() => one.query('SELECT nothing')).catch(() => undefined)
    await one.query("INSERT INTO mark (who) VALUES ('live')")
    await one.query('COMMIT')
    one.release()
    expect([await count('live'), await count('dry')]).toEqual([2, 0])
  })

  it('named statements, where one server connection keeps them', async () => {
    const single = new pg.Client(bouncer.url('single'))
    await single.connect()
    const insert = (who: string) => ({ name: 'insert', text: 'INSERT INTO mark (who) VALUES ($1)', values: [who] })
    const read = { name: 'read', text: 'SELECT count(*)::int AS n FROM mark WHERE who = $1', values: ['live'] }
    await dry(() => single.query(read))
    await single.query(insert('live'))
    await dry(() => single.query(insert('dry')))
    expect((await dry(() => single.query(read))).rows).toEqual([{ n: 1 }])
    await single.query(insert('live'))
    expect((await single.query(read)).rows).toEqual([{ n: 2 }])
    await single.query('DEALLOCATE ALL')
    await single.end()
    expect(await count('dry')).toBe(0)
  })

  it('mixed traffic leaks nothing and loses nothing', { timeout: 120_000 }, async () => {
    const write = async (who: string, n: number) => {
      const text = 'INSERT INTO mark (who, n) VALUES ($1, $2) RETURNING n'
      if (n % 3 !== 0) return (await pool.query(text, [who, n])).rows[0].n as number
      const one = await pool.connect()
      try {
        await one.query('BEGIN')
        const { rows } = await one.query(text, [who, n])
        if (n % 2) await one.query('SELECT count(*) FROM mark WHERE who = $1', [who])
        await one.query('COMMIT')
        return rows[0].n as number
      } finally {
        one.release()
      }
    }
    const failures: unknown[] = []
    for (let round = 0; round < 6; round++) {
      const calls = Array.from({ length: 100 }, (_, n) => (n % 2 ? write('live', n) : dry(() => write('dry', n))))
      for (const [n, outcome] of (await Promise.allSettled(calls)).entries()) {
        if (outcome.status === 'rejected' || outcome.value !== n) failures.push(outcome)
      }
    }
    expect(failures).toEqual([])
    expect([await count('live'), await count('dry')]).toEqual([300, 0])
  })
})
