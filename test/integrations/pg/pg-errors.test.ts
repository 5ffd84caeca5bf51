import type { DatabaseError } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, takeEffects, failJournal } = guardPg()

postgresWorld(`CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE t (id serial PRIMARY KEY, email varchar(10) UNIQUE, n int NOT NULL CHECK (n > 0), small smallint, p positive, j jsonb, always int GENERATED ALWAYS AS IDENTITY);
    INSERT INTO t (email, n) VALUES ('a@x', 1), ('b@x', 2)`)

beforeEach(() => {
  takeEffects()
})

const caught = async (promise: Promise<unknown>): Promise<DatabaseError | undefined> => {
  try {
    await promise
    return undefined
  } catch (error) {
    return error as DatabaseError
  }
}

describe('an error is the one the server would have raised', () => {
  it.each<[string, unknown[]?]>([
    ['SELEC 1'],
    ['SELECT 1 +'],
    ['SELECT * FROM nowhere'],
    ['SELECT nope FROM t'],
    ['SELECT 1 / 0'],
    ['SELECT $1::int', ['x']],
    ['UPDATE nowhere SET a = 1'],
    ['UPDATE t SET nope = 1'],
    ['UPDATE t SET n = true'],
    ['UPDATE t SET n = $1', ['abc']],
    ['UPDATE t SET n = n / 0'],
    ['UPDATE t SET n = -1'],
    ['UPDATE t SET n = NULL'],
    ['UPDATE t SET small = 100000'],
    ['UPDATE t SET p = -1'],
    ["UPDATE t SET j = '{' WHERE id = 1"],
    ["UPDATE t SET email = 'b@x' WHERE id = 1"],
    ["INSERT INTO t (email, n) VALUES ('a@x', 5)"],
    ["INSERT INTO t (email, n) VALUES ('far too long', 5)"],
    ["INSERT INTO t (email) VALUES ('c@x')"],
    ['INSERT INTO t (n, always) VALUES (1, 1)'],
    ['INSERT INTO t (n) VALUES (1, 2)'],
    ['INSERT INTO t (n) SELECT $1', ['y']],
    ['DELETE FROM t WHERE id = ANY($1)', [['x']]],
    ['SELECT $1::int; DELETE FROM t', [1]],
    ['INSERT INTO t (n) VALUES (1) ON CONFLICT (n) DO NOTHING'],
  ])('%s %j', async (text, values) => {
    const real = await caught(live.query(text, values))
    const simulated = await caught(dry(() => client.query(text, values)))
    expect(real?.code).toMatch(/^[0-9A-Z]{5}$/)
    const fields = ({ code, message, severity, constraint, column, table }: DatabaseError) => ({
      code,
      message,
      severity,
      constraint,
      column,
      table,
    })
    expect(fields(simulated as DatabaseError)).toEqual(fields(real as DatabaseError))
    expect(simulated).toBeInstanceOf(pg.DatabaseError)
    expect((await dry(() => client.query('SELECT 1 AS one'))).rows).toEqual([{ one: 1 }])
    for (const { outcome, preview } of takeEffects().filter(({ effect }) => effect === 'write')) {
      expect([outcome, preview?.rows ?? 0]).toEqual(['blocked', 0])
    }
  })

  it('tells which key is taken', async () => {
    const text = "INSERT INTO t (email, n) VALUES ('a@x', 5)"
    const real = await caught(live.query(text))
    expect((await caught(dry(() => client.query(text))))?.detail).toBe(real?.detail)
  })

  it('arrives in the style of the call', async () => {
    const text = "INSERT INTO t (email, n) VALUES ('a@x', 5)"
    const byCallback = await dry(
      () => new Promise((resolve) => client.query(text, (error: Error) => resolve((error as DatabaseError).code))),
    )
    const byEvent = await dry(
      () =>
        new Promise((resolve) =>
          client.query(new pg.Query(text)).on('error', (error) => resolve((error as DatabaseError).code)),
        ),
    )
    expect([byCallback, byEvent]).toEqual(['23505', '23505'])
  })
})

describe('errors of our own block', () => {
  it('nothing is executed or answered when the journal cannot be written', async () => {
    await dry(async () => {
      failJournal(Object.assign(new Error('disk full'), { code: 'ENOSPC' }))
      try {
        for (const text of [
          "INSERT INTO t (email, n) VALUES ('j@x', 1)",
          'SELECT * FROM t',
          'CREATE TABLE j (a int)',
        ]) {
          expect(await caught(client.query(text))).toMatchObject({ message: expect.stringContaining('disk full') })
        }
      } finally {
        failJournal(undefined)
      }
    })
    expect((await live.query('SELECT count(*)::int AS n FROM t')).rows).toEqual([{ n: 2 }])
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  })

  it('a parameter that cannot be sent leaves a live transaction as it was', async () => {
    const circular: Record<string, unknown> = {}
    circular['self'] = circular
    const broken = {
      toPostgres: () => {
        throw new Error('broken parameter')
      },
    }
    await client.query('BEGIN')
    for (const value of [circular, broken]) {
      for (const text of ['SELECT $1::text', 'UPDATE t SET email = $1', 'SELECT pg_backend_pid() > $1']) {
        expect((await caught(dry(() => client.query(text, [value]))))?.message).toMatch(/circular|broken parameter/)
      }
    }
    expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await client.query("INSERT INTO t (email, n) VALUES ('live@x', 9)")
    await client.query('COMMIT')
    expect((await live.query("DELETE FROM t WHERE email = 'live@x'")).rowCount).toBe(1)
  })

  it('a query whose text is changed after it was judged is not sent', async () => {
    const query = new pg.Query("SET application_name = 'x'")
    const done = new Promise((resolve) => query.on('error', resolve).on('end', resolve))
    const busy = client.query('SELECT pg_sleep(0.05)')
    dry(() => client.query(query))
    ;(query as unknown as { text: string }).text = 'DELETE FROM t'
    await busy
    expect(await done).toMatchObject({ code: 'DRY_BLOCKED' })
    expect((await live.query('SELECT count(*)::int AS n FROM t')).rows).toEqual([{ n: 2 }])
  })

  it('a text nobody can judge is not sent', async () => {
    const long = `UPDATE t SET email = 'x' /* ${'x'.repeat(300_000)} */`
    expect(await caught(dry(() => client.query(long)))).toMatchObject({ code: 'DRY_GUARD_FAILED' })
    expect((await live.query("SELECT count(*)::int AS n FROM t WHERE email = 'x'")).rows).toEqual([{ n: 0 }])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['failed'])
  })

  it('backslashes that may be escapes make a connection unreadable', async () => {
    const odd = new pg.Client(server.url)
    await odd.connect()
    await odd.query('SET standard_conforming_strings = off')
    expect(await caught(dry(() => odd.query("SELECT 'a\\'; DELETE FROM t; --'")))).toMatchObject({
      code: 'DRY_BLOCKED',
    })
    await odd.query('SET standard_conforming_strings = on')
    expect((await dry(() => odd.query("SELECT 'a' AS a"))).rows).toEqual([{ a: 'a' }])
    await odd.end()
  })
})

it("a query timeout is the driver's own", async () => {
  const slow = new pg.Client({ connectionString: server.url, query_timeout: 300 })
  await slow.connect()
  const error = await caught(dry(() => slow.query('SELECT pg_sleep(1)')))
  expect(error?.message).toBe('Query read timeout')
  expect((await dry(() => slow.query('SELECT 1 AS one')).catch(() => ({ rows: [] }))).rows.length).toBeLessThan(2)
  await slow.end()
})
