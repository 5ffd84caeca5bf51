import { createRequire } from 'node:module'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects, takeProblems } = guardPg()
const { from: copyFrom } = createRequire(import.meta.url)('pg-copy-streams') as {
  from(text: string): Writable & { rowCount: number }
}

/** Tables whose whole contents are compared, in dry runs and for real. */
const TABLES = ['item', 'log', 'bin', 'low', 'high', 'line', 'total', 'tree', 'calc', 'owner', 'pet']

const SCHEMA = `
  CREATE TABLE item (id int PRIMARY KEY, name text, n int NOT NULL DEFAULT 7 CHECK (n < 1000));
  CREATE TABLE log (what text, id int, was text, becomes text);
  CREATE TABLE bin (id int PRIMARY KEY, name text);
  INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3);
  INSERT INTO bin VALUES (77, 'kept');
  CREATE RULE b_ins AS ON INSERT TO item DO ALSO INSERT INTO log VALUES ('insert', NEW.id, NULL, NEW.name || NEW.n);
  CREATE RULE b_upd AS ON UPDATE TO item WHERE OLD.name IS DISTINCT FROM NEW.name
    DO ALSO INSERT INTO log VALUES ('update', OLD.id, OLD.name, NEW.name);
  CREATE RULE a_del AS ON DELETE TO item DO ALSO INSERT INTO log (what) VALUES ('something was deleted');
  CREATE RULE b_del AS ON DELETE TO item DO ALSO (
    INSERT INTO bin SELECT OLD.id, OLD.name; UPDATE log SET was = 'by ' || OLD.name WHERE what LIKE 'something%');

  CREATE VIEW items AS SELECT i.id, i.name, count(l.what) AS events FROM item i LEFT JOIN log l ON l.id = i.id GROUP BY i.id;
  CREATE RULE items_ins AS ON INSERT TO items DO INSTEAD
    INSERT INTO item (id, name) VALUES (NEW.id, upper(NEW.name)) RETURNING item.id, item.name, 0::bigint;
  CREATE RULE items_upd AS ON UPDATE TO items DO INSTEAD
    UPDATE item SET name = NEW.name WHERE id = OLD.id RETURNING item.id, item.name, NEW.events;
  CREATE RULE items_del AS ON DELETE TO items WHERE OLD.id > 1 DO INSTEAD DELETE FROM bin WHERE id = 77;
  CREATE RULE items_none AS ON DELETE TO items DO INSTEAD NOTHING;
  CREATE VIEW named AS SELECT name, id FROM item WHERE id < 100 WITH CHECK OPTION;

  CREATE VIEW bins AS SELECT DISTINCT id, name FROM bin;
  CREATE RULE bins AS ON INSERT TO bins DO INSTEAD
    INSERT INTO bin (id, name) VALUES (NEW.id, NEW.name) RETURNING bin.id, lower(bin.name);
  CREATE TABLE entry (id int, v text DEFAULT 'none');
  CREATE TABLE low (id int, v text);
  CREATE TABLE high (v text, id int UNIQUE);
  CREATE RULE to_low AS ON INSERT TO entry WHERE NEW.id < 10 DO INSTEAD INSERT INTO low VALUES (NEW.id, NEW.v);
  CREATE RULE to_high AS ON INSERT TO entry WHERE NEW.id >= 100 DO INSTEAD
    INSERT INTO high (id, v) VALUES (NEW.id, NEW.v), (NEW.id + 1, 'next to ' || NEW.v);
  CREATE RULE silent AS ON UPDATE TO entry DO INSTEAD NOTHING;
  CREATE RULE spared AS ON DELETE TO entry WHERE OLD.v = 'spared' DO INSTEAD NOTHING;
  INSERT INTO entry VALUES (50, 'fifty'), (60, 'spared'), (70, 'spared');

  CREATE TABLE line (id int PRIMARY KEY, qty int);
  CREATE TABLE total (id int PRIMARY KEY, sum int);
  INSERT INTO line VALUES (1, 10), (2, 20);
  INSERT INTO total VALUES (0, 30);
  CREATE RULE sums AS ON INSERT TO line DO ALSO UPDATE total SET sum = (SELECT sum(qty) FROM line);
  CREATE RULE halves AS ON UPDATE TO line DO ALSO (
    UPDATE total SET sum = sum + NEW.qty - OLD.qty; UPDATE total SET sum = sum / 2 WHERE sum > 100;
    DELETE FROM total WHERE sum > 90);

  CREATE TABLE tree (id int PRIMARY KEY, parent int, depth int);
  CREATE RULE child AS ON INSERT TO tree WHERE NEW.depth = 1 DO ALSO
    UPDATE tree SET depth = depth + 10 WHERE id = NEW.parent OR id = NEW.id;
  INSERT INTO tree VALUES (1, NULL, 0);

  CREATE TABLE calc (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
  CREATE RULE calc_log AS ON INSERT TO calc WHERE NEW.b > 5 DO ALSO INSERT INTO log (id, what) VALUES (NEW.b, 'calc');
  CREATE RULE calc_upd AS ON UPDATE TO calc DO ALSO INSERT INTO log (id, what) VALUES (NEW.b, OLD.b::text);
  INSERT INTO calc VALUES (1), (4);

  CREATE TABLE owner (id int PRIMARY KEY, name text);
  CREATE TABLE pet (owner_id int REFERENCES owner(id), name text);
  CREATE RULE gives AS ON INSERT TO owner DO ALSO INSERT INTO pet VALUES (NEW.id, 'pet of ' || NEW.name);

  CREATE TABLE loud (id int);
  CREATE RULE tells AS ON INSERT TO loud DO ALSO NOTIFY told;
  CREATE RULE shows AS ON UPDATE TO loud DO ALSO SELECT 1;
  CREATE RULE shows_log AS ON UPDATE TO loud DO ALSO INSERT INTO log VALUES ('shown');
  CREATE FUNCTION taking() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(77); RETURN 1; END';
  CREATE RULE takes AS ON DELETE TO loud DO ALSO INSERT INTO log (id) VALUES (taking());
  CREATE VIEW both_of AS SELECT id FROM low GROUP BY id;
  CREATE RULE both_of AS ON INSERT TO both_of DO INSTEAD (
    INSERT INTO low VALUES (NEW.id, 'both'); INSERT INTO high (id) VALUES (NEW.id), (NEW.id + 1); UPDATE total SET sum = 0);
  CREATE TABLE whole (a int, b text);
  CREATE VIEW wholes AS SELECT b AS second, a AS first FROM whole;
  CREATE TABLE keeps (row whole, n int);
  CREATE RULE wholes AS ON INSERT TO whole DO ALSO INSERT INTO keeps SELECT NEW, num_nulls(NEW.*);
  CREATE VIEW gone AS SELECT DISTINCT id FROM bin;
  CREATE RULE gone AS ON DELETE TO gone DO INSTEAD UPDATE bin SET name = 'gone' WHERE id = OLD.id RETURNING bin.id;
  CREATE TABLE marks (id int);
  CREATE TABLE tick (what text DEFAULT 'tick', at int DEFAULT 5);
  CREATE RULE ticks AS ON INSERT TO marks DO ALSO INSERT INTO tick DEFAULT VALUES;
  CREATE RULE ticked AS ON DELETE TO marks DO ALSO INSERT INTO tick VALUES (DEFAULT, DEFAULT);
  INSERT INTO marks VALUES (1), (2);
  CREATE TABLE off (id int);
  CREATE RULE off AS ON INSERT TO off DO INSTEAD NOTHING;
  ALTER TABLE off DISABLE RULE off;
  CREATE TABLE dice (n double precision);
  CREATE RULE rolls AS ON INSERT TO dice DO ALSO INSERT INTO log (what) VALUES (NEW.n::text);
  CREATE TABLE numbered (id serial, v text);
  CREATE RULE number AS ON INSERT TO numbered DO ALSO INSERT INTO log (id, what) VALUES (NEW.id, NEW.v);
  CREATE TABLE ping (id int);
  CREATE TABLE pong (id int);
  CREATE RULE ping AS ON INSERT TO ping DO INSTEAD INSERT INTO pong VALUES (NEW.id);
  CREATE RULE pong AS ON INSERT TO pong DO INSTEAD INSERT INTO ping VALUES (NEW.id);
`

postgresWorld(SCHEMA)

beforeEach(() => {
  takeEffects()
})

const ALL = [...TABLES, 'entry', 'marks', 'tick', 'whole', 'keeps', 'loud', 'off', 'dice', 'numbered', 'ping', 'pong']

async function contents(on: typeof client): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for (const name of ALL)
    found[name] = (await on.query(`SELECT * FROM ${name}`)).rows.map((row) => JSON.stringify(row)).sort()
  return found
}

interface Outcome {
  readonly result: unknown
  readonly after: Record<string, unknown>
}

const resultOf = async (text: string, values: unknown[], on: typeof client): Promise<unknown> => {
  const { command, rowCount, rows } = await on.query(text, values)
  return { command, rowCount, rows }
}

/** What the statement does for real, undone afterwards. */
async function forReal(text: string, values: unknown[]): Promise<Outcome> {
  await live.query('BEGIN')
  try {
    return { result: await resultOf(text, values, live), after: await contents(live) }
  } finally {
    await live.query('ROLLBACK')
  }
}

/** What the caller gets in a dry run, and what the run reads afterwards. */
async function inDryRun(text: string, values: unknown[]): Promise<Outcome> {
  return await dry(async () => ({ result: await resultOf(text, values, client), after: await contents(client) }))
}

describe('a write to what has rules answers and is read back as if executed', () => {
  it.each<[string, unknown[]?]>([
    ["INSERT INTO item VALUES (10, 'ten'), ($1, 'eleven') RETURNING *", [11]],
    ['INSERT INTO item (id, name) SELECT id + 20, name FROM item WHERE id < $1', [3]],
    ["UPDATE item SET name = name || '!', n = n + 1 WHERE id <> $1 RETURNING old.name, new.n", [2]],
    ["UPDATE item SET name = CASE WHEN id = 1 THEN 'one' ELSE 'changed' END"],
    ['UPDATE item i SET name = b.name FROM bin b WHERE i.id = b.id - 76 RETURNING i.id, b.id'],
    ['DELETE FROM item WHERE id = 2 RETURNING name'],
    ['DELETE FROM item'],
    ["WITH w AS (SELECT 4 AS id, 'with' AS s) INSERT INTO bins SELECT * FROM w RETURNING bins.id, name || '.'"],
    ['WITH w AS (DELETE FROM log RETURNING 1), x AS (INSERT INTO bins VALUES ($1) RETURNING *) SELECT * FROM x', [8]],
    ["WITH w AS (INSERT INTO high VALUES ('w', 5) RETURNING *) INSERT INTO bins SELECT id, v FROM w RETURNING *"],
    ['INSERT INTO bins SELECT id, name FROM item UNION SELECT 12, NULL'],
    ["INSERT INTO named VALUES ('through', 12)"],
    ["UPDATE named SET name = 'renamed' WHERE id = 1"],
    ['DELETE FROM named WHERE id = 3 RETURNING id'],
    ["INSERT INTO items VALUES (31, 'shout'), (32, NULL) RETURNING *, name || '?' AS asked, old.id AS none"],
    ["UPDATE items SET name = 'x' || events WHERE id < 3 RETURNING id, old.name AS was, new.name AS is, items.events"],
    ['DELETE FROM items WHERE id > 1'],
    ['DELETE FROM items WHERE id = 1'],
    ["INSERT INTO entry VALUES (1, 'low'), (50, 'middle'), (150, 'high'), (2, DEFAULT), (160, NULL)"],
    ['INSERT INTO entry SELECT g * 5, $1 FROM generate_series(0, 25) g', ['many']],
    ['INSERT INTO entry DEFAULT VALUES'],
    ["INSERT INTO whole VALUES (1, 'x'), (2, NULL)"],
    ["INSERT INTO wholes VALUES ('seen', 3)"],
    ['INSERT INTO marks VALUES (1), (2), (3)'],
    ['DELETE FROM marks WHERE id < 3'],
    ['DELETE FROM gone'],
    ['WITH w AS (DELETE FROM gone RETURNING id) SELECT id + 1 AS next FROM w'],
    ['INSERT INTO both_of VALUES (1), (5), (9)'],
    ["UPDATE entry SET v = 'never'"],
    ['DELETE FROM entry'],
    ['INSERT INTO line VALUES (3, 100), (4, 1)'],
    ['UPDATE line SET qty = qty + $1 WHERE id = 2', [50]],
    ['UPDATE line SET qty = qty + 400 WHERE id = 1'],
    ['INSERT INTO tree VALUES (2, 1, 1), (3, 1, 1), (4, 2, 2)'],
    ['INSERT INTO calc VALUES (2), (3)'],
    ['UPDATE calc SET a = a + 1 WHERE b > 2'],
    ["INSERT INTO owner VALUES (1, 'Ann') RETURNING name"],
    ['INSERT INTO off VALUES (1)'],
  ])('%s', async (text, values = []) => {
    const before = await contents(live)
    const real = await forReal(text, values)
    expect(await inDryRun(text, values)).toEqual(real)
    const [effect] = takeEffects()
    expect(effect).toMatchObject({ outcome: 'blocked', fidelity: 'exact', preview: { method: 'select' } })
    expect(await contents(live)).toEqual(before)
  })

  it('and what the run has written before counts for the rules of the next', async () => {
    const script = [
      'INSERT INTO line VALUES (3, 100)',
      'UPDATE line SET qty = 200 WHERE id = 3',
      "INSERT INTO item VALUES (40, 'forty')",
      "UPDATE item SET name = 'forty!' WHERE id = 40",
      'DELETE FROM item WHERE id IN (2, 40)',
      'UPDATE items SET name = name || events WHERE id IN (3, 40) RETURNING *',
      "UPDATE named SET name = 'named' WHERE id < 4",
      'DELETE FROM named WHERE id = 3',
      "INSERT INTO items VALUES (41, 'new'), (42, 'newer')",
      'DELETE FROM items WHERE events > 0',
      'INSERT INTO tree VALUES (5, 1, 1)',
      'INSERT INTO tree VALUES (6, 5, 1)',
    ]
    const play = async (on: typeof client) => {
      const results = []
      for (const text of script) results.push(await resultOf(text, [], on))
      return { results, after: await contents(on) }
    }
    await live.query('BEGIN')
    const real = await play(live)
    await live.query('ROLLBACK')
    expect(await dry(() => play(client))).toEqual(real)
    expect(takeEffects().filter(({ outcome, fidelity }) => outcome === 'blocked' && fidelity !== 'exact')).toEqual([])
  })
})

it('a write that was worked out before answers the same, with its rules', async () => {
  const text = 'INSERT INTO bins VALUES ($1, $2) RETURNING *'
  const rows = await dry(async () => {
    const found = []
    for (const id of [501, 502, 503]) found.push(...(await client.query(text, [id, `Bin ${id}`])).rows)
    return [...found, (await client.query('SELECT count(*)::int AS n FROM bin WHERE id > 500')).rows[0]]
  })
  expect(rows).toEqual([...[501, 502, 503].map((id) => ({ id, name: `bin ${id}` })), { n: 3 }])
  const effects = takeEffects().filter(({ outcome }) => outcome === 'blocked')
  expect(effects.map(({ preview }) => preview?.secondary)).toEqual(
    Array(3).fill([{ kind: 'rule', target: 'public.bins', name: 'bins' }]),
  )
})

describe('an action that would fail fails the statement', () => {
  it.each([
    ["INSERT INTO items VALUES (1, 'taken')"],
    ["INSERT INTO entry VALUES (100, 'a'), (101, 'b')"],
    ["INSERT INTO owner VALUES (1, 'Ann'), (1, 'Again')"],
    ["INSERT INTO named VALUES ('outside', 500)"],
    ['INSERT INTO ping VALUES (1)'],
    ["UPDATE item SET name = 'x', n = 5000"],
  ])('%s', async (text) => {
    const real = await forReal(text, []).catch((error: unknown) => error)
    expect(real).toBeInstanceOf(Error)
    const { code, message } = real as { code: string; message: string }
    const foretold = await dry(() => client.query(text).catch((error: unknown) => error))
    expect(foretold).toMatchObject({ code, message })
  })
})

describe('the report', () => {
  const previewOf = async (text: string) => {
    await dry(() => client.query(text))
    return takeEffects()[0]
  }

  it('names the rules that fired, and what they wrote', async () => {
    const effect = await previewOf("UPDATE item SET name = 'z' WHERE id = 1")
    expect(effect?.preview?.secondary).toEqual([{ kind: 'rule', target: 'public.item', name: 'b_upd' }])
    expect(effect?.preview?.diff.map(({ target, field, after }) => [target, field, after])).toEqual(
      expect.arrayContaining([
        ['public.log', 'was', 'one'],
        ['public.item', 'name', 'z'],
      ]),
    )
  })

  it('says what a rule does that is no write', async () => {
    const heard: string[] = []
    live.on('notification', ({ channel }) => heard.push(channel))
    await live.query('LISTEN told')
    const effect = await previewOf('INSERT INTO loud VALUES (1)')
    expect(effect?.preview?.notes).toEqual(['rule tells would notify told'])
    expect(effect?.fidelity).toBe('plausible')
    await live.query('SELECT 1')
    expect(heard).toEqual([])
    await live.query('UNLISTEN told')
  })

  it('gives no result for a rule that shows rows of its own', async () => {
    const effect = await previewOf('UPDATE loud SET id = 2')
    expect(effect?.preview).toMatchObject({ method: 'synthesized' })
    expect(effect?.preview?.notes?.join()).toMatch(/no preview: Select in rule shows/)
  })

  it('and says of what its rules write that it is not known', async () => {
    takeProblems()
    await dry(async () => {
      await client.query('UPDATE loud SET id = 2')
      await client.query('SELECT * FROM log')
    })
    expect(takeProblems().map(({ message }) => message)).toEqual([
      expect.stringMatching(/not overlaid: SELECT log .*what the run did to "log" is not all known/),
    ])
  })

  it('calls no function of a rule that reaches out of the transaction', async () => {
    const effect = await previewOf('DELETE FROM loud')
    expect(effect?.preview?.notes?.join()).toMatch(/no preview: it would call taking/)
    expect((await live.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'")).rows).toEqual([])
  })

  it('does not claim to know what an expression gives that every action evaluates again', async () => {
    const effect = await previewOf('INSERT INTO dice VALUES (random())')
    expect(effect?.fidelity).toBe('plausible')
    expect(effect?.preview?.notes).toEqual(['rules would call random() again wherever their actions use what it gives'])
  })

  it('gives each evaluation of a sequence an id of its own, as the server does', async () => {
    const effect = await previewOf("INSERT INTO numbered (v) VALUES ('a'), ('b')")
    const ids = effect?.preview?.diff.flatMap(({ field, after }) => (field === 'id' ? [after] : []))
    expect(new Set(ids).size).toBe(4)
    expect([...new Set(effect?.syntheticIds)].sort()).toEqual(ids?.map(String).sort())
  })
})

it('rules count as the session has them', async () => {
  await live.query('SET session_replication_role = replica; ALTER TABLE off ENABLE REPLICA RULE off')
  try {
    const text = 'INSERT INTO off VALUES (9)'
    expect((await inDryRun(text, [])).result).toMatchObject({ rowCount: 1 })
    expect((await forReal(text, [])).result).toMatchObject({ rowCount: 0 })
    await live.query('SET session_replication_role = origin')
    expect((await forReal(text, [])).result).toMatchObject({ rowCount: 1 })
  } finally {
    await live.query('SET session_replication_role = origin; ALTER TABLE off DISABLE RULE off')
  }
})

it('COPY FROM knows no rules', async () => {
  const copied = async (on: typeof client) => {
    const stream = on.query(copyFrom('COPY entry FROM STDIN') as never) as ReturnType<typeof copyFrom>
    await pipeline(Readable.from(['1\ta\n2\tb\n'], { objectMode: false }), stream)
    return [stream.rowCount, await contents(on)]
  }
  await live.query('BEGIN')
  const real = await copied(live)
  await live.query('ROLLBACK')
  expect(await dry(() => copied(client))).toEqual(real)
  expect(takeEffects()[0]?.preview?.secondary).toBeUndefined()
})
