import { beforeEach, describe, expect, it } from 'vitest'
import { runForReal, runScript, type Step } from '../../support/postgres-scripts.js'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

const { dry, takeEffects } = guardPg()

const SCHEMA = `
  CREATE EXTENSION pg_walinspect;
  CREATE TABLE fruit (
    id int PRIMARY KEY, name text NOT NULL, place text, n int NOT NULL DEFAULT 0 CHECK (n >= 0), state text,
    doubled int GENERATED ALWAYS AS (n * 2) STORED);
  CREATE UNIQUE INDEX fruit_name ON fruit (lower(name));
  CREATE UNIQUE INDEX fruit_place ON fruit (place) WHERE state = 'on';
  CREATE TABLE single (k int, v text, UNIQUE NULLS NOT DISTINCT (k));
  CREATE TABLE booking (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));
  CREATE TABLE later (k int CONSTRAINT later_key UNIQUE DEFERRABLE, v text);
  CREATE TABLE parent (k int PRIMARY KEY, v text);
  CREATE TABLE child () INHERITS (parent);
  CREATE TABLE spread (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
  CREATE TABLE spread_low PARTITION OF spread FOR VALUES FROM (0) TO (10);
  CREATE TABLE spread_high PARTITION OF spread FOR VALUES FROM (10) TO (20);
  CREATE VIEW basket AS SELECT upper(place) AS shown, name AS title, id AS number, n FROM fruit WHERE n < 100 WITH CHECK OPTION;
  CREATE VIEW outer_basket AS SELECT number, title, n AS many FROM basket WHERE number > 0;
  CREATE VIEW grouped AS SELECT n, count(*) FROM fruit GROUP BY n;
  CREATE FUNCTION locks(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock($1); RETURN $1; END';
  CREATE TABLE two_keys (a int PRIMARY KEY, b int UNIQUE);
  INSERT INTO two_keys VALUES (1, 1), (2, 2);
  CREATE TABLE low (id serial CHECK (id < 100), k int UNIQUE, v text NOT NULL);
  CREATE TABLE same (a int, b text, c int, PRIMARY KEY (a, b));
  INSERT INTO fruit VALUES (1, 'Apple', 'here', 1, 'on'), (2, 'Pear', 'there', 2, 'off'), (3, 'Melon', 'far', 500, NULL);
  INSERT INTO single VALUES (NULL, 'none'), (1, 'one');
  INSERT INTO booking VALUES (1, '[1,5)'), (2, '[10,15)');
  INSERT INTO later VALUES (1, 'one');
  INSERT INTO parent VALUES (1, 'p');
  INSERT INTO child VALUES (2, 'c');
  INSERT INTO spread VALUES (1, 'low'), (11, 'high');
  INSERT INTO low (k, v) VALUES (1, 'one');
  INSERT INTO same VALUES (50, 'fifty', 1);
`
const TABLES = ['fruit', 'single', 'booking', 'later', 'ONLY parent', 'child', 'spread', 'same', 'two_keys']

postgresWorld(SCHEMA)
const unchanged = leavesUnchanged([
  'fruit',
  'single',
  'booking',
  'later',
  'parent',
  'child',
  'spread',
  'same',
  'two_keys',
  'low',
])

beforeEach(() => {
  takeEffects()
})

/** Each statement by itself, and all of them one after the other in one run. */
function compared(name: string, script: readonly Step[], fidelity: readonly string[] = ['exact']): void {
  describe(name, () => {
    it.each(script)('%s', async (text, values = []) => {
      const expected = await runForReal(live, [[text, values]], [])
      await unchanged.renew()
      const found = await dry(() => runScript(client, [[text, values]], [], false))
      expect(found).toEqual(expected)
      const effects = takeEffects()
      expect(effects).toMatchObject([{ outcome: 'blocked' }])
      expect(fidelity).toContain(effects[0]?.fidelity)
    })

    it('one after the other, twice', async () => {
      const twice = [...script, ...script]
      // Reads of the parent take child tables in, which the run's own rows do not.
      const tables = TABLES.filter((table) => !/parent|child/.test(table))
      const expected = await runForReal(live, twice, tables)
      await unchanged.renew()
      expect(await dry(() => runScript(client, twice, tables, false))).toEqual(expected)
    })
  })
}

compared('inference is that of the server', [
  [
    "INSERT INTO fruit VALUES (9, 'APPLE', 'x', 7) ON CONFLICT (lower(name)) DO UPDATE SET n = fruit.n + excluded.n RETURNING *",
  ],
  ["INSERT INTO fruit VALUES (9, $1, 'x', 7) ON CONFLICT (lower(name)) DO NOTHING RETURNING id", ['pEAR']],
  ["INSERT INTO fruit (id, name) VALUES (10, 'New'), (11, 'NEW') ON CONFLICT (lower(name)) DO UPDATE SET n = 5"],
  [
    "INSERT INTO fruit (id, name) VALUES (20, 'Fig'), (21, 'FIG'), (22, 'Kiwi') ON CONFLICT (lower(name)) DO NOTHING RETURNING id, name",
  ],
  [
    "INSERT INTO fruit VALUES (30, 'Plum', 'here', 3, 'on') ON CONFLICT (place) WHERE state = 'on' DO UPDATE SET n = 33 RETURNING id, n",
  ],
  [
    "INSERT INTO fruit VALUES (31, 'Lime', 'here', 3, 'off') ON CONFLICT (place) WHERE state = 'on' DO UPDATE SET n = 34 RETURNING id, n",
  ],
  ["INSERT INTO fruit VALUES (32, 'Nut', 'here', 3, 'on') ON CONFLICT (place) DO UPDATE SET n = 33"],
  ["INSERT INTO fruit VALUES (33, 'Date', 'here', 3, 'on') ON CONFLICT (place) WHERE n > 0 DO UPDATE SET n = 33"],
  ["INSERT INTO fruit VALUES (1, 'Other') ON CONFLICT (id, id) DO UPDATE SET n = 44 RETURNING name, n"],
  ["INSERT INTO fruit VALUES (1, 'Other') ON CONFLICT (name) DO NOTHING"],
  ["INSERT INTO fruit VALUES (1, 'Other') ON CONFLICT (upper(name)) DO NOTHING"],
  ["INSERT INTO fruit VALUES (1, 'Pear') ON CONFLICT (id) DO UPDATE SET name = excluded.name"],
  ["INSERT INTO fruit VALUES (40, 'Pear') ON CONFLICT (id) DO NOTHING"],
  ["INSERT INTO single VALUES (NULL, 'again'), (2, 'two'), (2, 'too'), (1, 'uno') ON CONFLICT DO NOTHING RETURNING *"],
  ["INSERT INTO single VALUES (NULL, 'again') ON CONFLICT (k) DO UPDATE SET v = single.v || excluded.v RETURNING *"],
  [
    "INSERT INTO spread VALUES (1, 'x'), (12, 'y') ON CONFLICT (k) DO UPDATE SET v = spread.v || excluded.v RETURNING *",
  ],
])

compared('what the new row itself breaks comes first', [
  ['INSERT INTO fruit (id, name) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET n = 3'],
  ["INSERT INTO fruit (id, name, n) VALUES (1, 'x', -1) ON CONFLICT DO NOTHING"],
  ["INSERT INTO fruit (id, name, n) VALUES (1, 'x', -1) ON CONFLICT (id) DO UPDATE SET n = 3"],
  ["INSERT INTO fruit (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET n = -3"],
  ["INSERT INTO fruit (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET n = -3 WHERE fruit.n > 100"],
])

compared('a row of a statement is written once', [
  ["INSERT INTO fruit (id, name) VALUES (1, 'a'), (1, 'b') ON CONFLICT (id) DO UPDATE SET n = 3"],
  ["INSERT INTO fruit (id, name) VALUES (1, 'a'), (1, 'b') ON CONFLICT (id) DO UPDATE SET id = excluded.id, n = 7"],
  [
    "INSERT INTO fruit (id, name) VALUES (1, 'a'), (1, 'b') ON CONFLICT (id) DO UPDATE SET n = 3 WHERE excluded.name = 'b' RETURNING n",
  ],
  ["INSERT INTO fruit (id, name) VALUES (50, 'a'), (50, 'b') ON CONFLICT (id) DO NOTHING RETURNING name"],
])

compared('of several keys', [
  ['INSERT INTO two_keys VALUES (10, 5), (11, 5) ON CONFLICT (a) DO NOTHING'],
  ['INSERT INTO two_keys VALUES (10, 5), (11, 5) ON CONFLICT (a) DO UPDATE SET b = 6'],
  ['INSERT INTO two_keys VALUES (1, 5), (2, 5) ON CONFLICT (a) DO UPDATE SET b = excluded.b'],
  ['INSERT INTO two_keys VALUES (1, 5), (10, 2), (11, 11) ON CONFLICT DO NOTHING RETURNING *'],
])

compared('SET takes subqueries, rows and whole rows', [
  [
    "INSERT INTO fruit (id, name) VALUES (1, 'x'), (2, 'y') ON CONFLICT (id) DO UPDATE SET (n, state) = (SELECT i.n + 1, excluded.name FROM fruit i WHERE i.id = fruit.id) RETURNING *",
  ],
  [
    "WITH given AS (SELECT 5 AS five) INSERT INTO fruit (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET (n, state) = (SELECT five, name FROM given) RETURNING n, state",
  ],
  [
    "INSERT INTO fruit (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET (n, state) = ROW(fruit.n + 8, excluded.name) RETURNING *",
  ],
  [
    "INSERT INTO same VALUES (50, 'fifty', 2) ON CONFLICT (a, b) DO UPDATE SET (a, b, c) = ROW(excluded.*) WHERE same = (50, text 'fifty', 1) AND excluded = (50, text 'fifty', 2) RETURNING *",
  ],
  [
    "INSERT INTO same AS s VALUES (50, 'fifty', 2) ON CONFLICT (a, b) DO UPDATE SET c = 3 WHERE s.* <> excluded.* RETURNING *",
  ],
  [
    "INSERT INTO same AS s VALUES (50, 'fifty', 1) ON CONFLICT (a, b) DO UPDATE SET c = 4 WHERE s.* = excluded.* RETURNING *",
  ],
  ["INSERT INTO same VALUES (50, 'fifty', 1) ON CONFLICT (a, b) DO UPDATE SET b = excluded.*::text RETURNING *"],
])

compared('through a view', [
  [
    "INSERT INTO basket (number, title) VALUES (1, 'Golden') ON CONFLICT (number) DO UPDATE SET title = excluded.title RETURNING *, old.title, new.number",
  ],
  [
    "INSERT INTO basket (number, title) VALUES (60, 'Olive') ON CONFLICT (number) DO UPDATE SET title = excluded.title RETURNING *",
  ],
  [
    "INSERT INTO basket (number, title) VALUES (2, 'x') ON CONFLICT (number) DO UPDATE SET title = basket.shown || coalesce(excluded.shown, '-') WHERE basket.n = 2 RETURNING *",
  ],
  [
    "INSERT INTO basket AS b (number, title) VALUES (2, 'x') ON CONFLICT (number) DO UPDATE SET title = 'was ' || b.* RETURNING title",
  ],
  [
    "INSERT INTO basket (number, title) VALUES (61, 'APPLE') ON CONFLICT (lower(title)) DO UPDATE SET n = 61 RETURNING number, n",
  ],
  ["INSERT INTO basket (number, title) VALUES (1, 'x'), (62, 'Cherry') ON CONFLICT DO NOTHING RETURNING *"],
  ["INSERT INTO basket (number, title, n) VALUES (1, 'x', 1) ON CONFLICT (number) DO UPDATE SET n = 100"],
  ["INSERT INTO basket (number, title, n) VALUES (63, 'y', 100) ON CONFLICT (number) DO NOTHING"],
  // Outside of the view, but in the way.
  [
    "INSERT INTO basket (number, title) VALUES (3, 'Small melon') ON CONFLICT (number) DO UPDATE SET title = excluded.title, n = 3 RETURNING *",
  ],
  [
    "INSERT INTO outer_basket VALUES (1, 'Deep', 4) ON CONFLICT (number) DO UPDATE SET many = excluded.many + outer_basket.many RETURNING *",
  ],
])

compared(
  'exclusion constraints and deferrable ones',
  [
    ["INSERT INTO booking VALUES (3, '[4,6)') ON CONFLICT DO NOTHING"],
    [
      "INSERT INTO booking VALUES (3, '[20,30)'), (4, '[25,35)'), (5, '[31,40)'), (6, '[12,13)') ON CONFLICT DO NOTHING RETURNING id",
    ],
    ["INSERT INTO booking VALUES (1, '[50,60)') ON CONFLICT (id) DO NOTHING"],
    ["INSERT INTO booking VALUES (7, '[11,12)') ON CONFLICT ON CONSTRAINT booking_during_excl DO NOTHING"],
    ["INSERT INTO booking VALUES (7, '[11,12)') ON CONFLICT ON CONSTRAINT booking_during_excl DO UPDATE SET id = 8"],
    ["INSERT INTO later VALUES (1, 'x') ON CONFLICT DO NOTHING"],
    ["INSERT INTO later VALUES (5, 'x') ON CONFLICT (k) DO NOTHING"],
    ["INSERT INTO later VALUES (5, 'x') ON CONFLICT ON CONSTRAINT later_key DO NOTHING"],
  ],
  ['exact', 'plausible'],
)

it('the planner is not asked about what would lock while it plans', async () => {
  const text = "INSERT INTO fruit (id, name) VALUES (90, 'x') ON CONFLICT ((locks(1) + id)) DO NOTHING"
  await dry(() => client.query(text).catch(() => {}))
  expect(takeEffects()).toMatchObject([{ outcome: 'blocked', fidelity: 'plausible' }])
})

it('two parts that write the same row are told of', async () => {
  const text =
    'WITH a AS (UPDATE two_keys SET b = 7 WHERE a = 1 RETURNING a) UPDATE two_keys SET b = 8 FROM a WHERE two_keys.a = a.a'
  await dry(() => client.query(text))
  expect(takeEffects()).toMatchObject([{ outcome: 'blocked', fidelity: 'plausible' }])
})

it('an id that is made up breaks nothing of the row that is there', async () => {
  const update = "INSERT INTO low (k, v) VALUES (1, 'two') ON CONFLICT (k) DO UPDATE SET v = excluded.v RETURNING *"
  const { rows } = await dry(() => client.query(update))
  expect(rows).toEqual([{ id: 1, k: 1, v: 'two' }])
  const { rowCount } = await dry(() => client.query("INSERT INTO low (k, v) VALUES (1, 'two') ON CONFLICT DO NOTHING"))
  expect(rowCount).toBe(0)
})

it('a key that is given up is not guessed about', async () => {
  const other =
    'INSERT INTO fruit (id, name) VALUES ($1, $2), ($3, $4) ON CONFLICT (id) DO UPDATE SET id = fruit.id + 100'
  const exact = await dry(() => client.query(other, [1, 'a', 2, 'b']))
  expect(exact.rowCount).toBe(2)
  expect(takeEffects()).toMatchObject([{ fidelity: 'exact' }])
  // It was worked out a moment ago, with other values.
  expect((await dry(() => client.query(other, [1, 'a', 1, 'b']))).rowCount).toBe(2)
  expect(takeEffects()).toMatchObject([{ outcome: 'blocked', fidelity: 'plausible' }])
  const text =
    "INSERT INTO fruit (id, name) VALUES (1, 'a'), (1, 'b') ON CONFLICT (id) DO UPDATE SET id = fruit.id + 100"
  const { rowCount } = await dry(() => client.query(text))
  expect(rowCount).toBe(2)
  const [effect] = takeEffects()
  expect(effect).toMatchObject({ outcome: 'blocked', fidelity: 'plausible', preview: { method: 'synthesized' } })
})

describe('a parent knows nothing of the keys of its children', () => {
  it.each<Step>([
    ["INSERT INTO parent VALUES (2, 'new') ON CONFLICT (k) DO UPDATE SET v = 'updated' RETURNING *"],
    ["INSERT INTO parent VALUES (2, 'new') ON CONFLICT DO NOTHING RETURNING *"],
    ["INSERT INTO parent VALUES (1, 'new') ON CONFLICT (k) DO UPDATE SET v = 'updated' RETURNING *"],
  ])('%s', async (text, values = []) => {
    const expected = await runForReal(live, [[text, values]], [])
    await unchanged.renew()
    expect(await dry(() => runScript(client, [[text, values]], [], false))).toEqual(expected)
  })
})

compared('MERGE and parts of WITH', [
  [
    "MERGE INTO fruit f USING (VALUES (1, 'x')) s(i, w) ON f.id = s.i WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN DO NOTHING",
  ],
  ['MERGE INTO grouped g USING (VALUES (1)) s(i) ON g.n = s.i WHEN MATCHED THEN DO NOTHING'],
  ['WITH gone AS (DELETE FROM same RETURNING *) INSERT INTO spread SELECT a - 48, b FROM gone'],
  [
    'WITH gone AS (DELETE FROM spread WHERE k = 11 RETURNING *) INSERT INTO single SELECT * FROM gone ON CONFLICT DO NOTHING RETURNING *',
  ],
])
