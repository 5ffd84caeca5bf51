import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg()

const SCHEMA = `
  CREATE TYPE spot AS (x int, labels varchar(5)[]);
  CREATE TYPE room AS (name text, at spot, doors spot[]);
  CREATE DOMAIN pair AS int[] CHECK (array_length(VALUE, 1) = 2 AND VALUE[1] > 0);
  CREATE DOMAIN named_spot AS spot CHECK ((VALUE).x IS NULL OR (VALUE).labels IS NOT NULL);
  CREATE TABLE grid (id int PRIMARY KEY, one int[], two int[], boxes box[], names text[], room room, rooms room[],
    pair pair, spot named_spot, at point, doc jsonb, short varchar(3)[]);
  INSERT INTO grid VALUES
    (1, '{1,2,3}', '{{1,2},{3,4}}', '{(1,1),(0,0);(2,2),(1,1)}', '[0:1]={a b,NULL}', ROW('hall', ROW(1, '{a,b}'), NULL),
      ARRAY[ROW('r', ROW(2, NULL), '{}')]::room[], '{1,2}', ROW(1, '{x}'), '(1,2)', '{"a": [1, {"b": 2}], "k": 5}', '{abc}'),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (3, '{}', '[2:3][0:1]={{5,6},{7,8}}', '{}', '{}', ROW(NULL, NULL, '{}'), '{}', '{3,4}', ROW(2, '{}'), '(0,-1)', '[1, 2]', '{}');
  CREATE VIEW numbered AS SELECT ctid, id * 2 AS double, id, one FROM grid;
  CREATE FUNCTION id_of(n numbered) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT (n).id';
  CREATE TABLE tagged (id int PRIMARY KEY, own regclass GENERATED ALWAYS AS (tableoid) STORED);
  CREATE TABLE upserted (id int PRIMARY KEY, v text, n int);
  CREATE SEQUENCE numbers;
  CREATE DOMAIN number AS int DEFAULT nextval('numbers');
  CREATE TABLE drawn (id number PRIMARY KEY, v text);
  INSERT INTO upserted VALUES (1, 'a', 1), (2, 'b', 2);
`

postgresWorld(SCHEMA)

const asText = { getTypeParser: () => (value: unknown) => value }

async function outcome(text: string, values: unknown[]) {
  try {
    const { command, rowCount, rows } = await client.query({ text, values, types: asText as never })
    return { command, rowCount, rows }
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return { code, message }
  }
}

/** Real execution on the same connection, undone. */
async function forReal(text: string, values: unknown[]) {
  await client.query('BEGIN')
  try {
    return await outcome(text, values)
  } finally {
    await client.query('ROLLBACK')
  }
}

const digest = async () =>
  (await live.query("SELECT md5(string_agg(g::text, ',' ORDER BY id)) FROM grid g")).rows[0] as unknown

beforeEach(() => {
  takeEffects()
})

describe('a part of a column becomes what it would have become', () => {
  it.each<[string, unknown[]?]>([
    ['UPDATE grid SET one[2] = 20, one[5] = $1 RETURNING id, one', [50]],
    ['UPDATE grid SET one[-1] = 0 WHERE id = 1 RETURNING one'],
    ["UPDATE grid SET one[2:3] = '{8,9,10}' RETURNING one"],
    ["UPDATE grid SET one[4] = 4, one[6:7] = '{6,7}' WHERE id = 1 RETURNING one"],
    ['UPDATE grid SET two[1][2] = 9 WHERE id = 1 RETURNING two'],
    ['UPDATE grid SET two[1][2] = 9, two[2][2] = 10 WHERE id = 1 RETURNING two'],
    ["UPDATE grid SET two[1:2][2:2] = '{20,40}' WHERE id = 1 RETURNING two"],
    ["UPDATE grid SET two[2:2] = '{30,40}' WHERE id = 1 RETURNING two"],
    ["UPDATE grid SET two[2:][:1] = '{50,70,60,80}' WHERE id = 3 RETURNING two"],
    ["UPDATE grid SET two[3:4][7] = '{1,2,3,4,5,6,7,8,9,10,11,12,13,14}' WHERE id = 2 RETURNING two"],
    ['UPDATE grid SET one[2:3] = NULL RETURNING one'],
    ["UPDATE grid SET boxes[2] = '(9,9),(8,8)', names[2] = 'x \"y\" {z}', names[5] = 'NULL' RETURNING boxes, names"],
    ["UPDATE grid SET room.at.x = 7, room.at.labels[2] = 'lab' RETURNING room"],
    ["UPDATE grid SET room.doors[2].x = id, room.doors[2].labels = '{q}' RETURNING room"],
    ["UPDATE grid SET rooms[1].at.labels[3] = 'deep', rooms[2].name = 'new' RETURNING rooms"],
    ['UPDATE grid SET pair[1] = 5, pair[2] = 6 RETURNING pair'],
    ["UPDATE grid SET spot.x = 9, spot.labels = '{n}' RETURNING spot"],
    ['UPDATE grid SET at[0] = 10 RETURNING at'],
    ['UPDATE grid SET at[1] = NULL, at[0] = -4.5 RETURNING at'],
    ["UPDATE grid SET doc['a'][1]['b'] = '3', doc['new'] = '[]' WHERE id < 3 RETURNING doc"],
    [`UPDATE grid SET doc[id] = to_jsonb(id) WHERE id > 1 RETURNING doc`],
    [`UPDATE grid SET doc[$1] = '1' WHERE id < 3 RETURNING doc`, ['key']],
    [`UPDATE grid SET doc[-1] = '"last"', doc[5]['7'] = '1' WHERE id = 3 RETURNING doc`],
    ["UPDATE grid SET doc['1'] = NULL RETURNING doc"],
    ["INSERT INTO grid (id, room.at.x, room.at.labels[2], pair[1], pair[2]) VALUES (8, 1, 'l', 3, 4) RETURNING *"],
    ["INSERT INTO grid (id, rooms[2].at.x, two[1:1][1:2], doc['a']) SELECT 9, 4, '{{1,2}}', '7' RETURNING *"],
    ['INSERT INTO grid (id, at[0], one[2]) VALUES (10, 1, 1), (11, 2, NULL) RETURNING at, one'],
    ["INSERT INTO grid (id, short[1]) VALUES (12, 'xyz  ') RETURNING short"],
  ])('%s', async (text, values = []) => {
    const expected = await forReal(text, values)
    expect(expected).toHaveProperty('rowCount')
    const before = await digest()
    expect(await dry(() => outcome(text, values))).toEqual(expected)
    expect(await digest()).toEqual(before)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', fidelity: 'exact', preview: { method: 'select' } }])
  })
})

describe('and fails as it would have failed', () => {
  it.each<[string, boolean?]>([
    ['UPDATE grid SET one[NULL] = 1'],
    ['UPDATE grid SET one[1][1] = 1 WHERE id = 1'],
    ['UPDATE grid SET two[3][1] = 1 WHERE id = 1'],
    ["UPDATE grid SET two[1:2] = '{1,2,3}' WHERE id = 1"],
    ["UPDATE grid SET one[3:2] = '{}' WHERE id = 1"],
    ["UPDATE grid SET one[1:5] = '{1,2}' WHERE id = 1"],
    ["UPDATE grid SET one[:] = '{1,2}' WHERE id = 3", false],
    ['UPDATE grid SET one[200000000] = 1 WHERE id = 1'],
    ['UPDATE grid SET one[2147483647] = 1 WHERE id = 1', false],
    ["UPDATE grid SET one[2147483646:2147483647] = '{1,2}' WHERE id = 3", false],
    ['UPDATE grid SET at[2] = 1 WHERE id = 1'],
    ["UPDATE grid SET short[1] = 'too long'"],
    ["UPDATE grid SET room.at.labels[1] = 'too long'"],
    ["UPDATE grid SET doc[NULL] = '1'"],
    ["UPDATE grid SET doc[-9] = '1' WHERE id = 3"],
    ["UPDATE grid SET doc['x'] = '1' WHERE id = 3"],
    ["UPDATE grid SET doc['k']['x'] = '1' WHERE id = 1"],
    ['UPDATE grid SET pair[1] = -1 WHERE id = 1', false],
    ['INSERT INTO grid (id, pair[1]) VALUES (20, 1)', false],
    ['INSERT INTO grid (id, spot.x) VALUES (20, 1)', false],
  ])('%s', async (text, sameWords = true) => {
    const expected = (await forReal(text, [])) as { code: string; message: string }
    expect(expected.code).toMatch(/^(22|23|54)/)
    const foretold = await dry(() => outcome(text, []))
    expect(foretold).toMatchObject(sameWords ? expected : { code: expected.code })
  })

  it('or is not worked out where that would build a huge array', async () => {
    const result = await dry(() => outcome('UPDATE grid SET one[2000000] = 1 WHERE id = 1', []))
    expect(result).toMatchObject({ command: 'UPDATE' })
    expect(takeEffects()).toMatchObject([{ preview: { method: 'synthesized', notes: ['no preview: a huge array'] } }])
  })
})

describe('rows as a whole', () => {
  it.each<[string]>([
    ['UPDATE numbered n SET one = NULL WHERE id_of(n) = 1 RETURNING id_of(n), n.double'],
    ['DELETE FROM numbered n WHERE id_of(n) = 3 RETURNING double, id'],
    ['INSERT INTO numbered (id) VALUES (40) RETURNING double'],
    [
      'UPDATE upserted SET (v, n) = ROW(s.*) FROM (VALUES (1, $$x$$, 7)) AS s0(i, a, b), (VALUES ($$x$$, 7)) AS s(a, b) WHERE id = s0.i RETURNING *',
    ],
    [
      'INSERT INTO upserted VALUES (1, $$new$$, 5), (3, $$c$$, 3) ON CONFLICT (id) DO UPDATE SET (id, v, n) = ROW(excluded.*) WHERE upserted.* <> excluded.* RETURNING *',
    ],
    [
      'INSERT INTO upserted AS u VALUES (2, $$b$$, 2) ON CONFLICT (id) DO UPDATE SET v = excluded::text WHERE u = excluded RETURNING v',
    ],
    ['INSERT INTO tagged VALUES (1), (2) RETURNING *'],
    [
      'MERGE INTO upserted u USING (VALUES (1), (9)) s(i) ON u.id = s.i WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN DO NOTHING',
    ],
  ])('%s', async (text) => {
    const expected = await forReal(text, [])
    expect(expected).toHaveProperty('rowCount')
    expect(await dry(() => outcome(text, []))).toEqual(expected)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', preview: { method: 'select' } }])
  })

  it('have system columns, made up where the row is not there yet', async () => {
    const text =
      'UPDATE upserted SET n = 9 WHERE id = 1 RETURNING old.ctid AS was, new.ctid AS is, ctid, xmin::text, new.tableoid::regclass AS t'
    const [expected] = ((await forReal(text, [])) as { rows: { was: string; t: string }[] }).rows
    const { rows } = (await dry(() => outcome(text, []))) as { rows: unknown[] }
    const ctid = '(4294967294,65535)'
    expect(rows).toEqual([{ was: expected?.was, is: ctid, ctid, xmin: '4294967295', t: expected?.t }])
    const [effect] = takeEffects()
    expect(effect).toMatchObject({ fidelity: 'plausible', preview: { notes: ['ctid, xmin of new rows is made up'] } })
  })

  it('take ids from a sequence that only the type’s default names', async () => {
    const { rows } = (await dry(() => outcome("INSERT INTO drawn (v) VALUES ('x'), ('y') RETURNING id", []))) as {
      rows: { id: string }[]
    }
    expect(new Set(rows.map(({ id }) => id)).size).toBe(2)
    for (const { id } of rows) expect(Number(id)).toBeGreaterThanOrEqual(2_000_000_000)
    expect((await live.query('SELECT is_called FROM numbers')).rows).toEqual([{ is_called: false }])
  })

  it('are those the run has written', async () => {
    await dry(async () => {
      await client.query("UPDATE upserted SET v = 'mine' WHERE id = 1")
      const { rows } = await client.query('UPDATE upserted u SET n = n + 1 WHERE u::text LIKE $1 RETURNING u::text', [
        '%mine%',
      ])
      expect(rows).toEqual([{ u: '(1,mine,2)' }])
    })
  })
})
