import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld, server } from '../../support/postgres-world.js'
import { ALLOW_PAGE_VIEWS, guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

const { pg, dry, guard, takeEffects, takeProblems } = guardPg({
  rules: [ALLOW_PAGE_VIEWS],
})

postgresWorld(`
    CREATE EXTENSION pg_walinspect;
    CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 25) n;
    CREATE TABLE audit (what text);
    CREATE TABLE page_views (n int);
    CREATE FUNCTION write_it(x text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (x); RETURN x; END $$;
    CREATE FUNCTION write_late(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF n > 7 THEN INSERT INTO audit VALUES ('late'); END IF; RETURN n; END $$;
  `)

const unchanged = leavesUnchanged(['item', 'audit', 'page_views'])

beforeEach(() => {
  takeEffects()
  takeProblems()
})

afterEach(async () => {
  // The connection goes back as it came, and live statements on it may write.
  expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
  expect((await client.query('SELECT count(*)::int AS n FROM pg_cursors')).rows).toEqual([{ n: 0 }])
})

const ids = (rows: { id: number }[]) => rows.map(({ id }) => id)

async function portions(cursor: Cursor, size: number): Promise<number[][]> {
  const all: number[][] = []
  for (;;) {
    const rows = await cursor.read(size)
    if (rows.length === 0) return all
    all.push(ids(rows))
  }
}

describe('pg-cursor', () => {
  it('reads in the portions it asks for, as live', async () => {
    const read = async () => {
      const cursor = client.query(new Cursor('SELECT id FROM item WHERE id <= $1 ORDER BY id', [7]))
      const all = await portions(cursor, 3)
      await cursor.close()
      return all
    }
    const expected = await read()
    expect(expected).toEqual([[1, 2, 3], [4, 5, 6], [7]])
    expect(await dry(read)).toEqual(expected)
    expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'read', target: 'item' }])
  })

  it('sees one READ ONLY transaction between its reads, and can be closed half way', async () => {
    await dry(async () => {
      const cursor = client.query(
        new Cursor("SELECT id, current_setting('transaction_read_only') AS mode FROM item ORDER BY id"),
      )
      expect(await cursor.read(1)).toEqual([{ id: 1, mode: 'on' }])
      expect(await cursor.read(1)).toEqual([{ id: 2, mode: 'on' }])
      await cursor.close()
      // Queued behind the cursor, as live.
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('may be closed before the first read, and while one is under way', async () => {
    await dry(async () => {
      const unread = client.query(new Cursor('SELECT id FROM item'))
      await unread.close()
      const busy = client.query(new Cursor('SELECT id FROM item ORDER BY id'))
      const [rows] = await Promise.all([busy.read(2), busy.close()])
      expect(ids(rows)).toEqual([1, 2])
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('calls back in the context of its run', async () => {
    await dry(async () => {
      const run = guard.run()
      const cursor = client.query(new Cursor('SELECT id FROM item ORDER BY id'))
      const seen = await new Promise((resolve) =>
        cursor.read(1, () => {
          const first = guard.run()
          cursor.read(1, () => {
            const second = guard.run()
            cursor.close(() => resolve([first, second, guard.run()]))
          })
        }),
      )
      expect(seen).toEqual([run, run, run])
    })
  })

  it('gives the errors of the server', async () => {
    await dry(async () => {
      const bad = client.query(new Cursor('SELECT nothing FROM item'))
      await expect(bad.read(1)).rejects.toMatchObject({ code: '42703' })
      const late = client.query(new Cursor('SELECT 10 / (5 - id) AS x FROM item ORDER BY id'))
      expect(await late.read(4)).toHaveLength(4)
      await expect(late.read(1)).rejects.toMatchObject({ code: '22012' })
      const several = client.query(new Cursor('SELECT 1; DELETE FROM item'))
      await expect(several.read(1)).rejects.toMatchObject({ code: '42601' })
    })
  })

  it('works in a dry transaction', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      const cursor = client.query(new Cursor('SELECT id FROM item ORDER BY id'))
      expect(ids(await cursor.read(2))).toEqual([1, 2])
      await cursor.close()
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
      const { command } = await client.query('COMMIT')
      expect(command).toBe('COMMIT')
    })
  })

  it('works behind a savepoint of a live transaction, which stays able to write', async () => {
    await client.query('BEGIN')
    await client.query("INSERT INTO item VALUES (100, 'live')")
    await dry(async () => {
      const cursor = client.query(new Cursor('SELECT id FROM item WHERE id >= 25 ORDER BY id'))
      expect(await portions(cursor, 1)).toEqual([[25], [100]])
      const left = client.query(new Cursor('SELECT id FROM item ORDER BY id'))
      await left.read(1)
      await left.close()
    })
    expect((await client.query("UPDATE item SET name = 'x' WHERE id = 100")).rowCount).toBe(1)
    await client.query('ROLLBACK')
    // Rolled back live, it has left a dead row and a transaction id.
    await live.query('VACUUM item')
    await unchanged.renew()
  })

  it("reads the run's own rows", async () => {
    await dry(async () => {
      await client.query("INSERT INTO item VALUES (26, 'mine')")
      await client.query('DELETE FROM item WHERE id = 24')
      const cursor = client.query(new Cursor('SELECT id, name FROM item WHERE id > $1 ORDER BY id', [22]))
      expect(await portions(cursor, 2)).toEqual([[23, 25], [26]])
      await cursor.close()
    })
    expect(takeProblems()).toEqual([])
  })
})

describe('a write through pg-cursor', () => {
  it('is simulated, its rows delivered in portions', async () => {
    await dry(async () => {
      const cursor = client.query(
        new Cursor("UPDATE item SET name = name || '!' WHERE id <= $1 RETURNING id, name", [5]),
      )
      expect(await cursor.read(2)).toEqual([
        { id: 1, name: 'item 1!' },
        { id: 2, name: 'item 2!' },
      ])
      expect(ids(await cursor.read(2))).toEqual([3, 4])
      expect(ids(await cursor.read(2))).toEqual([5])
      expect(await cursor.read(2)).toEqual([])
      await cursor.close()
      expect((await client.query('SELECT name FROM item WHERE id = 5')).rows).toEqual([{ name: 'item 5!' }])
    })
    expect(takeEffects()[0]).toMatchObject({ outcome: 'blocked', action: 'update', preview: { rows: 5 } })
  })

  it('has the command and count of the real one', async () => {
    const cursor = new Cursor("INSERT INTO item VALUES (30, 'a'), (31, 'b') RETURNING id")
    const result = await dry(async () => {
      const ended = new Promise<{ command: string; rowCount: number }>((resolve) => cursor.on('end', resolve as never))
      client.query(cursor)
      await cursor.read(10)
      return await ended
    })
    expect(result).toMatchObject({ command: 'INSERT', rowCount: 2 })
  })

  it('may be closed half way, and without a RETURNING clause', async () => {
    await dry(async () => {
      const cursor = client.query(new Cursor('DELETE FROM item RETURNING id'))
      expect(await cursor.read(1)).toHaveLength(1)
      await cursor.close()
      const silent = client.query(new Cursor("INSERT INTO item VALUES (40, 'x')"))
      expect(await silent.read(1)).toEqual([])
      await silent.close()
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('fails as live when it certainly would', async () => {
    await dry(async () => {
      const cursor = client.query(new Cursor("INSERT INTO item VALUES (1, 'again') RETURNING id"))
      await expect(cursor.read(1)).rejects.toMatchObject({ code: '23505' })
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('hidden in a function is found by the server, before the first row or after', async () => {
    await dry(async () => {
      const first = client.query(new Cursor("SELECT write_it('x') AS x"))
      expect(await first.read(5)).toHaveLength(1)
      await first.close()
      const late = client.query(new Cursor('SELECT write_late(id) AS n FROM item ORDER BY id'))
      expect(await late.read(5)).toHaveLength(5)
      await expect(late.read(5)).rejects.toMatchObject({ code: '25006' })
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
    expect(takeEffects().filter(({ effect, outcome }) => effect === 'write' && outcome === 'blocked')).toHaveLength(2)
  })

  it('that a rule allows happens', async () => {
    await dry(async () => {
      const cursor = client.query(new Cursor('INSERT INTO page_views VALUES (1) RETURNING n'))
      expect(await cursor.read(5)).toEqual([{ n: 1 }])
      await cursor.close()
    })
    expect((await live.query('SELECT n FROM page_views')).rows).toEqual([{ n: 1 }])
    await unchanged.renew()
  })
})

describe('pg-query-stream', () => {
  const read = async (text: string, values: unknown[] = [], batchSize = 4) => {
    const rows: { id: number }[] = []
    for await (const row of client.query(new QueryStream(text, values, { batchSize }))) rows.push(row)
    return ids(rows)
  }

  it('reads everything, as live', async () => {
    const text = 'SELECT id FROM item WHERE id > $1 ORDER BY id'
    expect(await dry(() => read(text, [10]))).toEqual(await read(text, [10]))
  })

  it('may be left half way', async () => {
    await dry(async () => {
      for await (const row of client.query(new QueryStream('SELECT id FROM item ORDER BY id'))) if (row.id === 3) break
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('simulates a write', async () => {
    const expected = Array.from({ length: 25 }, (_, index) => index + 1)
    expect((await dry(() => read('DELETE FROM item RETURNING id'))).sort((a, b) => a - b)).toEqual(expected)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', action: 'delete', preview: { rows: 25 } }])
  })

  it('emits what goes wrong', async () => {
    await expect(dry(() => read('SELECT id FROM nowhere'))).rejects.toMatchObject({ code: '42P01' })
  })
})

describe('a pool', () => {
  it('hands a connection on after a cursor, whoever comes next', async () => {
    const pool = new pg.Pool({ connectionString: server.url, max: 1 })
    const read = async () => {
      const one = await pool.connect()
      const cursor = one.query(new Cursor('SELECT id FROM item ORDER BY id'))
      const rows = await cursor.read(3)
      await cursor.close()
      one.release()
      return rows.length
    }
    const calls = Array.from({ length: 20 }, (_, n) => (n % 2 ? read() : dry(read)))
    expect(await Promise.all(calls)).toEqual(Array(20).fill(3))
    expect((await pool.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await pool.end()
  })

  it('loses its connection under a cursor like live', async () => {
    const lost = new pg.Client(server.url)
    lost.on('error', () => undefined)
    await lost.connect()
    const { rows } = await lost.query('SELECT pg_backend_pid() AS pid')
    await dry(async () => {
      const cursor = lost.query(new Cursor('SELECT id FROM item ORDER BY id'))
      await cursor.read(1)
      await guard.root(() => live.query('SELECT pg_terminate_backend($1)', [rows[0].pid]))
      await expect(cursor.read(1)).rejects.toThrow()
    })
  })
})

it('a custom object that queries by the simple protocol is guarded too', async () => {
  const handlers = { rows: [] as unknown[], tag: '' }
  await dry(
    () =>
      new Promise<void>((resolve, reject) => {
        client.query({
          text: "INSERT INTO item VALUES (50, 'x') RETURNING id",
          submit(this: { text: string }, connection: { query(text: string): void }) {
            connection.query(this.text)
          },
          handleRowDescription() {},
          handleDataRow: ({ fields }: { fields: unknown[] }) => handlers.rows.push(fields.map(String)),
          handleCommandComplete: ({ text }: { text: string }) => {
            handlers.tag = text
          },
          handleReadyForQuery: resolve,
          handleError: reject,
        } as never)
      }),
  )
  expect(handlers).toEqual({ rows: [['50']], tag: 'INSERT 0 1' })
})

it('an object that sends something else than it says is refused', async () => {
  const error = await dry(
    () =>
      new Promise<Error>((resolve) => {
        client.query({
          text: 'SELECT 1',
          submit: (connection: { query(text: string): void }) => connection.query("INSERT INTO item VALUES (60, 'x')"),
          handleReadyForQuery() {},
          handleError: resolve,
        } as never)
      }),
  )
  expect(error).toMatchObject({ code: 'DRY_BLOCKED' })
  expect(takeEffects().map(({ outcome }) => outcome)).toContain('failed')
})
