import type { Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { code } from '../../support/error-code.js'
import { client, live as observer, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, guard, takeEffects } = guardPg()

postgresWorld('CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE)')

beforeEach(async () => {
  await observer.query("TRUNCATE t RESTART IDENTITY; INSERT INTO t (v) VALUES ('a'), ('b')")
  takeEffects()
})

const rows = async () => (await observer.query('SELECT v FROM t ORDER BY v')).rows.map(({ v }) => v)

describe('a dry transaction', () => {
  it('is READ ONLY, keeps its modes, and its COMMIT is a ROLLBACK', async () => {
    await dry(async () => {
      expect((await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE')).command).toBe('BEGIN')
      const modes = await client.query(
        "SELECT current_setting('transaction_read_only') AS ro, current_setting('transaction_isolation') AS level",
      )
      expect(modes.rows).toEqual([{ ro: 'on', level: 'repeatable read' }])
      expect((await client.query("INSERT INTO t (v) VALUES ('dry')")).rowCount).toBe(1)
      expect((await client.query('COMMIT')).command).toBe('COMMIT')
      expect((await client.query("SELECT current_setting('transaction_read_only') AS ro")).rows).toEqual([{ ro: 'on' }])
    })
    expect(await rows()).toEqual(['a', 'b'])
    expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
  })

  it('stays dry when the context is lost, until it ends', async () => {
    await dry(() => client.query('BEGIN'))
    expect(guard.run()).toBeUndefined()
    await client.query("INSERT INTO t (v) VALUES ('lost')")
    await client.query('COMMIT')
    expect(await rows()).toEqual(['a', 'b'])
    await client.query("INSERT INTO t (v) VALUES ('live')")
    expect(await rows()).toEqual(['a', 'b', 'live'])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['blocked'])
  })

  it('fails as a live one does, and recovers at a savepoint', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      await client.query('SAVEPOINT s')
      expect(await code(client.query("INSERT INTO t (v) VALUES ('a')"))).toBe('23505')
      expect(await code(client.query('SELECT 1'))).toBe('25P02')
      expect(await code(client.query('DELETE FROM t'))).toBe('25P02')
      expect(await code(client.query('ROLLBACK TO SAVEPOINT s'))).toBe('ok')
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
      expect(await code(client.query('UPDATE t SET nope = 1'))).toBe('42703')
      expect((await client.query('COMMIT')).command).toBe('ROLLBACK')
      expect(await code(client.query('SELECT 1'))).toBe('ok')
    })
  })

  it('survives a query that turns out to write', async () => {
    await observer.query(
      "CREATE OR REPLACE FUNCTION w() RETURNS int LANGUAGE sql AS 'INSERT INTO t (v) VALUES (clock_timestamp()::text) RETURNING id'",
    )
    await dry(async () => {
      await client.query('BEGIN')
      expect((await client.query('SELECT w()')).rowCount).toBe(1)
      expect((await client.query('SELECT count(*)::int AS n FROM t')).rows).toEqual([{ n: 2 }])
      await client.query('COMMIT')
    })
    expect(await rows()).toEqual(['a', 'b'])
  })

  it('that is left open takes its connection out of the pool', async () => {
    const pool: Pool = new pg.Pool({ connectionString: server.url, max: 1 })
    try {
      await dry(async () => {
        const held = await pool.connect()
        await held.query('BEGIN')
        held.release()
      })
      await pool.query("INSERT INTO t (v) VALUES ('next caller')")
      expect(await rows()).toEqual(['a', 'b', 'next caller'])
    } finally {
      await pool.end()
    }
  })
})

describe('a dry statement inside a live transaction', () => {
  it('leaves it as it was', async () => {
    await client.query('BEGIN')
    await client.query("INSERT INTO t (v) VALUES ('live 1')")
    await dry(async () => {
      expect((await client.query('SELECT count(*)::int AS n FROM t')).rows).toEqual([{ n: 3 }])
      expect((await client.query("INSERT INTO t (v) VALUES ('dry') RETURNING v")).rows).toEqual([{ v: 'dry' }])
      // Three rows of the live transaction and the run's own.
      expect((await client.query("UPDATE t SET v = v || '!'")).rowCount).toBe(4)
      expect(await code(client.query("INSERT INTO t (v) VALUES ('live 1!')"))).toBe('23505')
      expect(await code(client.query('SELECT * FROM nowhere'))).toBe('42P01')
      expect(await code(client.query('UPDATE nowhere SET a = 1'))).toBe('42P01')
      expect(await code(client.query("SELECT 'x'::int"))).toBe('22P02')
      expect(await code(client.query('SET search_path = pg_catalog; SELECT 1'))).toBe('ok')
      expect(await code(client.query('SAVEPOINT dry_one'))).toBe('ok')
      expect(await code(client.query('COMMIT'))).toBe('DRY_BLOCKED')
      expect(await code(client.query('ROLLBACK'))).toBe('DRY_BLOCKED')
    })
    expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await client.query("INSERT INTO t (v) VALUES ('live 2')")
    expect((await client.query('COMMIT')).command).toBe('COMMIT')
    expect(await rows()).toEqual(['a', 'b', 'live 1', 'live 2'])
  })
})

describe('contexts', () => {
  it('a connection born in a dry run is live for live callers, in callback style too', async () => {
    const pool: Pool = new pg.Pool({ connectionString: server.url, max: 1 })
    try {
      await dry(() => pool.query("INSERT INTO t (v) VALUES ('dry')"))
      const seen = await new Promise((resolve, reject) => {
        pool.query("INSERT INTO t (v) VALUES ('live 1')", (error) => {
          if (error) return reject(error)
          const inside = guard.run()
          pool.connect((failed, client, release) => {
            if (failed || !client) return reject(failed)
            client.query("INSERT INTO t (v) VALUES ('live 2')", (error2: Error | undefined) => {
              release()
              if (error2) return reject(error2)
              resolve([inside, guard.run()])
            })
          })
        })
      })
      expect(seen).toEqual([undefined, undefined])
      expect(await rows()).toEqual(['a', 'b', 'live 1', 'live 2'])
    } finally {
      await pool.end()
    }
  })

  it('callbacks and events of a dry query are dry on a connection that live code opened', async () => {
    const runs = await dry(
      () =>
        new Promise<unknown[]>((resolve, reject) => {
          const own = guard.run()
          client.query('SELECT 1', (error: Error | null) => {
            if (error) return reject(error)
            const inCallback = guard.run() === own
            const query = client.query(new pg.Query('SELECT 2 AS two'))
            const inRow: boolean[] = []
            query.on('row', () => inRow.push(guard.run() === own))
            query.on('error', reject)
            query.on('end', () => resolve([inCallback, ...inRow, guard.run() === own]))
          })
        }),
    )
    expect(runs).toEqual([true, true, true])
  })

  it('live and dry statements queued on one client keep their order and their kind', async () => {
    const calls: Promise<unknown>[] = []
    for (let n = 0; n < 30; n++) {
      const insert = () => client.query('INSERT INTO t (v) VALUES ($1) RETURNING v', [`${n % 2 ? 'live' : 'dry'} ${n}`])
      calls.push(n % 2 ? insert() : dry(insert))
    }
    const results = (await Promise.all(calls)) as { rows: { v: string }[] }[]
    expect(results.map((result) => result.rows[0]?.v)).toEqual(
      Array.from({ length: 30 }, (_, n) => `${n % 2 ? 'live' : 'dry'} ${n}`),
    )
    expect((await rows()).filter((v) => v.startsWith('dry'))).toEqual([])
    expect((await rows()).filter((v) => v.startsWith('live'))).toHaveLength(15)
  })

  it('named statements that a dry run prepared work live, and the other way round', async () => {
    const read = { name: 'by_id', text: 'SELECT v FROM t WHERE id = $1', values: [1] }
    const write = { name: 'put', text: 'UPDATE t SET v = $1 WHERE id = 1', values: ['changed'] }
    expect((await dry(() => client.query(read))).rows).toEqual([{ v: 'a' }])
    expect((await client.query(read)).rows).toEqual([{ v: 'a' }])
    expect((await dry(() => client.query(write))).rowCount).toBe(1)
    expect(await rows()).toEqual(['a', 'b'])
    expect((await client.query(write)).rowCount).toBe(1)
    expect((await dry(() => client.query({ ...write, values: ['dry'] }))).rowCount).toBe(1)
    expect(await dry(() => client.query({ name: 'put', values: ['dry'] } as never))).toMatchObject({ rowCount: 1 })
    expect(await rows()).toEqual(['b', 'changed'])
    expect(await code(dry(() => client.query({ name: 'put', text: 'SELECT 1' })))).toBeUndefined()
    expect(await code(dry(() => client.query({ ...read, name: 'bad', text: 'SELECT nope' })))).toBe('42703')
    expect((await client.query({ name: 'bad', text: 'SELECT 1 AS one' })).rows).toEqual([{ one: 1 }])
  })
})

it('a lost connection is an error for its caller and nobody else', async () => {
  const pool: Pool = new pg.Pool({ connectionString: server.url, max: 2 })
  pool.on('error', () => undefined)
  try {
    const sleeping = dry(() => pool.query("SELECT pg_sleep(20), 'drytrace victim'")).then(
      () => 'ok',
      (error: { code?: string }) => error.code,
    )
    let killed = 0
    while (killed === 0) {
      const { rowCount } = await observer.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%drytrace victim%' AND pid <> pg_backend_pid() AND state = 'active'",
      )
      killed = rowCount ?? 0
    }
    expect(await sleeping).toBe('57P01')
    expect((await pool.query("INSERT INTO t (v) VALUES ('after')")).rowCount).toBe(1)
    expect((await dry(() => pool.query('SELECT count(*)::int AS n FROM t'))).rows).toEqual([{ n: 3 }])
  } finally {
    await pool.end()
  }
})
