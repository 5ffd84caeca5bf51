import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg()

const SCHEMA = `
  CREATE TABLE task (id int PRIMARY KEY, state text, note text);
  CREATE TABLE loose (a int, b text);
  CREATE TABLE parent (k int);
  CREATE TABLE child () INHERITS (parent);
  CREATE TABLE other (k int);
  CREATE SEQUENCE counter;
  INSERT INTO task SELECT g, 'open', 'n' || g FROM generate_series(1, 5) g;
  INSERT INTO loose VALUES (1, 'x'), (2, 'y'), (2, 'y'), (3, NULL);
  INSERT INTO parent VALUES (1);
  INSERT INTO child VALUES (2), (3);
`
const TABLES = ['task', 'loose', 'parent', 'other']

postgresWorld(SCHEMA)

const contents = async () => {
  const parts = TABLES.map((name) => `(SELECT string_agg(t::text, ',' ORDER BY t::text) FROM ${name} t) AS ${name}`)
  return (await live.query(`SELECT ${parts.join(', ')}, (SELECT is_called FROM counter) AS drawn`)).rows[0] as unknown
}

/** The statements one by one on one connection: what the last of them gave. */
async function script(statements: readonly string[]) {
  await client.query('BEGIN')
  try {
    for (const text of statements.slice(0, -1)) await client.query(text)
    const { command, rowCount, rows } = await client.query(statements.at(-1) ?? '')
    return { command, rowCount, rows }
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return { code, message }
  } finally {
    await client.query('ROLLBACK')
  }
}

beforeEach(() => {
  takeEffects()
})

const DECLARE = 'DECLARE c CURSOR FOR SELECT * FROM task WHERE id > 1'

describe('the row a cursor stands on', () => {
  it.each<[string, string[]]>([
    ['is updated', [DECLARE, 'FETCH 2 FROM c', "UPDATE task SET state = 'done' WHERE CURRENT OF c RETURNING *"]],
    ['is deleted', [DECLARE, 'FETCH 2 FROM c', 'DELETE FROM task t WHERE CURRENT OF c RETURNING t.id']],
    [
      'is found by the columns it shows',
      [
        'DECLARE c CURSOR FOR SELECT b FROM loose WHERE a < 3',
        'FETCH c',
        'UPDATE loose SET a = 9 WHERE CURRENT OF c RETURNING *',
      ],
    ],
    [
      'may hold NULL',
      [
        'DECLARE c SCROLL CURSOR FOR SELECT * FROM loose',
        'FETCH LAST FROM c',
        'DELETE FROM loose WHERE CURRENT OF c RETURNING *',
      ],
    ],
    [
      'may be of a table below',
      [
        'DECLARE c CURSOR FOR SELECT * FROM parent',
        'FETCH 2 FROM c',
        'UPDATE parent SET k = 20 WHERE CURRENT OF c RETURNING tableoid::regclass, k',
      ],
    ],
    [
      'is not locked, as dry cursors lock nothing',
      [
        'DECLARE c CURSOR FOR SELECT * FROM task FOR UPDATE',
        'FETCH c',
        'DELETE FROM task WHERE CURRENT OF c RETURNING id',
      ],
    ],
    [
      'is found again by its key once the run has written it',
      [
        DECLARE,
        'FETCH c',
        "UPDATE task SET note = 'first' WHERE CURRENT OF c",
        "UPDATE task SET note = note || ' second' WHERE CURRENT OF c RETURNING *",
      ],
    ],
    [
      'is another one after the next FETCH',
      [
        DECLARE,
        'FETCH c',
        'DELETE FROM task WHERE CURRENT OF c',
        'FETCH c',
        'DELETE FROM task WHERE CURRENT OF c',
        'FETCH c',
      ],
    ],
  ])('%s', async (_, statements) => {
    const expected = await script(statements)
    expect(expected).toHaveProperty('rowCount')
    const before = await contents()
    expect(await dry(() => script(statements))).toEqual(expected)
    expect(await contents()).toEqual(before)
    for (const { preview, action } of takeEffects()) {
      if (action === 'update' || action === 'delete') expect(preview).toMatchObject({ method: 'select', rows: 1 })
    }
  })
})

describe('where there is no such row, the error is the server’s own', () => {
  it.each<[string, string[]]>([
    ['no cursor', ['DELETE FROM task WHERE CURRENT OF nowhere']],
    ['no row yet', [DECLARE, 'DELETE FROM task WHERE CURRENT OF c']],
    ['after the last', [DECLARE, 'FETCH ALL FROM c', 'DELETE FROM task WHERE CURRENT OF c']],
    ['another table', [DECLARE, 'FETCH c', 'DELETE FROM other WHERE CURRENT OF c']],
    [
      'groups',
      ['DECLARE c CURSOR FOR SELECT state FROM task GROUP BY state', 'FETCH c', 'DELETE FROM task WHERE CURRENT OF c'],
    ],
    [
      'a join',
      [
        'DECLARE c CURSOR FOR SELECT * FROM task JOIN loose ON a = id',
        'FETCH c',
        'DELETE FROM task WHERE CURRENT OF c',
      ],
    ],
  ])('%s', async (_, statements) => {
    const expected = await script(statements)
    expect(expected).toMatchObject({ code: /^(24|34)000$/.exec((expected as { code: string }).code)?.[0] })
    expect(await dry(() => script(statements))).toEqual(expected)
  })
})

describe('what cannot be known is not guessed', () => {
  it.each<[string, string[], RegExp]>([
    [
      'rows that look alike',
      ['DECLARE c CURSOR FOR SELECT * FROM loose WHERE a = 2', 'FETCH c', 'DELETE FROM loose WHERE CURRENT OF c'],
      /not the only one/,
    ],
    [
      'a cursor that cannot go back',
      ['DECLARE c NO SCROLL CURSOR FOR SELECT * FROM task', 'FETCH c', 'DELETE FROM task WHERE CURRENT OF c'],
      /cannot scroll/,
    ],
    [
      'a row the run has deleted',
      [DECLARE, 'FETCH c', 'DELETE FROM task WHERE CURRENT OF c', 'DELETE FROM task WHERE CURRENT OF c'],
      /deleted or written/,
    ],
    [
      'an order',
      ['DECLARE c CURSOR FOR SELECT * FROM task ORDER BY id', 'FETCH c', 'DELETE FROM task WHERE CURRENT OF c'],
      /no plain scan/,
    ],
  ])('%s', async (_, statements, why) => {
    const before = await contents()
    await dry(() => script(statements))
    expect(await contents()).toEqual(before)
    expect(takeEffects().at(-1)).toMatchObject({
      preview: { method: 'synthesized', notes: [expect.stringMatching(why)] },
    })
  })

  it('and a cursor that would draw on a sequence is not fetched from again', async () => {
    await live.query('SELECT 1')
    await client.query('BEGIN')
    await client.query("DECLARE c CURSOR FOR SELECT *, nextval('counter') FROM task")
    await client.query('FETCH c')
    const drawn = async () => (await client.query('SELECT last_value FROM counter')).rows
    const before = await drawn()
    await dry(() => client.query('DELETE FROM task WHERE CURRENT OF c'))
    expect(await drawn()).toEqual(before)
    const next = await client.query('FETCH c')
    expect(next.rows).toMatchObject([{ id: 2 }])
    await client.query('ROLLBACK')
    expect(takeEffects().at(-1)).toMatchObject({ preview: { method: 'synthesized' } })
  })

  it('and the application’s cursor stays where it was, in a live transaction too', async () => {
    await client.query('BEGIN')
    await client.query("UPDATE task SET note = 'live' WHERE id = 5")
    await client.query(DECLARE)
    await client.query('FETCH 2 FROM c')
    const { rows } = await dry(() => client.query('DELETE FROM task WHERE CURRENT OF c RETURNING id'))
    expect(rows).toEqual([{ id: 3 }])
    expect((await client.query('FETCH c')).rows).toMatchObject([{ id: 4 }])
    expect((await client.query("UPDATE task SET state = 'x' WHERE CURRENT OF c RETURNING id")).rows).toEqual([
      { id: 4 },
    ])
    await client.query('ROLLBACK')
  })
})
