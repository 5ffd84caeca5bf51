import { createRequire } from 'node:module'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { DatabaseError } from 'pg'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { ALLOW_PAGE_VIEWS, guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

type Counted = { rowCount: number }
const copy = createRequire(import.meta.url)('pg-copy-streams') as {
  to(text: string): Readable & Counted
  from(text: string): Writable & Counted
}

const { dry, guard, takeEffects, takeProblems } = guardPg({
  rules: [ALLOW_PAGE_VIEWS],
})

postgresWorld(`
    CREATE EXTENSION pg_walinspect;
    CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, code varchar(5), made serial, at date DEFAULT '2020-01-01');
    INSERT INTO item (id, name) SELECT n, 'item ' || n FROM generate_series(1, 25) n;
    CREATE TABLE audit (what text);
    CREATE TABLE page_views (n int, who text);
    CREATE TABLE big (n int, filler text);
    INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n;
    CREATE VIEW names AS SELECT name FROM item;
    CREATE VIEW joined AS SELECT i.name FROM item i JOIN audit a ON true;
    CREATE FUNCTION write_it(x text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (x); RETURN x; END $$;
  `)

beforeAll(async () => {
  await live.query('VACUUM big')
})

const unchanged = leavesUnchanged(['item', 'audit', 'page_views'])

beforeEach(() => {
  takeEffects()
  takeProblems()
})

afterEach(async () => {
  expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
})

async function copyOut(text: string) {
  const stream = client.query(copy.to(text) as never) as Readable & Counted
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return { text: Buffer.concat(chunks).toString(), rowCount: stream.rowCount }
}

async function copyIn(text: string, data: string | Buffer | Iterable<string | Buffer>) {
  const stream = client.query(copy.from(text) as never) as Writable & Counted
  const chunks = typeof data === 'string' || Buffer.isBuffer(data) ? [data] : data
  await pipeline(Readable.from(chunks, { objectMode: false }), stream)
  return stream.rowCount
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: 'ok' }) as Partial<DatabaseError>,
    ({ code, message, where }: DatabaseError) => ({ code, message, ...(where === undefined ? {} : { where }) }),
  )

/** What live does, undone: the errors must be the same. */
async function liveFailure(text: string, data: string | Buffer | Iterable<string | Buffer>) {
  await client.query('BEGIN')
  try {
    return await failure(copyIn(text, data))
  } finally {
    await client.query('ROLLBACK')
    await live.query('VACUUM item')
    await unchanged.renew()
  }
}

describe('COPY TO STDOUT', () => {
  it.each([
    'COPY item (id, name) TO STDOUT',
    'COPY (SELECT id, name FROM item WHERE id < 4 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)',
    'COPY (SELECT 1 WHERE false) TO STDOUT',
    'COPY (SELECT n, filler FROM big ORDER BY n LIMIT 5000) TO STDOUT',
  ])('%s gives what it gives live', async (text) => {
    expect(await dry(() => copyOut(text))).toEqual(await copyOut(text))
    expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'read' }])
  })

  it('waits for a slow reader', async () => {
    await dry(async () => {
      const stream = client.query(copy.to('COPY big TO STDOUT') as never) as Readable & Counted
      let seen = 0
      for await (const chunk of stream) {
        seen += (chunk as Buffer).length
        await new Promise((resolve) => setTimeout(resolve, 1))
        // 20 MB in all: what has been read ahead must stay small.
        expect(stream.readableLength).toBeLessThan(1024 * 1024)
      }
      expect(stream.rowCount).toBe(20_000)
      expect(seen).toBe(20_000 * 1002 + [...Array(20_000).keys()].reduce((sum, n) => sum + String(n + 1).length, 0))
    })
  })

  it('of a query that writes comes back empty', async () => {
    const result = await dry(() => copyOut("COPY (SELECT write_it('x')) TO STDOUT"))
    expect(result).toEqual({ text: '', rowCount: 0 })
    expect(await dry(() => copyOut('COPY (DELETE FROM item RETURNING id) TO STDOUT'))).toMatchObject({ text: '' })
    expect(takeEffects().filter(({ outcome }) => outcome === 'blocked')).toHaveLength(2)
    expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
  })

  it('gives the errors of the server', async () => {
    const text = 'COPY nowhere TO STDOUT'
    expect(await failure(dry(() => copyOut(text)))).toEqual(await failure(copyOut(text)))
    const late = 'COPY (SELECT 10 / (20 - id) FROM item ORDER BY id) TO STDOUT'
    expect(await failure(dry(() => copyOut(late)))).toMatchObject({ code: '22012' })
    expect((await dry(() => client.query('SELECT 1 AS n'))).rows).toEqual([{ n: 1 }])
  })

  it('works in dry and in live transactions', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      expect(await copyOut('COPY (SELECT 1) TO STDOUT')).toMatchObject({ text: '1\n' })
      await client.query('COMMIT')
    })
    await client.query('BEGIN')
    expect(await dry(() => copyOut('COPY (SELECT 1) TO STDOUT'))).toMatchObject({ text: '1\n' })
    expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await client.query('ROLLBACK')
  })

  it("says that it does not see the run's own rows", async () => {
    await dry(async () => {
      await client.query("INSERT INTO item (id, name) VALUES (99, 'mine')")
      expect((await copyOut('COPY (SELECT id FROM item WHERE id = 99) TO STDOUT')).text).toBe('')
    })
    expect(takeProblems().map(({ message }) => message)).toEqual([expect.stringContaining('not overlaid: COPY TO')])
  })

  it('to a file or a program of the server is blocked', async () => {
    await dry(() => client.query("COPY item TO PROGRAM 'cat > /tmp/drytrace-must-not-exist'"))
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', effect: 'write' }])
  })
})

describe('COPY FROM STDIN', () => {
  it('is counted, previewed, and seen by later reads', async () => {
    await dry(async () => {
      expect(
        await copyIn('COPY item (id, name, code) FROM STDIN', '101\tone\tabc\n102\ttwo \\\\ three\\n\t\\N\n'),
      ).toBe(2)
      const { rows } = await client.query('SELECT id, name, code, at::text FROM item WHERE id > 100 ORDER BY id')
      expect(rows).toEqual([
        { id: 101, name: 'one', code: 'abc', at: '2020-01-01' },
        { id: 102, name: 'two \\ three\n', code: null, at: '2020-01-01' },
      ])
      expect((await client.query("UPDATE item SET name = 'x' WHERE id = 101")).rowCount).toBe(1)
    })
    const [effect] = takeEffects()
    expect(effect).toMatchObject({
      outcome: 'blocked',
      action: 'create',
      target: 'item',
      preview: { method: 'select', rows: 2 },
      payload: { size: 34, contentType: 'text/plain' },
      fidelity: 'exact',
    })
    expect(effect?.preview?.diff).toContainEqual({
      target: 'public.item',
      key: 'id=101',
      field: 'name',
      after: 'one',
    })
    expect(takeProblems()).toEqual([])
  })

  it.each([
    [
      'csv',
      'COPY item (id, name, code) FROM STDIN (FORMAT csv)',
      '201,"a ""quoted"", one",x\r\n202,,\r\n203,"two\nlines",""\r\n',
    ],
    ['csv with a header', 'COPY item (id, name) FROM STDIN WITH (FORMAT csv, HEADER)', 'id,name\n201,a\n'],
    [
      'old csv syntax',
      "COPY item (id, name) FROM STDIN CSV DELIMITER ';' NULL 'none' QUOTE ''''",
      "201;'a;b'\n202;c\n",
    ],
    ['another escape', "COPY item (id, name) FROM STDIN (FORMAT csv, ESCAPE '\\')", '201,"a \\" b \\\\"\n'],
    ['end marker', 'COPY item (id, name) FROM STDIN', '201\ta\n\\.\nrubbish\n'],
    ['octal and hex', 'COPY item (id, name) FROM STDIN', '201\t\\101\\x42\\t\\q\n'],
    ['no last newline', 'COPY item (id, name) FROM STDIN', '201\ta\n202\tb'],
    ['nothing', 'COPY item FROM STDIN', ''],
    [
      'many bytes per character, cut anywhere',
      'COPY item (id, name) FROM STDIN',
      [...Buffer.from('201\tä€😀\n202\tb\n')].map((byte) => Buffer.from([byte])),
    ],
  ])('%s: the same rows as live', async (_, text, data) => {
    const select = 'SELECT id, name, code FROM item WHERE id > 200 ORDER BY id'
    await client.query('BEGIN')
    const count = await copyIn(text, data).catch((error: Error) => error.message)
    const rows = typeof count === 'string' ? [] : (await client.query(select)).rows
    await client.query('ROLLBACK')
    await live.query('VACUUM item')
    await unchanged.renew()
    await dry(async () => {
      expect(await copyIn(text, data).catch((error: Error) => error.message)).toEqual(count)
      expect((await client.query(select)).rows).toEqual(rows)
    })
  })

  it.each([
    ['too few fields', 'COPY item (id, name) FROM STDIN', '301\ta\n302\n'],
    ['too many fields', 'COPY item (id, name) FROM STDIN', '301\ta\tb\n'],
    ['csv left open', 'COPY item (id, name) FROM STDIN CSV', '301,"a\n'],
    ['stray carriage return', 'COPY item (id, name) FROM STDIN', '301\ta\n302\tb\rc\n'],
    ['mixed line ends', 'COPY item (id, name) FROM STDIN', '301\ta\r\n302\tb\n'],
    ['a table that is not there', 'COPY nowhere FROM STDIN', 'x\n'],
    ['a column that is not there', 'COPY item (id, nothing) FROM STDIN', '1\tx\n'],
    ['a view', 'COPY joined FROM STDIN', 'x\n'],
    ['no binary data', 'COPY item (id, name) FROM STDIN BINARY', 'this is no binary data at all\n'],
  ])('%s: the error of live', async (_, text, data) => {
    const expected = await liveFailure(text, data)
    const actual = await failure(dry(() => copyIn(text, data)))
    expect({ code: actual.code, message: actual.message }).toEqual({ code: expected.code, message: expected.message })
    if (/^(too|csv)/.test(_)) expect(actual.where?.slice(0, 18)).toEqual(expected.where?.slice(0, 18))
    expect((await dry(() => client.query('SELECT 1 AS n'))).rows).toEqual([{ n: 1 }])
  })

  it.each([
    ['a value that is no number', '301\ta\nx\tb\n', '22P02'],
    ['a missing value', '301\t\\N\n', '23502'],
    ['a key that is taken', '301\ta\n7\tb\n', '23505'],
    ['a key twice', '301\ta\n301\tb\n', '23505'],
  ])('%s: fails with the code of live', async (_, data, code) => {
    const text = 'COPY item (id, name) FROM STDIN'
    expect(await liveFailure(text, data)).toMatchObject({ code })
    expect(await failure(dry(() => copyIn(text, data)))).toMatchObject({ code })
    expect(takeEffects().at(-1)).toMatchObject({ outcome: 'blocked' })
  })

  it('fails its dry transaction as live', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      expect(await failure(copyIn('COPY item (id, name) FROM STDIN', '1\n'))).toMatchObject({ code: '22P04' })
      expect(await failure(client.query('SELECT 1'))).toMatchObject({ code: '25P02' })
      expect((await client.query('COMMIT')).command).toBe('ROLLBACK')
    })
  })

  it('is taken back with its dry transaction', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      await copyIn('COPY item (id, name) FROM STDIN', '401\ta\n')
      expect((await client.query('SELECT 1 FROM item WHERE id = 401')).rowCount).toBe(1)
      await client.query('ROLLBACK')
      expect((await client.query('SELECT 1 FROM item WHERE id = 401')).rowCount).toBe(0)
    })
  })

  it('in a live transaction leaves it as it was', async () => {
    await client.query('BEGIN')
    expect(await dry(() => copyIn('COPY item (id, name) FROM STDIN', '401\ta\n'))).toBe(1)
    expect((await client.query('SELECT count(*)::int AS n FROM item')).rows).toEqual([{ n: 25 }])
    expect((await client.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await client.query('COMMIT')
  })

  it('that is given up fails as live', async () => {
    const stream = dry(() => client.query(copy.from('COPY item (id, name) FROM STDIN') as never)) as unknown as Writable
    stream.write('501\ta\n')
    const error = new Promise<DatabaseError>((resolve) => stream.on('error', resolve))
    stream.destroy(new Error('changed my mind'))
    expect(await error).toMatchObject({ code: '57014', message: 'COPY from stdin failed: changed my mind' })
    expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
  })

  it('of more rows than are looked at is counted, its memory bounded', async () => {
    function* lines() {
      for (let n = 0; n < 60_000; n++) yield `${1000 + n}\t${'y'.repeat(200)}\n`
    }
    await dry(async () => {
      expect(await copyIn('COPY item (id, name) FROM STDIN', lines())).toBe(60_000)
      await client.query('SELECT count(*) FROM item')
    })
    const [effect] = takeEffects()
    expect(effect).toMatchObject({
      preview: {
        rows: 60_000,
        notes: expect.arrayContaining([expect.stringContaining('the first 1000 of 60000 rows')]),
      },
      fidelity: 'plausible',
    })
    expect(takeProblems().map(({ message }) => message)).toEqual([expect.stringContaining('not overlaid')])
  })

  it('in the binary format is counted', async () => {
    const header = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)])
    const row = (id: number) => {
      const data = Buffer.alloc(2 + 4 + 4 + 4 + 1)
      data.writeInt16BE(2, 0)
      data.writeInt32BE(4, 2)
      data.writeInt32BE(id, 6)
      data.writeInt32BE(1, 10)
      data.write('x', 14)
      return data
    }
    const data = Buffer.concat([header, row(601), row(602), row(603), Buffer.from([0xff, 0xff])])
    const bytes = [...data].map((byte) => Buffer.from([byte]))
    expect(await dry(() => copyIn('COPY item (id, name) FROM STDIN BINARY', bytes))).toBe(3)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', preview: { method: 'synthesized', rows: 3 } }])
  })

  it('without a stream gives the error of live', async () => {
    const plain = () => client.query('COPY item FROM STDIN')
    expect(await failure(dry(plain))).toMatchObject(await failure(plain()))
  })

  it('from a file or a program of the server is blocked, and what it would bring is not known', async () => {
    await dry(async () => {
      expect((await client.query("COPY item FROM PROGRAM 'touch /tmp/drytrace-must-not-exist'")).rowCount).toBe(0)
      await client.query('SELECT count(*) FROM item')
    })
    expect(takeEffects()[0]).toMatchObject({ outcome: 'blocked', effect: 'write' })
    expect(takeProblems().map(({ message }) => message)).toEqual([expect.stringContaining('not overlaid')])
  })

  it('that a rule allows happens', async () => {
    const lines = Array.from({ length: 5000 }, (_, n) => `${n}\t${'z'.repeat(100)}\n`)
    expect(await dry(() => copyIn('COPY page_views FROM STDIN', lines))).toBe(5000)
    expect((await live.query('SELECT count(*)::int AS n, sum(n)::int AS sum FROM page_views')).rows).toEqual([
      { n: 5000, sum: (4999 * 5000) / 2 },
    ])
    expect(await failure(dry(() => copyIn('COPY page_views FROM STDIN', 'x\ty\n')))).toMatchObject({ code: '22P02' })
    expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    await unchanged.renew()
  })

  it('runs its callbacks in the context of its run', async () => {
    const contexts = await dry(async () => {
      const run = guard.run()
      const stream = client.query(copy.from('COPY item (id, name) FROM STDIN') as never) as unknown as Writable
      return await new Promise((resolve) => {
        stream.on('finish', () => resolve(guard.run() === run))
        stream.end('701\ta\n')
      })
    })
    expect(contexts).toBe(true)
  })
})
