import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg({ postgres: { maxRows: 500, maxCost: 5_000 } })

const SCHEMA = `
  CREATE TABLE author (id int PRIMARY KEY, name text);
  CREATE TABLE book (id int PRIMARY KEY, author_id int REFERENCES author(id) ON DELETE CASCADE ON UPDATE CASCADE, title text);
  CREATE TABLE page (book_id int REFERENCES book(id) ON DELETE CASCADE, n int);
  CREATE TABLE review (book_id int REFERENCES book(id) ON DELETE SET NULL, stars int);
  CREATE TABLE plain (id int PRIMARY KEY, v text);
  CREATE TABLE large (id int, v text);
  CREATE TABLE wide (id int);
  CREATE VIEW authors AS SELECT name, id AS number FROM author WHERE id < 100 WITH CHECK OPTION;
  CREATE VIEW handled AS SELECT id, v FROM plain;
  CREATE FUNCTION handle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE TG_ARGV[0]; RETURN NEW; END';
  CREATE TRIGGER handles INSTEAD OF UPDATE ON handled FOR EACH ROW EXECUTE FUNCTION handle();
  CREATE TABLE ruled (id int);
  CREATE RULE shows AS ON UPDATE TO ruled DO INSTEAD SELECT NEW.id;
  INSERT INTO author VALUES (1, 'A'), (2, 'B'), (3, 'C');
  INSERT INTO book VALUES (10, 1, 'x'), (11, 1, 'y'), (12, 2, 'z');
  INSERT INTO page VALUES (10, 1), (10, 2), (11, 1), (12, 1);
  INSERT INTO review VALUES (10, 5), (12, 1);
  INSERT INTO plain VALUES (1, 'one'), (2, 'two');
  INSERT INTO large SELECT g, 'v' FROM generate_series(1, 2000) g;
  INSERT INTO wide SELECT g FROM generate_series(1, 700) g;
  ANALYZE;
`
const TABLES = ['author', 'book', 'page', 'review', 'plain', 'large', 'wide', 'ruled']

const digest = async () => {
  const parts = TABLES.map(
    (name) => `(SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM ${name} t)`,
  )
  const { rows } = await live.query({ text: `SELECT ${parts.join(', ')}`, rowMode: 'array' })
  return rows[0]
}

/** What the statement does for real, undone afterwards. */
async function forReal(text: string, values: unknown[] = []) {
  await live.query('BEGIN')
  try {
    const { command, rowCount, rows } = await live.query(text, values)
    return { command, rowCount, rows }
  } finally {
    await live.query('ROLLBACK')
  }
}

async function inDryRun(text: string, values: unknown[] = []) {
  const before = await digest()
  const { command, rowCount, rows } = await dry(() => client.query(text, values))
  expect(await digest()).toEqual(before)
  const [effect] = takeEffects()
  return { result: { command, rowCount, rows }, effect, preview: effect?.preview }
}

postgresWorld(SCHEMA)

beforeEach(() => {
  takeEffects()
})

describe('the caller gets what live would have given', () => {
  it.each<[string, unknown[]?]>([
    [
      "MERGE INTO plain p USING (VALUES (1, 'uno'), (9, 'new')) s(i, w) ON p.id = s.i WHEN MATCHED THEN UPDATE SET v = s.w WHEN NOT MATCHED THEN INSERT VALUES (s.i, $1) RETURNING merge_action(), old.v AS was, p.*",
      ['given'],
    ],
    ['UPDATE plain SET v = upper(v) WHERE id = 1 RETURNING old.v AS was, new.v AS is'],
    ["UPDATE authors SET name = 'Z' WHERE number = 3 RETURNING *"],
    ["INSERT INTO authors (number, name) VALUES (50, 'New') RETURNING number, name"],
    ['DELETE FROM authors WHERE number = 3 RETURNING name'],
    ['CREATE TABLE made AS SELECT * FROM book WHERE author_id = $1', [1]],
    ['SELECT id INTO made FROM author'],
    ['TRUNCATE plain'],
    ['TRUNCATE author CASCADE'],
  ])('%s', async (text, values = []) => {
    const expected = await forReal(text, values)
    const { result, effect, preview } = await inDryRun(text, values)
    expect(result).toEqual(expected)
    expect(preview?.notes ?? []).toEqual(
      preview?.notes?.filter((note) => note.startsWith('would ') || note.includes('would change with')) ?? [],
    )
    expect(effect).toMatchObject({ outcome: 'blocked', fidelity: 'exact', preview: { method: 'select' } })
  })

  it('and the same error where it would certainly have failed', async () => {
    for (const text of [
      "INSERT INTO authors (number, name) VALUES (500, 'out of the view')",
      'INSERT INTO book VALUES (99, 77, NULL)',
      "MERGE INTO plain p USING (VALUES (1), (1)) s(i) ON p.id = s.i WHEN MATCHED THEN UPDATE SET v = 'twice'",
    ]) {
      const real = await live.query(text).catch((error: unknown) => error)
      const foretold = await dry(() => client.query(text).catch((error: unknown) => error))
      expect(foretold).toBeInstanceOf(Error)
      const { code, message } = real as { code: string; message: string }
      expect(foretold).toMatchObject({ code, message })
    }
  })
})

describe('read-your-writes', () => {
  it('a MERGE is seen by the next MERGE and by reads', async () => {
    const before = await digest()
    const merge = (id: number, v: string) =>
      client.query(
        'MERGE INTO plain p USING (SELECT $1::int AS i, $2::text AS w) s ON p.id = s.i WHEN MATCHED THEN UPDATE SET v = p.v || s.w WHEN NOT MATCHED THEN INSERT VALUES (s.i, s.w) RETURNING merge_action() AS did, p.v',
        [id, v],
      )
    await dry(async () => {
      expect((await merge(7, 'a')).rows).toEqual([{ did: 'INSERT', v: 'a' }])
      expect((await merge(7, 'b')).rows).toEqual([{ did: 'UPDATE', v: 'ab' }])
      await client.query('MERGE INTO plain p USING author a ON a.id = p.id WHEN MATCHED THEN DELETE')
      expect((await client.query('SELECT * FROM plain ORDER BY id')).rows).toEqual([{ id: 7, v: 'ab' }])
    })
    expect(await digest()).toEqual(before)
  })

  it('a write through a view is seen in its table', async () => {
    await dry(async () => {
      await client.query("UPDATE authors SET name = 'Seen' WHERE number = 2")
      expect((await client.query('SELECT name FROM author WHERE id = 2')).rows).toEqual([{ name: 'Seen' }])
    })
  })
})

describe('what else would happen', () => {
  it('counts what foreign keys delete or change, through several tables', async () => {
    const { preview } = await inDryRun('DELETE FROM author WHERE id = 1')
    expect(preview?.rows).toBe(1)
    expect(preview?.secondary).toEqual([
      { kind: 'cascade', target: 'book', name: 'book_author_id_fkey', rows: 2 },
      { kind: 'cascade', target: 'page', name: 'page_book_id_fkey', rows: 3 },
      { kind: 'cascade', target: 'review', name: 'review_book_id_fkey', rows: 1 },
    ])
    const counts = async () =>
      (
        await live.query(
          'SELECT (SELECT count(*) FROM book)::int b, (SELECT count(*) FROM page)::int p, (SELECT count(book_id) FROM review)::int r',
        )
      ).rows[0]
    const before = await counts()
    await live.query('BEGIN')
    await live.query('DELETE FROM author WHERE id = 1')
    const after = await counts()
    await live.query('ROLLBACK')
    expect([before.b - after.b, before.p - after.p, before.r - after.r]).toEqual([2, 3, 1])
  })

  it('counts rows that follow a changed key', async () => {
    const { preview } = await inDryRun('UPDATE author SET id = 20 WHERE id = 1')
    expect(preview?.secondary).toEqual([{ kind: 'cascade', target: 'book', name: 'book_author_id_fkey', rows: 2 }])
    const same = await inDryRun("UPDATE author SET id = id, name = 'same key' WHERE id = 1")
    expect(same.preview?.secondary).toBeUndefined()
  })

  it('says per table what TRUNCATE would empty', async () => {
    const { preview } = await inDryRun('TRUNCATE author CASCADE')
    expect(preview).toMatchObject({
      rows: 12,
      diff: [],
      notes: [
        'would delete 3 rows of author',
        'would delete 3 rows of book',
        'would delete 4 rows of page',
        'would delete 2 rows of review',
      ],
    })
    expect(preview?.secondary?.map(({ target, rows }) => [target, rows])).toEqual([
      ['book', 3],
      ['page', 4],
      ['review', 2],
    ])
    const alone = await inDryRun('TRUNCATE author')
    expect(alone.preview?.notes?.join()).toMatch(/would fail .*predicted.*0A000 book/)
    expect(alone.effect?.fidelity).toBe('plausible')
  })
})

describe('definitions', () => {
  it.each([
    [
      'ALTER TABLE plain ADD COLUMN w int DEFAULT 5',
      /takes ACCESS EXCLUSIVE and does not rewrite it \(about 2 rows/,
      false,
    ],
    ['ALTER TABLE plain ADD COLUMN w bigserial', /takes ACCESS EXCLUSIVE and rewrites all of it/, true],
    ['ALTER TABLE plain ADD COLUMN w int GENERATED ALWAYS AS (id * 2) STORED', /rewrites all of it/, true],
    ['ALTER TABLE plain SET UNLOGGED', /takes ACCESS EXCLUSIVE and rewrites all of it/, true],
    ['ALTER TABLE plain ALTER COLUMN v SET NOT NULL', /takes ACCESS EXCLUSIVE and reads all of it/, false],
    ['ALTER TABLE plain ALTER COLUMN v SET STATISTICS 50', /takes SHARE UPDATE EXCLUSIVE and does not/, false],
    ['CREATE INDEX i ON plain (v)', /takes SHARE and reads all of it/, false],
    ['ALTER TABLE plain DISABLE TRIGGER USER', /takes SHARE ROW EXCLUSIVE and does not/, false],
  ])('%s', async (text, note, rewritten) => {
    const { preview } = await inDryRun(text)
    expect(preview?.notes?.join('; ')).toMatch(note)
    const lock = /takes ([A-Z ]+) and/.exec(preview?.notes?.join('; ') ?? '')?.[1]
    const state = async () =>
      (
        await live.query(
          `SELECT c.relfilenode, (SELECT array_agg(DISTINCT mode) FROM pg_locks l WHERE l.relation = c.oid AND l.pid = pg_backend_pid()) modes
           FROM pg_class c WHERE c.oid = 'plain'::regclass`,
        )
      ).rows[0]
    await live.query('BEGIN')
    const before = await state()
    await live.query(text)
    const after = await state()
    await live.query('ROLLBACK')
    const mode = `${(lock ?? '').toLowerCase().replace(/(^| )(.)/g, (_, _space, letter) => letter.toUpperCase())}Lock`
    expect(after.modes).toContain(mode)
    expect(after.relfilenode !== before.relfilenode).toBe(rewritten)
  })

  it('name what is created, dropped or not there', async () => {
    const created = await inDryRun('CREATE TABLE newer (id int REFERENCES plain(id))')
    expect(created.preview?.notes).toEqual([
      'would create table "newer"',
      expect.stringMatching(/^CREATE TABLE on "plain" takes SHARE ROW EXCLUSIVE and does not rewrite it/),
    ])
    const dropped = await inDryRun('DROP TABLE plain CASCADE')
    expect(dropped.preview?.notes?.join()).toMatch(
      /DROP TABLE on "plain" takes ACCESS EXCLUSIVE and drops it \(about 2 rows/,
    )
    const missing = await inDryRun('ALTER TABLE nowhere ADD COLUMN x int')
    expect(missing.preview?.notes?.join()).toMatch(/there is no such relation now/)
  })
})

describe('bounds', () => {
  it.each([
    ["UPDATE large SET v = 'x'", /no preview: its preview would read about 2000 rows, more than 500/],
    [
      'DELETE FROM plain USING large a, large b WHERE a.id + b.id = plain.id',
      /no preview: its preview would cost about \d+/,
    ],
    [
      'INSERT INTO plain SELECT g FROM wide w, LATERAL (SELECT w.id + 10 AS g OFFSET 0) x WHERE w.id % 1 = 0 AND abs(w.id) > 0',
      /no preview: it writes 700 rows, more than 500/,
    ],
  ])('%s is not previewed', async (text, note) => {
    const { effect, preview } = await inDryRun(text)
    expect(preview).toMatchObject({ method: 'synthesized' })
    expect(preview?.notes?.join()).toMatch(note)
    expect(effect?.outcome).toBe('blocked')
  })

  it.each([
    ["UPDATE handled SET v = 'x'", /trigger handles of handled acts instead/],
    ['UPDATE ruled SET id = 5', /Select in rule shows/],
  ])('%s acts elsewhere, which is said', async (text, note) => {
    const { preview } = await inDryRun(text)
    expect(preview?.method).toBe('synthesized')
    expect(preview?.notes?.join()).toMatch(note)
  })
})

describe('an effect has its action, relation, key, rows, diff and fingerprint', () => {
  it('for each changed record', async () => {
    const { effect, preview } = await inDryRun("UPDATE authors SET name = name || '!' WHERE number < 3")
    expect(effect).toMatchObject({
      action: 'update',
      target: 'authors',
      fingerprint: expect.stringMatching(/^postgresql:\w{16}$/),
    })
    expect(preview).toMatchObject({
      rows: 2,
      diff: [
        { target: 'public.author', key: 'id=1', field: 'name', before: 'A', after: 'A!' },
        { target: 'public.author', key: 'id=2', field: 'name', before: 'B', after: 'B!' },
      ],
    })
  })
})
