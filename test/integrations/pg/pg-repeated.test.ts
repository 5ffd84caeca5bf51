import type { Client } from 'pg'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { live, observedPostgres, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, guard, takeEffects, takeProblems, failJournal } = guardPg()

let client: Client
let roundTrips = 0

observedPostgres()

afterAll(async () => {
  await client?.end()
})

beforeEach(async () => {
  // A test that failed inside a transaction holds locks.
  await client?.end()
  await live.query(`
    DROP SCHEMA IF EXISTS app, tenant CASCADE;
    CREATE SCHEMA app; CREATE SCHEMA tenant;
    CREATE TABLE app.item (id serial PRIMARY KEY, code text UNIQUE NOT NULL, qty int NOT NULL DEFAULT 1);
    CREATE TABLE app.note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL REFERENCES app.item, body text);
    CREATE TABLE app.other (id int PRIMARY KEY, name text);
    CREATE TABLE tenant.item (id serial PRIMARY KEY, code text UNIQUE NOT NULL, qty int NOT NULL DEFAULT 7);
    CREATE TABLE tenant.other (id int PRIMARY KEY, name text);
    INSERT INTO app.item (code) VALUES ('a'), ('b');
    INSERT INTO app.other VALUES (1, 'one');
    INSERT INTO tenant.item (code) VALUES ('t');
    INSERT INTO tenant.other VALUES (1, 'eins');
    CREATE FUNCTION app.run(command text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE command; END';
  `)
  client = new pg.Client(server.url)
  await client.connect()
  await client.query('SET search_path = app, public')
  client.connection.on('readyForQuery', () => {
    roundTrips += 1
  })
  takeEffects()
  takeProblems()
})

/** As another process would: the command tag says only SELECT. */
const behindOurBack = (command: string) => guard.root(() => live.query('SELECT app.run($1)', [command]))

async function tripsOf(statement: () => Promise<unknown>): Promise<number> {
  const before = roundTrips
  await statement()
  return roundTrips - before
}

const insertItem = (code: string) => client.query('INSERT INTO item (code) VALUES ($1) RETURNING *', [code])
const insertNote = (body: string) =>
  client.query('INSERT INTO note (item, body) VALUES ($1, $2) RETURNING id', [1, body])
const update = () => client.query('UPDATE item SET qty = qty + 1 WHERE id = $1 RETURNING qty', [1])
const readItem = () => client.query('SELECT * FROM item WHERE id = $1', [1])
const readOther = () => client.query('SELECT name FROM other WHERE id = $1', [1])

interface KeptRow {
  readonly statement: string
  readonly plans: number
}
const kept = async () =>
  (
    await guard.root(() =>
      client.query<KeptRow>(
        `SELECT statement, (generic_plans + custom_plans)::int AS plans FROM pg_prepared_statements WHERE name LIKE 'drytrace%'`,
      ),
    )
  ).rows

describe('what comes again takes one round trip', () => {
  it('a read, of any table, whatever the run has written', () =>
    dry(async () => {
      await readOther()
      expect(await tripsOf(readOther)).toBe(1)
      await update()
      await readOther()
      expect(await tripsOf(readOther)).toBe(1)
      await readItem()
      expect(await tripsOf(readItem)).toBe(1)
      await update()
      expect((await readItem()).rows[0].qty).toBe(3)
    }))

  it('a blocked write, and it sees the writes before it', async () => {
    await dry(async () => {
      await insertNote('first')
      await insertNote('second')
      expect(await tripsOf(() => insertNote('third'))).toBe(1)
      for (let i = 0; i < 2; i += 1) await update()
      let row: { qty: number } | undefined
      expect(await tripsOf(async () => (row = (await update()).rows[0]))).toBe(1)
      expect(row?.qty).toBe(4)
    })
    const notes = takeEffects().filter(({ target }) => target === 'note')
    const bodies = notes.map(({ preview }) => preview?.diff.find(({ field }) => field === 'body')?.after)
    expect(bodies).toEqual(['first', 'second', 'third'])
    expect(new Set(notes.flatMap(({ syntheticIds }) => syntheticIds)).size).toBe(3)
    expect(
      (await live.query('SELECT (SELECT count(*) FROM app.note) n, (SELECT sum(qty) FROM app.item) q')).rows,
    ).toEqual([{ n: '0', q: '2' }])
  })

  it('in another run too, with ids of its own', async () => {
    const ids: unknown[] = []
    for (let i = 0; i < 3; i += 1) await dry(async () => ids.push((await insertNote('x')).rows[0].id))
    expect(await dry(() => tripsOf(async () => ids.push((await insertNote('y')).rows[0].id)))).toBe(1)
    expect(new Set(ids).size).toBe(4)
  })

  it('in a transaction of the application too', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      for (let i = 0; i < 2; i += 1) {
        await insertNote('x')
        await update()
        await readItem()
      }
      expect(await tripsOf(() => insertNote('y'))).toBe(1)
      expect(await tripsOf(update)).toBe(1)
      let row: { qty: number } | undefined
      expect(await tripsOf(async () => (row = (await readItem()).rows[0]))).toBe(1)
      expect(row?.qty).toBe(4)
      await client.query('ROLLBACK')
      expect((await readItem()).rows[0].qty).toBe(1)
    })
    expect((await live.query('SELECT count(*)::int AS n FROM app.note')).rows).toEqual([{ n: 0 }])
  })

  it('a duplicate is found among the rows of the run as among the real ones', () =>
    dry(async () => {
      for (const code of ['x', 'y', 'z']) await insertItem(code)
      await expect(insertItem('y')).rejects.toMatchObject({ code: '23505' })
      await expect(insertItem('a')).rejects.toMatchObject({ code: '23505' })
    }))
})

describe('what has changed meanwhile is noticed', () => {
  const warmUp = async () => {
    for (const code of ['x', 'y']) await insertItem(code)
    for (let i = 0; i < 2; i += 1) await readItem()
    for (let i = 0; i < 2; i += 1) await readOther()
  }
  const inAnotherRun = <T>(fn: () => Promise<T>) => dry(fn)

  it('a column that came, by whatever way', async () => {
    await inAnotherRun(warmUp)
    await behindOurBack(`ALTER TABLE app.item ADD place text DEFAULT 'here'`)
    const { rows } = await inAnotherRun(() => insertItem('z'))
    expect(rows[0]).toMatchObject({ code: 'z', qty: 1, place: 'here' })
  })

  it('a column that came to a table without RETURNING', async () => {
    const insert = () => client.query(`INSERT INTO other VALUES (2, 'two')`)
    for (let i = 0; i < 3; i += 1) await inAnotherRun(insert)
    takeEffects()
    await behindOurBack(`ALTER TABLE app.other ADD place text DEFAULT 'here'`)
    await inAnotherRun(insert)
    expect(takeEffects()[0]?.preview?.diff.map(({ field }) => field)).toEqual(['id', 'name', 'place'])
  })

  it('a column that went or has another type', async () => {
    await inAnotherRun(warmUp)
    await behindOurBack('ALTER TABLE app.item ALTER qty TYPE text')
    expect((await inAnotherRun(() => insertItem('z'))).rows[0].qty).toBe('1')
    await behindOurBack('ALTER TABLE app.item DROP code')
    await expect(inAnotherRun(() => insertItem('z'))).rejects.toMatchObject({ code: '42703' })
  })

  it('a table that went and came back', async () => {
    await inAnotherRun(warmUp)
    await behindOurBack('DROP TABLE app.item CASCADE')
    await expect(inAnotherRun(() => insertItem('z'))).rejects.toMatchObject({ code: '42P01' })
    await behindOurBack(
      'CREATE TABLE app.item (id serial PRIMARY KEY, code text UNIQUE NOT NULL, qty int NOT NULL DEFAULT 5)',
    )
    expect((await inAnotherRun(() => insertItem('a'))).rows[0]).toMatchObject({ code: 'a', qty: 5 })
  })

  it('a column of a table the run has written to, when it is read', () =>
    dry(async () => {
      await update()
      for (let i = 0; i < 2; i += 1) await readItem()
      await behindOurBack(`ALTER TABLE app.item ADD place text DEFAULT 'here'`)
      expect((await readItem()).rows[0]).toMatchObject({ place: 'here' })
      expect(takeProblems().map(({ message }) => message)).toEqual([expect.stringMatching(/not overlaid/)])
    }))

  it('names that mean something else, inside a transaction, which goes on', async () => {
    await live.query(
      `CREATE FUNCTION app.go(path text) RETURNS text LANGUAGE sql AS $$SELECT set_config('search_path', path, true)$$`,
    )
    await inAnotherRun(warmUp)
    await inAnotherRun(async () => {
      const qty = async () => (await update()).rows[0].qty
      await client.query('BEGIN')
      expect([await qty(), await qty()]).toEqual([2, 3])
      await client.query('SAVEPOINT here')
      await client.query(`SET LOCAL search_path = tenant`)
      expect([await qty(), await qty()]).toEqual([8, 9])
      await client.query('ROLLBACK TO SAVEPOINT here')
      expect([await qty(), await qty()]).toEqual([4, 5])
      // A read like any other, as far as its text tells.
      await client.query(`SELECT app.go('tenant')`)
      expect([await qty(), await qty()]).toEqual([8, 9])
      expect((await readItem()).rows[0]).toMatchObject({ code: 't', qty: 9 })
      await client.query('COMMIT')
      expect((await readItem()).rows[0]).toMatchObject({ code: 'a', qty: 5 })
    })
    expect((await live.query('SELECT sum(qty)::int AS n FROM app.item')).rows).toEqual([{ n: 2 }])
  })

  it('statements of ours that are gone, inside a transaction, which goes on', async () => {
    for (let i = 0; i < 2; i += 1) await inAnotherRun(warmUp)
    await inAnotherRun(async () => {
      await client.query('BEGIN')
      for (let i = 0; i < 4; i += 1) await update()
      expect((await kept()).length).toBeGreaterThan(1)
      await client.query('DEALLOCATE ALL')
      expect(await kept()).toEqual([])
      expect((await update()).rows[0].qty).toBe(6)
      expect((await update()).rows[0].qty).toBe(7)
      await client.query('COMMIT')
    })
  })

  it('a default that live code of this process changes', async () => {
    await inAnotherRun(warmUp)
    await live.query('ALTER TABLE app.item ALTER qty SET DEFAULT 9')
    expect((await inAnotherRun(() => insertItem('z'))).rows[0].qty).toBe(9)
  })

  it('names that mean something else, after live code has set the search path', async () => {
    await inAnotherRun(warmUp)
    await client.query(`SELECT set_config('search_path', 'tenant', false)`)
    expect((await inAnotherRun(() => insertItem('z'))).rows[0].qty).toBe(7)
    takeEffects()
    await inAnotherRun(async () => {
      await update()
      await readOther()
      await readOther()
      expect((await readItem()).rows[0]).toMatchObject({ code: 't', qty: 8 })
    })
    await client.query(`SELECT set_config('search_path', 'app', false)`)
    await inAnotherRun(async () => {
      await update()
      expect((await readItem()).rows[0]).toMatchObject({ code: 'a', qty: 2 })
      expect((await readOther()).rows).toEqual([{ name: 'one' }])
    })
  })

  it('nothing is taken for granted behind a pooler, which may serve each round trip by another session', async () => {
    // What PgBouncer tells a client is no process of the server.
    Object.assign(client, { processID: 1 })
    await dry(async () => {
      await update()
      for (let i = 0; i < 3; i += 1) expect((await readOther()).rows).toEqual([{ name: 'one' }])
      expect(await tripsOf(readOther)).toBeGreaterThan(1)
      await insertItem('x')
      expect(await tripsOf(() => insertItem('y'))).toBeGreaterThan(1)
    })
  })

  it('a name that has come to mean a table the run has written to', () =>
    dry(async () => {
      await client.query('UPDATE tenant.item SET qty = 70')
      const count = () => client.query('SELECT sum(qty)::int AS n FROM item')
      for (let i = 0; i < 3; i += 1) expect((await count()).rows).toEqual([{ n: 2 }])
      expect(await tripsOf(count)).toBe(1)
      await guard.root(() => client.query(`SELECT set_config('search_path', 'tenant', false)`))
      expect((await count()).rows).toEqual([{ n: 70 }])
    }))

  it('and what the application does wrong stays its own error', () =>
    dry(async () => {
      await update()
      const divide = (by: number) => client.query('SELECT 1 / $1::int AS n FROM other', [by])
      for (let i = 0; i < 2; i += 1) await divide(1)
      await expect(divide(0)).rejects.toMatchObject({ code: '22012' })
      expect((await divide(1)).rows).toEqual([{ n: 1 }])
      await client.query('BEGIN')
      await divide(1)
      await expect(divide(0)).rejects.toMatchObject({ code: '22012' })
      await expect(divide(1)).rejects.toMatchObject({ code: '25P02' })
      await client.query('ROLLBACK')
    }))
})

describe('what a blocked write is worked out with is planned once per connection', () => {
  const previews = async () => (await kept()).filter(({ statement }) => statement.includes('old__'))

  it('however many runs repeat it, and whatever ids they make up', async () => {
    const ids: unknown[] = []
    for (let i = 0; i < 8; i += 1) {
      await dry(async () => {
        for (const body of ['a', 'b', 'c']) ids.push((await insertNote(body)).rows[0].id)
      })
    }
    expect(new Set(ids).size).toBe(24)
    // The first of a run sees real rows only, the others also those of the run.
    expect((await previews()).map(({ plans }) => plans)).toEqual([expect.any(Number), expect.any(Number)])
    expect((await previews()).reduce((sum, { plans }) => sum + plans, 0)).toBeGreaterThan(18)
  })

  it('also after live code has dropped all prepared statements', async () => {
    for (const drop of [`SELECT app.run('DEALLOCATE ALL')`, 'DISCARD ALL', 'DEALLOCATE ALL']) {
      await dry(async () => {
        for (const body of ['a', 'b', 'c']) await insertNote(body)
      })
      expect((await previews()).length).toBeGreaterThan(0)
      await client.query(drop)
      await client.query('SET search_path = app, public')
      expect(await previews()).toEqual([])
      const rows = await dry(async () => [...(await insertNote('d')).rows, ...(await insertNote('e')).rows])
      expect(rows).toEqual([{ id: expect.any(String) }, { id: expect.any(String) }])
    }
    await client.query(`INSERT INTO note (item, body) VALUES (1, 'live')`)
    expect((await live.query('SELECT body FROM app.note')).rows).toEqual([{ body: 'live' }])
  })

  it('and no more than fifty statements stay behind', async () => {
    await dry(async () => {
      for (let i = 0; i < 60; i += 1) {
        for (let j = 0; j < 2; j += 1) await client.query(`UPDATE item SET qty = qty + ${i} WHERE id = $1`, [1])
      }
    })
    expect((await kept()).length).toBeLessThanOrEqual(50)
    expect((await kept()).length).toBeGreaterThan(40)
  })

  it('while a write of more ids than a statement takes parameters for is planned each time', async () => {
    const many = () =>
      client.query(
        `INSERT INTO note (item, body) SELECT 1, 'n' FROM generate_series(1, 300) UNION ALL VALUES (1, 'n') RETURNING id`,
      )
    const listed = () =>
      client.query(
        `INSERT INTO item (code) VALUES ${Array.from({ length: 150 }, (_, i) => `('k${i}')`).join()} RETURNING id`,
      )
    for (const insert of [many, listed]) {
      const ids = []
      for (let i = 0; i < 3; i += 1) ids.push(...(await dry(insert)).rows.map(({ id }) => id))
      expect(new Set(ids).size).toBe(insert === many ? 903 : 450)
    }
  })
})

describe('a read that cannot be written down', () => {
  it('gives its caller the error, not the rows, and the connection back', async () => {
    await dry(async () => {
      await readOther()
      failJournal(new Error('disk full'))
      await expect(readOther()).rejects.toThrow('disk full')
      failJournal(undefined)
      expect((await readOther()).rows).toEqual([{ name: 'one' }])
    })
    expect((await client.query(`INSERT INTO other VALUES (5, 'five')`)).rowCount).toBe(1)
  })
})
