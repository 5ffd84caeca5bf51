import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Sql, TransactionSql } from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { code } from '../../support/error-code.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { guardPostgres } from './dry-postgres.js'

const { postgres, dry, guard, takeEffects, takeProblems, failJournal } = guardPostgres({
  rules: [
    {
      name: 'views',
      match: { system: 'postgresql', relation: 'views' },
      verdict: 'allow',
      owner: 'growth',
      reason: 'append-only counter',
      expires: '2999-01-01',
    },
  ],
})

let sql: Sql

observedPostgres(`
    CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE, n int CHECK (n >= 0) DEFAULT 0);
    CREATE TABLE child (t_id int REFERENCES t, body varchar(5) NOT NULL);
    CREATE TABLE views (page text);
    CREATE PROCEDURE reads(OUT n int) LANGUAGE plpgsql AS 'BEGIN SELECT count(*) INTO n FROM t; END';
    CREATE PROCEDURE puts(name text) LANGUAGE sql AS 'INSERT INTO t (v) VALUES (name)';
    CREATE FUNCTION w() RETURNS int LANGUAGE sql AS 'INSERT INTO t (v) VALUES (clock_timestamp()::text) RETURNING id';
  `)

beforeAll(() => {
  sql = postgres(server.url, { max: 3, onnotice() {} })
})

afterAll(async () => {
  await sql?.end({ timeout: 5 })
})

beforeEach(async () => {
  await observer.query("TRUNCATE t, child, views RESTART IDENTITY; INSERT INTO t (v) VALUES ('a'), ('b')")
  takeEffects()
  takeProblems()
})

const rows = async () => (await observer.query('SELECT v FROM t ORDER BY v')).rows.map(({ v }) => v)
const values = async (scope: Sql | TransactionSql = sql) =>
  (await scope`SELECT v FROM t ORDER BY v`.values()).flat() as string[]

describe('procedures', () => {
  it('are executed where they only read', async () => {
    await dry(async () => {
      expect([...(await sql`CALL reads(NULL)`)]).toEqual([{ n: 2 }])
      await sql`CALL puts('c')`
    })
    expect(await rows()).toEqual(['a', 'b'])
    expect(takeEffects().map(({ effect, outcome, target }) => [effect, outcome, target])).toEqual([
      ['read', 'allowed', 'reads'],
      ['read', 'allowed', 'puts'],
      ['write', 'blocked', 'puts'],
    ])
  })
})

describe('writes', () => {
  it('are blocked and previewed, with rows, tag and count', async () => {
    await dry(async () => {
      const inserted = await sql`INSERT INTO t ${sql([{ v: 'c' }, { v: 'd' }])} RETURNING v, n`
      expect([inserted.command, inserted.count, [...inserted]]).toEqual([
        'INSERT',
        2,
        [
          { v: 'c', n: 0 },
          { v: 'd', n: 0 },
        ],
      ])
      const updated = await sql`UPDATE t SET n = n + ${5} WHERE v IN ${sql(['a', 'c'])} RETURNING v, n`
      expect([...updated].sort((one, other) => one['v'].localeCompare(other['v']))).toEqual([
        { v: 'a', n: 5 },
        { v: 'c', n: 5 },
      ])
      const deleted = await sql`DELETE FROM t WHERE v = ${'b'}`
      expect([deleted.command, deleted.count, deleted.length]).toEqual(['DELETE', 1, 0])
      const [upserted] =
        await sql`INSERT INTO t (v, n) VALUES ('a', 1) ON CONFLICT (v) DO UPDATE SET n = t.n + 1 RETURNING n`
      expect(upserted).toEqual({ n: 6 })
      expect(await values()).toEqual(['a', 'c', 'd'])
    })
    expect(await rows()).toEqual(['a', 'b'])
    const writes = takeEffects().filter(({ effect }) => effect === 'write')
    expect(writes.map(({ outcome, action, target }) => [outcome, action, target])).toEqual([
      ['blocked', 'create', 't'],
      ['blocked', 'update', 't'],
      ['blocked', 'delete', 't'],
      ['blocked', 'upsert', 't'],
    ])
    expect(writes[1]?.preview?.diff).toContainEqual(
      expect.objectContaining({ field: 'n', before: 0, after: 5, key: 'id=1' }),
    )
  })

  it('fail as they would live, with a PostgresError', async () => {
    await dry(async () => {
      const error = await sql`INSERT INTO t (v) VALUES ('a')`.catch((cause: unknown) => cause)
      expect(error).toBeInstanceOf(postgres.PostgresError)
      expect(error).toMatchObject({ code: '23505', constraint_name: 't_v_key', table_name: 't', severity: 'ERROR' })
      expect(await code(sql`INSERT INTO child VALUES (1, ${'too long'})`)).toBe('22001')
      expect(await code(sql`INSERT INTO child VALUES (1, ${null})`)).toBe('23502')
      expect(await code(sql`UPDATE t SET n = -1`)).toBe('23514')
      expect(await code(sql`UPDATE t SET nope = 1`)).toBe('42703')
      expect(await code(sql`INSERT INTO nowhere VALUES (${1})`)).toBe('42P01')
      expect(await code(sql`SELEC ${1}`)).toBe('42601')
      expect(await code(sql.unsafe('DELETE FROM t WHERE v = $1; DELETE FROM t', ['a']))).toBe('42601')
    })
    expect(await rows()).toEqual(['a', 'b'])
    expect(takeEffects().filter(({ outcome }) => outcome === 'allowed' || outcome === 'unblocked')).toEqual([])
  })

  it('hand the guard its own errors as they are', async () => {
    const failure = Object.assign(new Error('disk full'), { code: 'DRY_JOURNAL' })
    await dry(async () => {
      await sql`SELECT 1`
      failJournal(failure)
      try {
        expect(await sql`DELETE FROM t`.catch((cause: unknown) => cause)).toBe(failure)
      } finally {
        failJournal(undefined)
      }
    })
    expect(await rows()).toEqual(['a', 'b'])
  })

  it('that a rule allows are executed, and nothing else with them', async () => {
    await dry(async () => {
      expect((await sql`INSERT INTO views VALUES (${'home'})`).count).toBe(1)
      await sql.unsafe("INSERT INTO views VALUES ('two'); INSERT INTO t (v) VALUES ('x')")
      expect(await code(sql.begin((tx) => tx`INSERT INTO views VALUES ('in a transaction')`))).toBe('DRY_BLOCKED')
      expect((await sql`SHOW default_transaction_read_only`)[0]).toEqual({ default_transaction_read_only: 'on' })
    })
    expect((await observer.query('SELECT page FROM views')).rows).toEqual([{ page: 'home' }, { page: 'two' }])
    expect(await rows()).toEqual(['a', 'b'])
  })

  it('through functions and COPY do not happen', async () => {
    await dry(async () => {
      expect(await sql`SELECT w()`).toHaveLength(1)
      const stream = await sql`COPY t (v) FROM STDIN (FORMAT csv, HEADER)`.writable()
      await pipeline(Readable.from(['v\n"x\n', 'y"\nz']), stream)
      expect(await code(sql`COPY nowhere FROM STDIN`.writable())).toBe('42P01')
      const given = await sql`COPY t (v) FROM STDIN`.writable()
      given.on('error', () => undefined)
      given.destroy(new Error('given up'))
      await new Promise((resolve) => given.on('close', resolve))
      expect(await code(sql`SELECT 1`)).toBe('ok')
    })
    expect(await rows()).toEqual(['a', 'b'])
    const copies = takeEffects().filter(({ summary }) => summary.startsWith('COPY'))
    expect(copies.map(({ outcome, preview }) => [outcome, preview?.rows])).toEqual([
      ['blocked', 2],
      ['blocked', undefined],
      ['failed', undefined],
    ])
  })
})

describe('transactions', () => {
  it('see their own writes, and take them back to a savepoint or altogether', async () => {
    await dry(async () => {
      const seen: string[][] = []
      const failed = sql.begin('isolation level repeatable read', async (tx) => {
        await tx`INSERT INTO t (v) VALUES ('c')`
        await tx
          .savepoint(async (inner) => {
            await inner`INSERT INTO t (v) VALUES ('d')`
            seen.push(await values(inner))
            throw new Error('undo')
          })
          .catch(() => undefined)
        await tx.savepoint('named', (inner) => inner`DELETE FROM t WHERE v = 'a'`)
        seen.push(await values(tx))
        const [modes] =
          await tx`SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS ro`
        expect(modes).toEqual({ level: 'repeatable read', ro: 'on' })
        throw new Error('all of it')
      })
      await expect(failed).rejects.toThrow('all of it')
      expect(seen).toEqual([
        ['a', 'b', 'c', 'd'],
        ['b', 'c'],
      ])
      expect(await values()).toEqual(['a', 'b'])
      const [, kept] = await sql.begin((tx) => [tx`INSERT INTO t (v) VALUES ('e')`, tx`SELECT v FROM t ORDER BY v`])
      expect(kept?.map(({ v }) => v)).toEqual(['a', 'b', 'e'])
      expect(await values()).toEqual(['a', 'b', 'e'])
    })
    expect(await rows()).toEqual(['a', 'b'])
  })

  it('fail as live ones do', async () => {
    const attempt = (v: string) =>
      sql.begin(async (tx) => {
        const first = await code(tx`INSERT INTO t (v) VALUES (${v})`)
        return [first, await code(tx`SELECT 1`)]
      })
    const dryCode = await dry(() => code(attempt('a')))
    expect(dryCode).toBe(await code(attempt('a')))
    expect(dryCode).toBe('23505')
    expect(await dry(() => code(sql.begin((tx) => tx.prepare('two'))))).toBe('ok')
    expect((await observer.query('SELECT count(*)::int AS n FROM pg_prepared_xacts')).rows).toEqual([{ n: 0 }])
  })

  it('stay dry when the context is lost', async () => {
    let lost: TransactionSql | undefined
    let release = () => {}
    const open = dry(() =>
      sql.begin(async (tx) => {
        lost = tx
        await new Promise<void>((resolve) => {
          release = resolve
        })
      }),
    )
    while (lost === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(guard.run()).toBeUndefined()
    await lost`INSERT INTO t (v) VALUES ('lost')`
    release()
    await open
    expect(await rows()).toEqual(['a', 'b'])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['blocked'])
  })

  it('of live code are not for a dry run', async () => {
    let tx: TransactionSql | undefined
    let release = () => {}
    const live = sql.begin(async (own) => {
      tx = own
      await own`INSERT INTO t (v) VALUES ('live')`
      await new Promise<void>((resolve) => {
        release = resolve
      })
    })
    while (tx === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
    const reserved = await sql.reserve()
    const own = tx
    await dry(async () => {
      expect(await code(own`INSERT INTO t (v) VALUES ('leak')`)).toBe('DRY_BLOCKED')
      expect(await code(own`SELECT 1`)).toBe('DRY_BLOCKED')
      expect(await code(own.savepoint((inner) => inner`SELECT 1`))).toBe('DRY_BLOCKED')
      expect(await code(own.file('/dev/null'))).toBe('DRY_BLOCKED')
      expect(await code(reserved`INSERT INTO t (v) VALUES ('leak')`)).toBe('DRY_BLOCKED')
      await sql.begin(async (dryTx) => {
        expect(await code(own`INSERT INTO t (v) VALUES ('leak')`)).toBe('DRY_BLOCKED')
        await dryTx.savepoint(async () => {
          expect(await code(own`INSERT INTO t (v) VALUES ('leak')`)).toBe('DRY_BLOCKED')
        })
      })
    })
    release()
    reserved.release()
    await live
    expect(await rows()).toEqual(['a', 'b', 'live'])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(Array(7).fill('failed'))
  })
})

describe('where a query is dry', () => {
  it('where it was made or where it is asked for', async () => {
    const madeDry = dry(() => ({ query: sql`INSERT INTO t (v) VALUES ('made dry')` })).query
    await madeDry
    const madeLive = sql`INSERT INTO t (v) VALUES ('made live')`
    await dry(async () => {
      await madeLive
    })
    expect(await rows()).toEqual(['a', 'b'])
    await sql`INSERT INTO t (v) VALUES ('live')`
    expect(await rows()).toEqual(['a', 'b', 'live'])
  })

  it('is not lifted by what the application does inside the library', async () => {
    let tx: TransactionSql | undefined
    let release = () => {}
    const live = sql.begin(async (own) => {
      tx = own
      await new Promise<void>((resolve) => {
        release = resolve
      })
    })
    while (tx === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
    const own = tx
    const chatty = postgres(server.url, {
      max: 1,
      onnotice() {},
      debug: (_connection, query) => {
        void own`INSERT INTO t (v) VALUES (${`by a live transaction ${Math.random()}`})`.catch(() => undefined)
        void sql`INSERT INTO t (v) VALUES (${`logged ${query.slice(0, 9)} ${Math.random()}`})`.catch(() => undefined)
      },
    })
    try {
      await dry(async () => {
        await chatty.begin(async (tx) => {
          await tx`SELECT ${1}::int`
          // The library calls `then` of what comes back.
          const later = new Promise(() => undefined)
          Reflect.set(later, 'then', (done: () => void) => sql`INSERT INTO t (v) VALUES ('then')`.then(done))
          return later
        })
        await new Promise((resolve) => setTimeout(resolve, 100))
      })
      release()
      await live
      expect(await rows()).toEqual(['a', 'b'])
    } finally {
      release()
      await chatty.end()
    }
  })

  it('callbacks run in the run, on whatever connection', async () => {
    const runs = await dry(async () => {
      const own = guard.run()
      const inside: boolean[] = []
      await sql`SELECT generate_series(1, 2)`.forEach(() => {
        inside.push(guard.run() === own)
      })
      await sql`SELECT generate_series(1, 2)`.cursor(2, () => {
        inside.push(guard.run() === own)
      })
      return inside
    })
    expect(runs).toEqual([true, true, true])
  })
})

describe('the rest of the surface', () => {
  it('LISTEN hears nothing, NOTIFY says nothing, replication is refused', async () => {
    const heard: string[] = []
    const live = await sql.listen('news', (payload) => heard.push(payload))
    await dry(async () => {
      let told = false
      const { unlisten } = await sql.listen(
        'news',
        (payload) => heard.push(`dry ${payload}`),
        () => {
          told = true
        },
      )
      expect(told).toBe(true)
      await sql.notify('news', 'from the dry run')
      await unlisten()
      expect(await code(sql.subscribe('*', () => undefined))).toBe('DRY_BLOCKED')
    })
    await sql.notify('news', 'from live code')
    for (let wait = 0; wait < 100 && heard.length === 0; wait++) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(heard).toEqual(['from live code'])
    await live.unlisten()
  })

  it('queries can be cancelled', async () => {
    await dry(async () => {
      const query = sql`SELECT pg_sleep(20)`
      setTimeout(() => query.cancel(), 200)
      expect(await code(query)).toBe('57014')
      expect(await code(sql`SELECT 1`)).toBe('ok')
    })
  })

  it('transforms and types of the application are at work', async () => {
    await observer.query('CREATE TABLE IF NOT EXISTS points (point_id int PRIMARY KEY, where_at point)')
    const camel = postgres(server.url, {
      max: 1,
      transform: postgres.camel,
      types: {
        point: {
          to: 600,
          from: [600],
          serialize: ({ x, y }: { x: number; y: number }) => `(${x},${y})`,
          parse: (text: string) => text.slice(1, -1).split(',').map(Number),
        },
      },
    })
    try {
      await dry(async () => {
        const row = { pointId: 1, whereAt: camel.typed({ x: 1, y: 2 } as never, 600) }
        const [made] = await camel`INSERT INTO points ${camel(row)} RETURNING *`
        expect(made).toEqual({ pointId: 1, whereAt: [1, 2] })
        expect([...(await camel`SELECT * FROM points`)]).toEqual([{ pointId: 1, whereAt: [1, 2] }])
      })
    } finally {
      await camel.end()
    }
  })

  it('end closes what belongs to the run and leaves live code its connections', async () => {
    await dry(async () => {
      await sql`SELECT 1`
      await sql.end()
      expect(await code(sql`SELECT 1`)).toBe('CONNECTION_ENDED')
    })
    await sql`INSERT INTO t (v) VALUES ('live')`
    expect(await rows()).toEqual(['a', 'b', 'live'])
  })
})
