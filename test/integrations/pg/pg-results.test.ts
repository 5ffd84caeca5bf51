import type { DatabaseError } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects, takeProblems } = guardPg()

const SCHEMA = `
  CREATE TYPE mood AS ENUM ('ok', 'bad');
  CREATE TABLE customers (
    id serial PRIMARY KEY, email varchar(20) NOT NULL UNIQUE, credits int NOT NULL DEFAULT 0 CHECK (credits >= 0),
    since timestamptz NOT NULL DEFAULT '2024-01-01', tags text[], meta jsonb, state mood DEFAULT 'ok', score float8, vip bool DEFAULT false);
  CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers(id), total numeric(10,2));
  CREATE FUNCTION add_note(x text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (customer_id, total) VALUES (1, 1); RETURN 7; END $$;
  CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2';
  CREATE FUNCTION jobs() RETURNS SETOF orders LANGUAGE sql AS 'DELETE FROM orders RETURNING *';
  CREATE FUNCTION locks_on() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(4711)';
  CREATE FUNCTION measures(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN ANALYZE orders; RETURN 1 / x; EXCEPTION WHEN division_by_zero THEN RETURN 1; END $$;
  CREATE FUNCTION measures_by_text() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'analyze ' || 'orders'; RETURN 1; END $$;
  CREATE FUNCTION rebuilds() RETURNS int LANGUAGE plpgsql AS $$ BEGIN REINDEX TABLE orders; RETURN 1; END $$;
  CREATE FUNCTION explains() RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXPLAIN (ANALYZE, TIMING off, COSTS off) SELECT 1; RETURN QUERY EXPLAIN ANALYZE SELECT 1; END $$;
  CREATE FUNCTION calls_locks() RETURNS void LANGUAGE sql AS 'SELECT locks_on()';
  CREATE VIEW sneaky AS SELECT id, pg_try_advisory_lock(4712) AS locked FROM customers;
  CREATE VIEW over_sneaky AS SELECT * FROM sneaky;
  CREATE VIEW numbering AS SELECT nextval('orders_id_seq') AS n;
  INSERT INTO customers (email, credits, tags, meta, score) VALUES
    ('a@x', 10, '{x,y}', '{"k":[1,2]}', 1.5), ('b@x', 20, NULL, NULL, NULL), ('c@x', 30, '{}', '"s"', -0.25);
  INSERT INTO orders (customer_id, total) VALUES (1, 10), (1, 20), (2, 5);
`

postgresWorld(SCHEMA)

beforeEach(() => {
  takeEffects()
  takeProblems()
})

interface Query {
  text: string
  values?: unknown[]
  rowMode?: 'array'
  name?: string
}

const shape = (result: {
  command: string
  rowCount: number | null
  rows: unknown[]
  fields: { name: string; dataTypeID: number }[]
}) => ({
  command: result.command,
  rowCount: result.rowCount,
  rows: result.rows,
  fields: result.fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
})

async function forReal(query: Query) {
  await live.query('BEGIN')
  try {
    return shape(await live.query(query))
  } finally {
    await live.query('ROLLBACK')
  }
}

async function world() {
  const { rows } =
    await live.query(`SELECT (SELECT json_agg(c ORDER BY id) FROM customers c) c, (SELECT json_agg(o ORDER BY id) FROM orders o) o,
    (SELECT json_agg((sequencename, last_value) ORDER BY 1) FROM (SELECT * FROM pg_sequences ORDER BY sequencename) s) s,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks, (SELECT count(*) FROM pg_class) AS relations`)
  return rows[0]
}

describe('a blocked write returns what the real one would', () => {
  it.each<Query>([
    {
      text: 'UPDATE customers SET credits = credits + $1, meta = $2 WHERE id = $3 RETURNING *',
      values: [5, { a: [1, null] }, 1],
    },
    {
      text: 'UPDATE customers SET since = $1, tags = $2 WHERE id < 3 RETURNING id, since, tags',
      values: [new Date('2025-05-05T05:05:05Z'), ['ä', 'b "c"']],
    },
    { text: "UPDATE customers SET state = 'bad', vip = true, score = credits / 3.0 RETURNING state, vip, score" },
    { text: 'UPDATE customers SET credits = 1', rowMode: 'array' },
    { text: 'DELETE FROM orders WHERE customer_id = $1 RETURNING total, id', values: [1], rowMode: 'array' },
    { text: 'DELETE FROM orders WHERE false' },
    {
      text: 'INSERT INTO customers (id, email, credits, vip) VALUES ($1, $2, $3, $4) RETURNING *',
      values: [100, 'z@x', '7', true],
    },
    { text: "INSERT INTO customers (id, email) SELECT id + 100, email || '!' FROM customers RETURNING id, email" },
    {
      text: "INSERT INTO customers (id, email, credits) VALUES (900, 'a@x', 1) ON CONFLICT (email) DO UPDATE SET credits = customers.credits + excluded.credits RETURNING id, credits",
    },
    { text: "INSERT INTO customers (id, email) VALUES (900, 'a@x'), (901, 'n@x') ON CONFLICT DO NOTHING RETURNING id" },
    {
      text: 'WITH d AS (DELETE FROM orders WHERE total < $1 RETURNING *) SELECT count(*)::int AS n, sum(total) AS s FROM d',
      values: [15],
    },
    {
      text: 'WITH u AS (UPDATE customers SET credits = 0 WHERE id = 1 RETURNING id) INSERT INTO orders (id, customer_id, total) SELECT 77, id, 1 FROM u RETURNING *',
    },
    { text: 'UPDATE customers SET credits = $1 WHERE id = $2 RETURNING credits', values: [3, 2], name: 'set_credits' },
    { text: 'UPDATE customers SET credits = $1 WHERE id = $2 RETURNING credits', values: [4, 3], name: 'set_credits' },
    { text: 'TRUNCATE orders' },
    { text: 'CREATE INDEX ON customers (credits)' },
    { text: 'ALTER TABLE customers ADD COLUMN extra int' },
    { text: 'DROP VIEW over_sneaky' },
    { text: 'CREATE TABLE copy_of AS SELECT 1 AS a WHERE false' },
    { text: "COMMENT ON TABLE orders IS 'x'" },
    { text: "NOTIFY somebody, 'x'" },
    { text: 'LOCK TABLE customers' },
    { text: 'DO $$ BEGIN DELETE FROM orders; END $$' },
  ])('$text $values', async (query) => {
    const before = await world()
    const real = await forReal(query)
    const simulated = shape(await dry(() => client.query(query)))
    expect(simulated).toEqual(real)
    expect(await world()).toEqual(before)
    const effects = takeEffects()
    expect(effects.map(({ outcome, effect }) => [outcome, effect])).toEqual([['blocked', 'write']])
  })
})

describe('a read returns the same dry and live', () => {
  it.each<Query>([
    { text: 'SELECT * FROM customers ORDER BY id' },
    { text: 'SELECT id, total FROM orders WHERE total > $1 ORDER BY id', values: ['6'], rowMode: 'array' },
    { text: 'SELECT email FROM customers WHERE id = $1', values: [1], name: 'email_of' },
    { text: 'SELECT email FROM customers WHERE id = $1', values: [2], name: 'email_of' },
    { text: 'SELECT twice($1)', values: [21] },
    { text: 'SELECT id FROM customers ORDER BY id FOR UPDATE SKIP LOCKED' },
    { text: 'EXPLAIN (COSTS OFF) DELETE FROM orders' },
    { text: 'SHOW search_path' },
    { text: 'COPY orders TO STDOUT' },
    { text: 'VALUES (1, $1::text)', values: ['ä'] },
    { text: '' },
    { text: '-- only a comment' },
  ])('$text', async (query) => {
    const real = await forReal(query)
    expect(shape(await dry(() => client.query(query)))).toEqual(real)
    for (const effect of takeEffects()) expect([effect.outcome, effect.effect]).toEqual(['allowed', 'read'])
  })

  it('a script, statement by statement', async () => {
    const text =
      "SELECT 1 AS a; UPDATE customers SET credits = 5 RETURNING id; SELECT count(*)::int AS n FROM customers WHERE credits = 5; -- 'ä;"
    const results = (await dry(() => client.query(text))) as unknown as Parameters<typeof shape>[0][]
    expect(results.map((result) => [result.command, result.rowCount, result.rows.length])).toEqual([
      ['SELECT', 1, 1],
      ['UPDATE', 3, 3],
      ['SELECT', 1, 1],
    ])
    expect(takeEffects().map(({ outcome, summary }) => [outcome, summary])).toEqual([
      ['allowed', 'SELECT'],
      ['blocked', 'UPDATE customers'],
      ['allowed', 'SELECT customers'],
    ])
  })
})

describe('a query that writes', () => {
  it.each([
    ['SELECT add_note($1) AS made', ['x'], 1],
    ['SELECT * FROM jobs()', [], 0],
    ['SELECT * FROM numbering', [], 0],
  ] as const)('%s is refused by READ ONLY and recorded', async (text, values, rows) => {
    const before = await world()
    const result = await dry(() => client.query(text, [...values]))
    expect(result.rows).toHaveLength(rows)
    expect(await world()).toEqual(before)
    expect(takeEffects().map(({ outcome, effect, action }) => [outcome, effect, action])).toEqual([
      ['allowed', 'read', null],
      ['blocked', 'write', 'execute'],
    ])
  })

  it.each(['SELECT locks_on()', 'SELECT calls_locks()', 'SELECT * FROM sneaky', 'SELECT * FROM over_sneaky'])(
    '%s never runs, because READ ONLY would not stop it',
    async (text) => {
      const before = await world()
      await dry(() => client.query(text))
      expect(await world()).toEqual(before)
      expect(takeEffects().map(({ outcome, effect }) => [outcome, effect])).toEqual([['blocked', 'write']])
    },
  )

  it.each([
    'SELECT measures(0)',
    'SELECT measures_by_text()',
    'SELECT rebuilds()',
    "INSERT INTO customers (email) VALUES ('m' || measures(0))",
  ])('%s leaves no size of a table in the catalog, which no ROLLBACK takes back', async (text) => {
    // ANALYZE and REINDEX note it in place.
    const noted = async () =>
      (await live.query("SELECT reltuples, relpages FROM pg_class WHERE oid = 'orders'::regclass")).rows
    expect(await noted()).toEqual([{ reltuples: -1, relpages: 0 }])
    await dry(() => client.query(text))
    expect(await noted()).toEqual([{ reltuples: -1, relpages: 0 }])
    expect(takeEffects().map(({ outcome, effect }) => [outcome, effect])).toEqual([['blocked', 'write']])
  })

  it('EXPLAIN ANALYZE in a function is no ANALYZE', async () => {
    expect((await dry(() => client.query('SELECT explains()'))).rows.length).toBeGreaterThan(2)
    expect(takeEffects().map(({ outcome, effect }) => [outcome, effect])).toEqual([['allowed', 'read']])
  })

  it.each([
    ["SELECT pg_try_advisory_lock(1) AS got, 'x' AS x", [{ got: true, x: 'x' }]],
    ['SELECT pg_advisory_xact_lock(1)', [{ pg_advisory_xact_lock: '' }]],
    ["SELECT pg_notify('a', 'b')", [{ pg_notify: '' }]],
    ["SELECT set_config('work_mem', '8MB', false)", [{ set_config: '8MB' }]],
    ["SELECT setval('orders_id_seq', 500)", [{ setval: '500' }]],
  ])('%s gets a stand-in', async (text, rows) => {
    const before = await world()
    expect((await dry(() => client.query(text))).rows).toEqual(rows)
    expect(await world()).toEqual(before)
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['blocked'])
  })
})

describe('a function that writes, in FROM', () => {
  it('gives no rows when it returns a set, and one of nothing when it does not', async () => {
    await live.query(`CREATE FUNCTION enrol(mail text) RETURNS customers LANGUAGE sql AS
        'INSERT INTO customers (email) VALUES (mail) RETURNING *';
      CREATE FUNCTION enrol_all(mail text) RETURNS SETOF customers LANGUAGE sql AS
        'INSERT INTO customers (email) VALUES (mail) RETURNING *'`)
    const before = await world()
    const one = await dry(() => client.query('SELECT id, email FROM enrol($1)', ['e@x']))
    expect([one.rowCount, one.rows]).toEqual([1, [{ id: null, email: null }]])
    expect((await dry(() => client.query('SELECT * FROM enrol_all($1)', ['e@x']))).rows).toEqual([])
    const writes = takeEffects().filter(({ effect }) => effect === 'write')
    expect(writes.map(({ outcome, fidelity }) => [outcome, fidelity])).toEqual([
      ['blocked', 'empty'],
      ['blocked', 'empty'],
    ])
    expect(await world()).toEqual(before)
    await live.query('DROP FUNCTION enrol(text), enrol_all(text)')
  })

  it('that notifies is answered with its parameters left out', async () => {
    const { rows } = await dry(() => client.query('SELECT pg_notify($1, $2), $3::int AS n', ['a', 'b', 7]))
    expect(rows).toEqual([{ pg_notify: '', n: 7 }])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['blocked'])
  })
})

describe('what the journal says', () => {
  it('has json by its keys, and nothing below a secret', async () => {
    const set = (meta: unknown) => live.query('UPDATE customers SET meta = $1 WHERE id = 2', [meta])
    await set({ plan: { seats: 3, tier: 'a' }, tags: ['x'], password: { old: 'p' }, gone: true })
    await dry(() =>
      client.query(
        `UPDATE customers SET meta = meta - 'gone' || '{"plan": {"seats": 4, "tier": "a"}, "tags": ["x", "y"], "password": {"old": "q"}, "fresh": 1}'
         WHERE id = 2`,
      ),
    )
    const changes = takeEffects()[0]?.preview?.diff.map(({ target: _, key: __, ...change }) => change)
    expect(changes?.sort((a, b) => (a.field < b.field ? -1 : 1))).toEqual([
      { field: 'meta.fresh', after: 1 },
      { field: 'meta.gone', before: true },
      { field: 'meta.password.old', before: '[redacted]', after: '[redacted]' },
      { field: 'meta.plan.seats', before: 3, after: 4 },
      { field: 'meta.tags', before: ['x'], after: ['x', 'y'] },
    ])
    await set(null)
  })

  it('has the changed fields before and after', async () => {
    await dry(() => client.query('UPDATE customers SET credits = 11, meta = \'{"k":2}\', vip = true WHERE id = 1'))
    const [effect] = takeEffects()
    expect(effect).toMatchObject({
      system: 'postgresql',
      action: 'update',
      target: 'customers',
      summary: 'UPDATE customers',
      fidelity: 'exact',
      hook: { name: 'pg', version: expect.any(String) },
      preview: {
        method: 'select',
        rows: 1,
        diff: [
          { target: 'public.customers', key: 'id=1', field: 'credits', before: 10, after: 11 },
          { target: 'public.customers', key: 'id=1', field: 'meta.k', before: [1, 2], after: 2 },
          { target: 'public.customers', key: 'id=1', field: 'vip', before: false, after: true },
        ],
      },
    })
  })

  it('has every given field of a new row, under a synthetic id', async () => {
    const { rows } = await dry(() =>
      client.query('INSERT INTO orders (customer_id, total) VALUES (1, 9.5) RETURNING id'),
    )
    const [effect] = takeEffects()
    expect(rows[0].id).toMatch(/^2[01]\d{8}$/)
    expect(effect).toMatchObject({ action: 'create', syntheticIds: [rows[0].id] })
    expect(effect?.preview?.diff).toEqual([
      { target: 'public.orders', key: `id=${rows[0].id}`, field: 'id', after: Number(rows[0].id) },
      { target: 'public.orders', key: `id=${rows[0].id}`, field: 'customer_id', after: 1 },
      { target: 'public.orders', key: `id=${rows[0].id}`, field: 'total', after: '9.50' },
    ])
  })

  it('counts all records and spells out a hundred', async () => {
    await dry(() => client.query("INSERT INTO customers (email) SELECT 'x' || g FROM generate_series(1, 250) g"))
    const [effect] = takeEffects()
    expect(effect?.preview?.rows).toBe(250)
    expect(new Set(effect?.preview?.diff.map(({ key }) => key)).size).toBe(100)
    expect(effect?.preview?.notes).toContain('the diff shows the first 100 of 250 records')
  })

  it('is worked out without a compiler: a session without sequential scans would wait seconds for each', async () => {
    await dry(() => client.query("INSERT INTO customers (email) VALUES ('jit ' || current_setting('jit'))"))
    expect(takeEffects()[0]?.preview?.diff).toContainEqual(
      expect.objectContaining({ field: 'email', after: 'jit off' }),
    )
    expect((await live.query('SHOW jit')).rows).toEqual([{ jit: 'on' }])
  })

  it('raises a missing parent, and predicts it where a trigger could bring one', async () => {
    const text = 'INSERT INTO orders (customer_id, total) VALUES (999, 1)'
    const real = await live.query(text).catch((error: unknown) => error)
    const foretold = await dry(() => client.query(text).catch((error: unknown) => error))
    const { code, message, table, constraint, schema } = real as DatabaseError
    expect(foretold).toMatchObject({ code, message, table, constraint, schema })
    takeEffects()
    const keep = (body: string) =>
      live.query(
        `CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ${body} RETURN NEW; END'`,
      )
    await keep('NEW.total := NEW.total + 1;')
    await live.query('CREATE TRIGGER keeps BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION keep()')
    try {
      await expect(dry(() => client.query(text))).rejects.toMatchObject({ code, message, table, constraint, schema })
      await keep('EXECUTE TG_ARGV[0];')
      takeEffects()
      const result = await dry(() => client.query(text))
      expect(result.rowCount).toBe(1)
      const [effect] = takeEffects()
      expect(effect?.preview?.notes?.join()).toMatch(/predicted.*23503.*orders_customer_id_fkey/)
      expect(effect?.preview?.secondary).toEqual([{ kind: 'trigger', target: 'public.orders', name: 'keeps' }])
    } finally {
      await live.query('DROP FUNCTION keep() CASCADE')
    }
  })

  it('notices a made-up id in a later query', async () => {
    await dry(async () => {
      const { rows } = await client.query('INSERT INTO orders (customer_id, total) VALUES (1, 1) RETURNING id')
      await client.query('SELECT * FROM orders WHERE id = $1', [rows[0].id])
    })
    expect(takeProblems().map(({ kind }) => kind)).toEqual(['synthetic_used'])
  })
})
