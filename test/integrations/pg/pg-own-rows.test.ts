import type { Duplex } from 'node:stream'
import type { Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { code } from '../../support/error-code.js'
import { client, live as observer, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, guard, takeEffects, takeProblems } = guardPg()

const SCHEMA = `
  CREATE TYPE mood AS ENUM ('ok', 'bad');
  CREATE SCHEMA app;
  CREATE TABLE acct (
    id serial PRIMARY KEY, email text COLLATE "C" NOT NULL UNIQUE, n int NOT NULL DEFAULT 0 CHECK (n >= 0), tags text[], meta jsonb,
    raw json, state mood DEFAULT 'ok', pin char(4), due date, at timestamptz, bin bytea, twice int GENERATED ALWAYS AS (n * 2) STORED);
  CREATE TABLE app.acct (id int PRIMARY KEY, place text);
  CREATE TABLE item (id bigserial PRIMARY KEY, acct_id int NOT NULL REFERENCES acct(id), label varchar(10));
  CREATE TABLE tiny (id smallserial PRIMARY KEY, v text);
  CREATE TABLE tiny_ref (id int, tiny_id smallint REFERENCES tiny(id));
  CREATE TABLE bag (a int, b text);
  CREATE TABLE doomed (id int PRIMARY KEY);
  CREATE TABLE dependent (id int PRIMARY KEY, doomed_id int REFERENCES doomed ON DELETE CASCADE);
  CREATE TABLE spread (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
  CREATE TABLE spread_low PARTITION OF spread FOR VALUES FROM (0) TO (100);
  CREATE TABLE secret (id int PRIMARY KEY, v text);
  CREATE VIEW names AS SELECT id, email FROM acct;
  CREATE VIEW over_names AS SELECT * FROM names;
  CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM acct';
  INSERT INTO acct (email, n, tags, meta, raw, pin, due, at, bin) VALUES
    ('a@x', 10, '{x,"y z"}', '{"k":[1]}', '{"b": 1,  "a":2}', 'ab', '2024-01-02', '2024-01-02 03:04:05+00', '\\xdead'),
    ('b@x', 20, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  INSERT INTO app.acct VALUES (1, 'here');
  INSERT INTO item (acct_id, label) VALUES (1, 'i1'), (1, 'i2'), (2, 'i3');
  INSERT INTO bag VALUES (1, 'x'), (1, 'x'), (2, NULL);
  INSERT INTO doomed VALUES (1), (2);
  INSERT INTO dependent VALUES (1, 1);
  INSERT INTO spread VALUES (1, 'one');
`

postgresWorld(SCHEMA)

async function world() {
  const tables = ['acct', 'app.acct', 'item', 'tiny', 'tiny_ref', 'bag', 'doomed', 'dependent', 'spread', 'secret']
  const rows: unknown[] = []
  for (const table of tables) {
    rows.push((await observer.query(`SELECT t::text, ctid::text, xmin::text FROM ${table} t`)).rows)
  }
  const { rows: sequences } = await observer.query('SELECT sequencename, last_value FROM pg_sequences ORDER BY 1')
  return { rows, sequences }
}

let before: unknown

beforeEach(async () => {
  takeEffects()
  takeProblems()
  before = await world()
  return async () => {
    // Whatever the test has done: nothing has changed, and the connection is as it was.
    expect(await world()).toEqual(before)
    await client.query('ROLLBACK')
    expect((await client.query('SELECT n FROM acct ORDER BY id')).rows).toEqual([{ n: 10 }, { n: 20 }])
  }
})

const rows = async (text: string, values: unknown[] = []) => (await client.query(text, values)).rows
const gaps = () => takeProblems().flatMap(({ kind, message }) => (kind === 'gap' ? [message] : []))

describe('a read after a blocked write', () => {
  it('sees new rows, in every place a table can be named', async () => {
    await dry(async () => {
      const [made] = await rows("INSERT INTO acct (email, n) VALUES ('new@x', 5) RETURNING *")
      expect(made).toMatchObject({ email: 'new@x', n: 5, twice: 10, state: 'ok' })
      expect(await rows('SELECT * FROM acct WHERE id = $1', [made.id])).toEqual([made])
      expect(await rows('TABLE acct')).toHaveLength(3)
      expect(await rows('SELECT public.acct.email AS e FROM public.acct WHERE n < $1', [6])).toEqual([{ e: 'new@x' }])
      expect(await rows('SELECT public.acct.* FROM acct ORDER BY id DESC LIMIT 1')).toEqual([made])
      expect(await rows('SELECT x.b FROM acct AS x (a, b) WHERE x.a = $1', [made.id])).toEqual([{ b: 'new@x' }])
      expect(await rows('SELECT 1 AS one WHERE EXISTS (SELECT FROM acct WHERE email = $1)', ['new@x'])).toHaveLength(1)
      expect(await rows('SELECT count(*)::int AS n, max(acct.n) AS m, sum(twice)::int AS s FROM acct')).toEqual([
        { n: 3, m: 20, s: 70 },
      ])
      expect(
        await rows('SELECT a.email, i.label FROM item i RIGHT JOIN acct a ON a.id = i.acct_id WHERE a.n = $1', [5]),
      ).toEqual([{ email: 'new@x', label: null }])
      expect(await rows('SELECT a.id FROM acct a JOIN acct b USING (id) WHERE b.n = 5')).toEqual([{ id: made.id }])
      expect(
        await rows('SELECT s.e FROM (SELECT email AS e FROM ONLY acct UNION SELECT place FROM app.acct) s ORDER BY 1'),
      ).toEqual([{ e: 'a@x' }, { e: 'b@x' }, { e: 'here' }, { e: 'new@x' }])
      expect(
        await rows('SELECT (SELECT email FROM acct WHERE id = l.id) AS e FROM (VALUES ($1::int)) l(id)', [made.id]),
      ).toEqual([{ e: 'new@x' }])
      expect(await rows("SELECT row_to_json(a)->>'email' AS e, a IS NULL AS none FROM acct a WHERE n = 5")).toEqual([
        { e: 'new@x', none: false },
      ])
      expect(await rows('SELECT email FROM acct WHERE n = 5 FOR UPDATE SKIP LOCKED')).toEqual([{ email: 'new@x' }])
      expect(await rows('SELECT email FROM acct ORDER BY email COLLATE "C" DESC LIMIT 1')).toEqual([{ email: 'new@x' }])
      expect(await rows("SELECT email FROM acct WHERE email > 'b' ORDER BY email")).toHaveLength(2)
    })
    expect(gaps()).toEqual([])
    expect(await rows('SELECT count(*)::int AS n FROM acct')).toEqual([{ n: 2 }])
  })

  it('finds a truncated table empty, and what is written to it afterwards', async () => {
    await dry(async () => {
      await client.query("UPDATE acct SET email = 'z@x' WHERE id = 1")
      expect((await client.query('TRUNCATE acct CASCADE')).command).toBe('TRUNCATE')
      expect(await rows('SELECT count(*)::int AS n FROM acct')).toEqual([{ n: 0 }])
      expect((await client.query('UPDATE acct SET n = 1')).rowCount).toBe(0)
      expect(await code(client.query("INSERT INTO item (acct_id, label) VALUES (1, 'x')"))).toBe('23503')
      expect(await code(client.query("INSERT INTO acct (id, email, n) VALUES (1, 'b@x', 3)"))).toBe('ok')
      expect(await code(client.query("INSERT INTO acct (id, email, n) VALUES (1, 'c@x', 3)"))).toBe('23505')
      expect(await rows('SELECT id, email FROM acct')).toEqual([{ id: 1, email: 'b@x' }])
      expect(await code(client.query("INSERT INTO item (acct_id, label) VALUES (1, 'x')"))).toBe('ok')
      await client.query('BEGIN; SAVEPOINT before; TRUNCATE acct, item, bag')
      expect(await rows('SELECT (SELECT count(*)::int FROM acct) AS a, (SELECT count(*)::int FROM bag) AS b')).toEqual([
        { a: 0, b: 0 },
      ])
      await client.query('ROLLBACK TO SAVEPOINT before')
      expect(await rows('SELECT id, email FROM acct')).toEqual([{ id: 1, email: 'b@x' }])
      expect(await rows('SELECT count(*)::int AS n FROM bag')).toEqual([{ n: 3 }])
      await client.query('ROLLBACK')
    })
    expect(gaps()).toEqual([])
    expect(await rows('SELECT count(*)::int AS n FROM acct')).toEqual([{ n: 2 }])
  })

  it('keeps every value as it was', async () => {
    const [real] = await rows('SELECT * FROM acct WHERE id = 1')
    await dry(async () => {
      await client.query('UPDATE acct SET n = n + 1 WHERE id = 1')
      expect(await rows('SELECT * FROM acct WHERE id = 1')).toEqual([{ ...real, n: 11, twice: 22 }])
      expect(
        await rows('SELECT raw::text AS t, pin = $1 AS p, length(pin) AS l FROM acct WHERE id = 1', ['ab']),
      ).toEqual([{ t: '{"b": 1,  "a":2}', p: true, l: 2 }])
      const odd = ["it's", 'back\\slash', '"', 'NULL', '', 'ä€\u{1f600}', '$1 {}', 'a\nb']
      await client.query('UPDATE acct SET tags = $1, meta = $2 WHERE id = 2', [odd, { odd }])
      expect(await rows('SELECT tags, meta FROM acct WHERE id = 2')).toEqual([{ tags: odd, meta: { odd } }])
    })
    expect(gaps()).toEqual([])
  })

  it('groups by a primary key, and gives a whole row its type', async () => {
    const grouped =
      'SELECT a.*, count(i.id)::int AS c FROM bag b, acct a LEFT JOIN item i ON i.acct_id = a.id WHERE b.a = 2 GROUP BY a.id'
    await dry(async () => {
      await client.query("INSERT INTO item (acct_id, label) VALUES (2, 'more')")
      await client.query("UPDATE doomed SET id = 7 WHERE id = 2; INSERT INTO app.acct VALUES (2, 'there')")
      expect(
        (await rows('SELECT p.place, count(*)::int AS c FROM app.acct p GROUP BY p.id ORDER BY p.id')) as unknown,
      ).toEqual([
        { place: 'here', c: 1 },
        { place: 'there', c: 1 },
      ])
      expect((await rows(`${grouped} ORDER BY a.id`)).map(({ c }) => c)).toEqual([2, 2])
      const counted = 'INSERT INTO bag SELECT count(*), p.place FROM app.acct p GROUP BY p.id'
      expect((await client.query(counted)).rowCount).toBe(2)
      expect(await rows('SELECT b FROM bag WHERE a = 1 ORDER BY b')).toEqual([
        { b: 'here' },
        { b: 'there' },
        { b: 'x' },
        { b: 'x' },
      ])
      const whole = await client.query('SELECT p FROM app.acct p ORDER BY p.id DESC LIMIT 1')
      expect(whole.rows).toEqual([{ p: '(2,there)' }])
    })
    expect(gaps()).toEqual([])
  })

  it('is shown the columns the table has', async () => {
    const text = 'SELECT id, email, at, tags, n + $1 AS more FROM acct ORDER BY id LIMIT 1'
    const real = await client.query(text, [1])
    await dry(async () => {
      await client.query("UPDATE acct SET email = 'c@x' WHERE id = 2")
      const simulated = await client.query(text, [1])
      expect(simulated.fields.map((field) => ({ ...field }))).toEqual(real.fields.map((field) => ({ ...field })))
      expect(simulated.rows).toEqual(real.rows)
      expect(await rows('SELECT $1 AS t, $2::int AS i, email FROM acct WHERE id = $3', ['x', 4, 2])).toEqual([
        { t: 'x', i: 4, email: 'c@x' },
      ])
      const arrays = await client.query({ text: 'SELECT id, email FROM acct WHERE id = 2', rowMode: 'array' })
      expect(arrays.rows).toEqual([[2, 'c@x']])
      const types = { getTypeParser: () => (value: string) => `<${value}>` }
      expect(
        (await client.query({ text: 'SELECT id FROM acct WHERE id = $1', values: [2], types: types as never })).rows,
      ).toEqual([{ id: '<2>' }])
      const named = { name: 'one acct', text: 'SELECT email FROM acct WHERE id = $1' }
      expect((await client.query({ ...named, values: [2] })).rows).toEqual([{ email: 'c@x' }])
      expect((await client.query({ ...named, values: [1] })).rows).toEqual([{ email: 'a@x' }])
      const called = await new Promise((resolve, reject) => {
        client.query('SELECT email FROM acct WHERE id = $1', [2], (error, result) =>
          error ? reject(error) : resolve([result.rows, guard.run() !== undefined]),
        )
      })
      expect(called).toEqual([[{ email: 'c@x' }], true])
      const results = (await client.query(
        "UPDATE bag SET b = 'z' WHERE a = 2; SELECT b FROM bag WHERE a = 2",
      )) as never as {
        rows: unknown[]
      }[]
      expect(results[1]?.rows).toEqual([{ b: 'z' }])
      expect(await code(client.query('SELECT nope FROM acct'))).toBe('42703')
      expect(await code(client.query("SELECT * FROM acct WHERE id = 'x'"))).toBe('22P02')
      expect(await code(client.query('SELECT * FROM acct WHERE id = $1', [1, 2]))).toBe('08P01')
    })
    expect(
      (await client.query({ name: 'one acct', text: 'SELECT email FROM acct WHERE id = $1', values: [2] })).rows,
    ).toEqual([{ email: 'b@x' }])
    expect(gaps()).toEqual([])
  })

  it('takes a name for what it means there', async () => {
    await dry(async () => {
      await client.query("INSERT INTO acct (email) VALUES ('new@x')")
      expect(await rows("WITH acct AS (SELECT 'cte' AS email) SELECT * FROM acct")).toEqual([{ email: 'cte' }])
      expect(await rows('WITH acct AS (SELECT email FROM acct WHERE n = 0) SELECT * FROM acct')).toEqual([
        { email: 'new@x' },
      ])
      expect(await rows('WITH x AS (SELECT count(*)::int AS n FROM acct) SELECT n FROM x')).toEqual([{ n: 3 }])
      expect(
        await rows(
          'WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t WHERE i < 3) SELECT count(*)::int AS c FROM t, acct',
        ),
      ).toEqual([{ c: 9 }])
      await client.query('BEGIN')
      await client.query('SET LOCAL search_path = app, public')
      expect(await rows('SELECT * FROM acct')).toEqual([{ id: 1, place: 'here' }])
      expect(await rows('SELECT count(*)::int AS n FROM public.acct')).toEqual([{ n: 3 }])
      await client.query('COMMIT')
      expect(await rows('SELECT place FROM app.acct')).toEqual([{ place: 'here' }])
    })
    expect(gaps()).toEqual([])
  })

  it('by another connection of the run sees the same, another run does not', async () => {
    const pool: Pool = new pg.Pool({ connectionString: server.url, max: 2 })
    try {
      await dry(async () => {
        await client.query('DELETE FROM item WHERE acct_id = 2')
        expect((await pool.query('SELECT count(*)::int AS n FROM item')).rows).toEqual([{ n: 2 }])
      })
      await dry(async () => {
        expect((await pool.query('SELECT count(*)::int AS n FROM item')).rows).toEqual([{ n: 3 }])
      })
    } finally {
      await pool.end()
    }
  })
})

describe('a write after a blocked write', () => {
  it('changes, deletes and inserts rows of the run', async () => {
    await dry(async () => {
      const [{ id }] = await rows("INSERT INTO acct (email) VALUES ('new@x') RETURNING id")
      expect(await rows('UPDATE acct SET n = 7 WHERE id = $1 RETURNING id, n, twice', [id])).toEqual([
        { id, n: 7, twice: 14 },
      ])
      for (let turn = 0; turn < 5; turn++) {
        const [{ n }] = await rows('SELECT n FROM acct WHERE id = 1')
        await client.query('UPDATE acct SET n = $1 WHERE id = 1', [n + 1])
      }
      expect(await rows('SELECT n FROM acct WHERE id = 1')).toEqual([{ n: 15 }])
      expect((await client.query('UPDATE acct SET n = n + 1')).rowCount).toBe(3)
      expect(await rows('SELECT n FROM acct ORDER BY n')).toEqual([{ n: 8 }, { n: 16 }, { n: 21 }])
      expect(await rows('DELETE FROM acct WHERE id = $1 RETURNING email, n', [id])).toEqual([{ email: 'new@x', n: 8 }])
      expect((await client.query('DELETE FROM acct WHERE id = $1', [id])).rowCount).toBe(0)
      expect((await client.query('INSERT INTO bag SELECT n, email FROM acct')).rowCount).toBe(2)
      expect(await rows('SELECT a, b FROM bag WHERE a > 2 ORDER BY a')).toEqual([
        { a: 16, b: 'a@x' },
        { a: 21, b: 'b@x' },
      ])
      expect((await client.query("DELETE FROM bag WHERE b = 'x'")).rowCount).toBe(2)
      expect((await client.query("DELETE FROM bag WHERE b = 'x'")).rowCount).toBe(0)
      expect((await client.query('UPDATE bag SET a = a + 1')).rowCount).toBe(3)
      expect((await client.query('UPDATE bag SET a = a + 1')).rowCount).toBe(3)
      expect(await rows('SELECT sum(a)::int AS s FROM bag')).toEqual([{ s: 45 }])
    })
    expect(gaps()).toEqual([])
  })

  it('conflicts with what is there by now, and with nothing else', async () => {
    await dry(async () => {
      const insert = "INSERT INTO acct (email, n) VALUES ('new@x', 1)"
      await client.query(insert)
      expect(await code(client.query(insert))).toBe('23505')
      const upsert = `${insert} ON CONFLICT (email) DO UPDATE SET n = acct.n + 1 RETURNING n`
      expect(await rows(upsert)).toEqual([{ n: 2 }])
      expect(await rows(upsert)).toEqual([{ n: 3 }])
      expect((await client.query(`${insert} ON CONFLICT DO NOTHING`)).rowCount).toBe(0)
      expect(await code(client.query("UPDATE acct SET email = 'new@x' WHERE id = 1"))).toBe('23505')
      await client.query("UPDATE acct SET email = 'moved@x' WHERE id = 1")
      expect(await code(client.query("INSERT INTO acct (email) VALUES ('a@x')"))).toBe('ok')
      await client.query("DELETE FROM acct WHERE email = 'new@x'")
      expect(await code(client.query(insert))).toBe('ok')
      expect(await code(client.query("INSERT INTO acct (email) VALUES ('t@x'), ('t@x')"))).toBe('23505')
      expect(await rows("SELECT count(*)::int AS c FROM acct WHERE email = 't@x'")).toEqual([{ c: 0 }])
    })
    expect(gaps()).toEqual([])
  })

  it('may refer to rows of the run', async () => {
    await dry(async () => {
      const [{ id }] = await rows("INSERT INTO acct (email) VALUES ('new@x') RETURNING id")
      await client.query("INSERT INTO item (acct_id, label) VALUES ($1, 'mine')", [id])
      await client.query(
        "WITH a AS (INSERT INTO acct (email) VALUES ('cte@x') RETURNING id) INSERT INTO item (acct_id) SELECT id FROM a",
      )
      const [{ id: small }] = await rows("INSERT INTO tiny (v) VALUES ('s') RETURNING id")
      expect(small).toBeGreaterThanOrEqual(30_000)
      expect(small).toBeLessThanOrEqual(32_767)
      await client.query('INSERT INTO tiny_ref VALUES (1, $1)', [small])
      expect(await rows('SELECT v FROM tiny_ref JOIN tiny ON tiny.id = tiny_id')).toEqual([{ v: 's' }])
      expect(await rows('SELECT label FROM item JOIN acct ON acct.id = acct_id WHERE email = $1', ['new@x'])).toEqual([
        { label: 'mine' },
      ])
    })
    expect(JSON.stringify(takeEffects().map(({ preview }) => preview?.notes))).not.toMatch(/23503/)
    await dry(async () => {
      await expect(client.query('DELETE FROM acct WHERE id = 2')).rejects.toMatchObject({ code: '23503' })
      await client.query('DELETE FROM item WHERE acct_id = 2')
      await client.query('DELETE FROM acct WHERE id = 2')
      await expect(client.query('INSERT INTO item (acct_id) VALUES (2)')).rejects.toMatchObject({ code: '23503' })
    })
    expect(takeEffects().at(-1)?.note).toMatch(/23503/)
    expect(gaps()).toEqual([])
  })

  it('reaches a partitioned table', async () => {
    await dry(async () => {
      await client.query("INSERT INTO spread VALUES (2, 'two'); UPDATE spread SET v = v || '!'")
      expect(await rows('SELECT * FROM spread ORDER BY id')).toEqual([
        { id: 1, v: 'one!' },
        { id: 2, v: 'two!' },
      ])
    })
    expect(gaps()).toEqual([])
  })
})

describe('an application transaction that is undone', () => {
  const count = async () => (await rows('SELECT count(*)::int AS c FROM bag'))[0]?.c
  const add = () => client.query("INSERT INTO bag VALUES (9, 'new')")

  it('takes its rows back, to the savepoint or as a whole', async () => {
    await dry(async () => {
      await add()
      await client.query('BEGIN')
      await add()
      await client.query('SAVEPOINT one')
      await add()
      await client.query('SAVEPOINT one')
      await client.query('DELETE FROM bag')
      expect(await count()).toBe(0)
      await client.query('ROLLBACK TO SAVEPOINT one')
      expect(await count()).toBe(6)
      await client.query('RELEASE one')
      await client.query('ROLLBACK TO one')
      expect(await count()).toBe(5)
      await client.query('COMMIT')
      expect(await count()).toBe(5)
      await client.query('BEGIN')
      await client.query('DELETE FROM bag')
      await client.query('ROLLBACK')
      expect(await count()).toBe(5)
      await client.query('BEGIN')
      await add()
      await client.query('COMMIT AND CHAIN')
      await add()
      await client.query('ROLLBACK')
      expect(await count()).toBe(6)
    })
  })

  it('takes its rows back when it has failed, or when its connection goes', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      await add()
      expect(await code(client.query('SELECT nope'))).toBe('42703')
      expect(await code(client.query('SELECT count(*) FROM bag'))).toBe('25P02')
      expect((await client.query('COMMIT')).command).toBe('ROLLBACK')
      expect(await count()).toBe(3)
      expect(await code(client.query("INSERT INTO bag VALUES (9, 'new'); SELECT 1/0"))).toBe('22012')
      expect(await count()).toBe(3)
      const other = new pg.Client(server.url)
      await other.connect()
      await other.query('BEGIN')
      await other.query('DELETE FROM bag')
      expect(await count()).toBe(0)
      await other.end()
      expect(await count()).toBe(3)
    })
  })

  it('leaves what other connections of the run have written', async () => {
    const other = new pg.Client(server.url)
    await other.connect()
    await dry(async () => {
      await client.query('BEGIN')
      await add()
      await other.query("INSERT INTO bag VALUES (10, 'other')")
      await client.query('ROLLBACK')
      expect(await rows('SELECT a FROM bag WHERE a > 8')).toEqual([{ a: 10 }])
    })
    await other.end()
  })

  it('inside a live transaction, too', async () => {
    await client.query('BEGIN')
    await dry(async () => {
      await client.query('SAVEPOINT s')
      await add()
      expect(await count()).toBe(4)
      await client.query('ROLLBACK TO s')
      expect(await count()).toBe(3)
      await add()
    })
    expect((await client.query('SELECT count(*)::int AS c FROM bag')).rows).toEqual([{ c: 3 }])
    await client.query('COMMIT')
  })
})

describe('what cannot be overlaid runs on the data as it is, and is on record', () => {
  it.each([
    ['SELECT count(*)::int AS c FROM names', [{ c: 2 }], /names" reads acct/],
    ['SELECT count(*)::int AS c FROM over_names', [{ c: 2 }], /reads acct/],
    ['SELECT how_many()::int AS c', [{ c: 2 }], /how_many/],
    ['SELECT count(ctid)::int AS c FROM acct', [{ c: 2 }], /system columns/],
    ['SELECT count(*)::int AS c FROM acct TABLESAMPLE SYSTEM (100)', [{ c: 2 }], /sampled/],
    ['SELECT count(*)::int AS c FROM spread_low', [{ c: 1 }], /reads spread/],
    ["SELECT query_to_xml('SELECT count(*) FROM acct', true, true, '') IS NULL AS c", [{ c: false }], /query_to_xml/],
  ])('%s', async (text, expected, reason) => {
    await dry(async () => {
      await client.query("INSERT INTO acct (email) VALUES ('new@x'); INSERT INTO spread VALUES (3, 'three')")
      expect(await rows(text)).toEqual(expected)
      expect(await rows(text)).toEqual(expected)
    })
    const told = gaps()
    expect(told).toHaveLength(1)
    expect(told[0]).toMatch(/^not overlaid: /)
    expect(told[0]).toMatch(reason)
  })

  it('cursors and COPY', async () => {
    await dry(async () => {
      await client.query("INSERT INTO acct (email) VALUES ('new@x')")
      await client.query('BEGIN; DECLARE c CURSOR FOR SELECT email FROM acct')
      expect(await rows('FETCH ALL FROM c')).toHaveLength(2)
      await client.query('COMMIT')
      await client.query('COPY acct (id) TO STDOUT')
    })
    expect(gaps().map((message) => /not overlaid: ([A-Z ]+)/.exec(message)?.[1]?.trim())).toEqual([
      'DECLARE CURSOR',
      'COPY TO',
    ])
  })

  it('a table that is written in a way nobody can work out', async () => {
    await dry(async () => {
      await client.query("COPY bag FROM PROGRAM 'echo 1'")
      expect(await rows('SELECT count(*)::int AS c FROM bag')).toEqual([{ c: 3 }])
    })
    expect(gaps()).toEqual([expect.stringMatching(/SELECT bag.*not all known/)])
  })

  it('a write over a view of a touched table is worked out on the data as it is, and not remembered', async () => {
    await dry(async () => {
      await client.query("UPDATE acct SET email = 'z@x' WHERE id = 1")
      expect((await client.query('INSERT INTO bag SELECT id, email FROM names')).rowCount).toBe(2)
      expect(await rows('SELECT count(*)::int AS c FROM bag')).toEqual([{ c: 3 }])
    })
    expect(gaps()).toHaveLength(2)
    expect(takeEffects().find(({ summary }) => summary === 'INSERT bag')?.fidelity).toBe('plausible')
  })

  it('and a duplicate in data that is known to be outdated is a guess', async () => {
    await dry(async () => {
      await client.query("COPY doomed FROM PROGRAM 'echo 2'")
      expect(await code(client.query('INSERT INTO doomed VALUES (1)'))).toBe('ok')
    })
    expect(takeEffects().at(-1)?.preview?.notes?.join()).toMatch(/predicted.*23505/)
    expect(gaps()).toEqual([expect.stringMatching(/INSERT doomed.*not all known/)])
  })

  it('more rows than an overlay holds', async () => {
    await dry(async () => {
      await client.query('INSERT INTO bag SELECT g FROM generate_series(1, 9000) g')
      expect(await rows('SELECT count(*)::int AS c FROM bag')).toEqual([{ c: 9003 }])
      expect((await client.query('INSERT INTO bag SELECT g FROM generate_series(1, 2000) g')).rowCount).toBe(2000)
      expect(await rows('SELECT count(*)::int AS c FROM bag')).toEqual([{ c: 9003 }])
    })
    const told = gaps()
    expect(told[0]).toMatch(/^overlay truncated/)
    expect(told).toHaveLength(2)
  })
})

it('asks the server nothing more while a run has touched nothing', async () => {
  const sent: string[] = []
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
  const { write } = stream
  stream.write = function spied(this: Duplex, bytes: Buffer, ...rest: never[]) {
    // Parse: the statement's name, which is empty, then its text.
    if (bytes[0] === 0x50) sent.push(bytes.toString('utf8', 6, bytes.indexOf(0, 6)))
    return Reflect.apply(write, this, [bytes, ...rest])
  } as Duplex['write']
  try {
    await dry(() => client.query('SELECT * FROM acct WHERE id = $1', [1]))
    const first = sent.splice(0)
    await dry(() => client.query('SELECT * FROM acct WHERE id = $1', [1]))
    expect(sent).toEqual(['BEGIN READ ONLY', 'SELECT * FROM acct WHERE id = $1', 'ROLLBACK'])
    expect(first.length).toBeGreaterThanOrEqual(3)
  } finally {
    Reflect.deleteProperty(stream, 'write')
  }
})
