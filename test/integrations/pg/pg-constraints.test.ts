import type { DatabaseError } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg()

postgresWorld(`
  CREATE TABLE room (id int, at int4range, EXCLUDE USING gist (int4range(id, id, '[]') WITH =, at WITH &&));
  INSERT INTO room VALUES (1, '[1,5)'), (1, '[5,9)'), (2, '[1,5)');
  CREATE TABLE stay (id int4range, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
  INSERT INTO stay VALUES ('[1,2)', '[2020-01-01,2020-02-01)'), ('[1,2)', '[2020-02-01,2020-03-01)'), ('[2,3)', '[2020-01-01,2020-06-01)');
  CREATE TABLE visit (n int, stay int4range, at daterange, FOREIGN KEY (stay, PERIOD at) REFERENCES stay (id, PERIOD at));
  INSERT INTO visit VALUES (1, '[1,2)', '[2020-01-15,2020-02-15)');
  CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node);
  INSERT INTO node VALUES (1, NULL), (2, 1), (3, 2), (9, 9);
  CREATE TABLE shelf (id int PRIMARY KEY);
  CREATE TABLE kept (shelf int REFERENCES shelf ON DELETE RESTRICT ON UPDATE RESTRICT);
  INSERT INTO shelf VALUES (1), (2), (3);
  INSERT INTO kept VALUES (2);
  CREATE TABLE rank (id int PRIMARY KEY);
  CREATE TABLE ranked (rank int REFERENCES rank);
  INSERT INTO rank VALUES (3), (2), (1);
  INSERT INTO ranked VALUES (1);
  CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b));
  CREATE TABLE of_pair (a int, b int, FOREIGN KEY (a, b) REFERENCES pair MATCH FULL);
  INSERT INTO pair VALUES (1, 1);
  CREATE TABLE place (n int UNIQUE DEFERRABLE, m int UNIQUE DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO place VALUES (1, 1), (2, 2), (3, 3);
  CREATE TABLE home (id int PRIMARY KEY);
  CREATE TABLE guest (home int DEFAULT 0 REFERENCES home ON DELETE SET DEFAULT ON UPDATE SET DEFAULT);
  INSERT INTO home VALUES (0), (1), (2), (3);
  INSERT INTO guest VALUES (0), (1);
  CREATE TABLE lodge (id int PRIMARY KEY);
  CREATE TABLE lodger (lodge int DEFAULT 7 REFERENCES lodge ON DELETE SET DEFAULT);
  INSERT INTO lodge VALUES (1), (2);
  INSERT INTO lodger VALUES (1);
  CREATE TABLE shopper (id int PRIMARY KEY);
  CREATE TABLE purchase (id int PRIMARY KEY, shopper int REFERENCES shopper ON DELETE CASCADE);
  CREATE TABLE receipt (purchase int REFERENCES purchase);
  CREATE TABLE line (purchase int REFERENCES purchase ON DELETE CASCADE);
  CREATE TABLE complaint (shopper int REFERENCES shopper);
  CREATE TABLE badge (shopper int NOT NULL REFERENCES shopper ON DELETE SET NULL);
  INSERT INTO shopper VALUES (1), (2), (3), (4), (5);
  INSERT INTO purchase VALUES (10, 1), (20, 2), (30, 5);
  INSERT INTO line VALUES (10), (20);
  INSERT INTO receipt VALUES (20);
  INSERT INTO complaint VALUES (3);
  INSERT INTO badge VALUES (4);
  CREATE TABLE top (id int PRIMARY KEY);
  CREATE TABLE left_of (id int PRIMARY KEY, top int REFERENCES top ON DELETE CASCADE);
  CREATE TABLE right_of (top int REFERENCES top, left_of int REFERENCES left_of ON DELETE CASCADE);
  INSERT INTO top VALUES (1), (2); INSERT INTO left_of VALUES (1, 1); INSERT INTO right_of VALUES (1, 1);
  CREATE TABLE twice_of (a int REFERENCES top ON DELETE CASCADE, b int REFERENCES top);
  INSERT INTO twice_of VALUES (2, 2);
  CREATE TABLE doubled (n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL);
  INSERT INTO doubled VALUES (2000000000);
  CREATE TABLE folded (name text, UNIQUE NULLS NOT DISTINCT (name));
  CREATE UNIQUE INDEX folded_lower ON folded (lower(name));
  INSERT INTO folded VALUES ('a');
  CREATE TABLE parent (name text UNIQUE);
  CREATE TABLE child () INHERITS (parent);
  INSERT INTO child VALUES ('x');
  CREATE TABLE split (k int, v int) PARTITION BY LIST (k);
  CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
  CREATE TABLE split_2 (v int, k int);
  ALTER TABLE split ATTACH PARTITION split_2 FOR VALUES IN (2);
  ALTER TABLE split_2 ADD CONSTRAINT small CHECK (v < 10);
  INSERT INTO split VALUES (1, 50), (2, 5);
`)

beforeEach(() => {
  takeEffects()
})

const caught = async (promise: Promise<unknown>): Promise<DatabaseError | undefined> => {
  try {
    await promise
    return undefined
  } catch (error) {
    return error as DatabaseError
  }
}

const fieldsOf = ({ code, message, detail, schema, table, column, constraint }: DatabaseError) => ({
  code,
  message,
  detail,
  schema,
  table,
  column,
  constraint,
})

describe('what certainly fails, fails with the error of the server', () => {
  it.each([
    // Exclusion constraints: against what is there, and among the rows of the statement.
    ["INSERT INTO room VALUES (1, '[4,6)')", '23P01'],
    ["INSERT INTO room VALUES (7, '[1,3)'), (7, '[2,4)')", '23P01'],
    ["UPDATE room SET at = '[1,9)' WHERE id = 1", '23P01'],
    ["INSERT INTO stay VALUES ('[1,2)', '[2020-02-10,2020-02-20)')", '23P01'],
    ["INSERT INTO stay VALUES ('[1,2)', 'empty')", '23514'],
    ["UPDATE stay SET at = '[2020-01-01,2020-12-31)' WHERE id = '[1,2)'", '23P01'],
    // PERIOD: all of the time must be there, and stay there.
    ["INSERT INTO visit VALUES (2, '[1,2)', '[2020-02-15,2020-03-02)')", '23503'],
    ["DELETE FROM stay WHERE id = '[1,2)' AND at @> '2020-02-10'::date", '23503'],
    ["UPDATE stay SET at = '[2020-02-01,2020-02-10)' WHERE id = '[1,2)' AND at @> '2020-02-10'::date", '23503'],
    // A table that refers to itself.
    ['INSERT INTO node VALUES (4, 5)', '23503'],
    ['INSERT INTO node VALUES (5, 6), (6, 7)', '23503'],
    ['DELETE FROM node WHERE id = 2', '23503'],
    ['DELETE FROM node WHERE id < 3', '23503'],
    ['UPDATE node SET id = id + 10', '23503'],
    // RESTRICT has an SQLSTATE of its own.
    ['DELETE FROM shelf', '23001'],
    ['UPDATE shelf SET id = id + 10', '23001'],
    ['UPDATE rank SET id = id - 5', '23503'],
    ['INSERT INTO of_pair VALUES (1, NULL)', '23503'],
    // Keys that are checked at the end: of the statement, or of its transaction.
    ['UPDATE shelf SET id = (SELECT id FROM shelf)', '21000'],
    ['UPDATE pair SET (a, b) = (SELECT id, id FROM shelf)', '21000'],
    ['INSERT INTO place VALUES (1, 9)', '23505'],
    ['INSERT INTO place VALUES (9, 1)', '23505'],
    ['INSERT INTO place VALUES (8, 8), (8, 9)', '23505'],
    ['UPDATE place SET n = 7', '23505'],
    // Rows that would be changed along: what they are referred to by, and what they demand.
    ['DELETE FROM shopper WHERE id = 2', '23503'],
    ['DELETE FROM shopper WHERE id = 3', '23503'],
    ['DELETE FROM shopper WHERE id = 4', '23502'],
    ['DELETE FROM top WHERE id = 1', '23503'],
    ['INSERT INTO doubled VALUES (2000000001) RETURNING twice', '22003'],
    ['UPDATE doubled SET n = n / 0', '22012'],
    ['DELETE FROM home WHERE id < 2', '23503'],
    ['UPDATE home SET id = 9 WHERE id = 0', '23503'],
    ['UPDATE home SET id = id + 10 WHERE id IN (0, 1)', '23503'],
    ['DELETE FROM lodge WHERE id = 1', '23503'],
    ["INSERT INTO folded VALUES ('B'), ('b')", '23505'],
    ['UPDATE split SET v = v + 5', '23514'],
    ['INSERT INTO split VALUES (2, 70)', '23514'],
    ['INSERT INTO split VALUES (3, 1)', '23514'],
  ])('%s', async (text, code) => {
    const real = await caught(live.query(text))
    const simulated = await caught(dry(() => client.query(text)))
    expect(real?.code).toBe(code)
    const { detail, ...fields } = fieldsOf(real as DatabaseError)
    // Previews tell no detail of a NULL.
    expect(fieldsOf(simulated as DatabaseError)).toEqual(code === '23502' ? fields : { ...fields, detail })
  })
})

describe('what other rows of the statement mend, does not fail', () => {
  it.each([
    ["INSERT INTO room VALUES (3, '[1,5)'), (3, '[5,9)')"],
    ['INSERT INTO room VALUES (1, NULL)'],
    ["UPDATE room SET at = '[20,30)' WHERE id = 2"],
    ["UPDATE stay SET at = '[2020-01-10,2020-02-01)' WHERE id = '[1,2)' AND at @> '2020-01-10'::date"],
    ["DELETE FROM stay WHERE id = '[2,3)'"],
    ["INSERT INTO visit VALUES (2, '[1,2)', '[2020-01-20,2020-02-20)')"],
    ['INSERT INTO node VALUES (4, 4)'],
    ['INSERT INTO node VALUES (5, 6), (6, 5)'],
    ['DELETE FROM node WHERE id > 1'],
    ['DELETE FROM node WHERE id = 9'],
    ['UPDATE rank SET id = 4 - id WHERE id = 2'],
    ['DELETE FROM shelf WHERE id = 1'],
    ['INSERT INTO doubled VALUES (2000000001)'],
    ['DELETE FROM doubled WHERE n > 5'],
    ['DELETE FROM home WHERE id > 1'],
    ['DELETE FROM shopper WHERE id IN (1, 5)'],
    ['UPDATE home SET id = id + 10 WHERE id = 2'],
    ['UPDATE pair SET (a, b) = (SELECT id, id FROM shelf WHERE id = 3)'],
    ['UPDATE shelf SET id = id WHERE id = 2'],
    ['INSERT INTO of_pair VALUES (NULL, NULL)'],
    ['UPDATE place SET n = n + 1'],
    ['UPDATE place SET n = 4 - n, m = 4 - m'],
    ["INSERT INTO parent VALUES ('x')"],
    ['UPDATE split SET v = 5'],
    ['UPDATE split SET k = 1 WHERE k = 2'],
  ])('%s', async (text) => {
    await live.query('BEGIN')
    const real = await live.query(text).finally(() => live.query('ROLLBACK'))
    const simulated = await dry(() => client.query(text))
    const [effect] = takeEffects()
    expect([simulated.command, simulated.rowCount]).toEqual([real.command, real.rowCount])
    expect(effect).toMatchObject({ outcome: 'blocked', fidelity: 'exact' })
  })
})

it('what may be deleted along as well is no certain failure', async () => {
  await live.query('BEGIN')
  const real = await live.query('DELETE FROM top WHERE id = 2').finally(() => live.query('ROLLBACK'))
  expect((await dry(() => client.query('DELETE FROM top WHERE id = 2'))).rowCount).toBe(real.rowCount)
})

describe('over the rows of the run', () => {
  it('a row of the run takes a time and gives it back', async () => {
    await dry(async () => {
      await client.query("INSERT INTO room VALUES (8, '[1,5)')")
      const second = () => client.query("INSERT INTO room VALUES (8, '[4,6)'), (9, '[1,2)')")
      expect(await caught(second())).toMatchObject({ code: '23P01' })
      await client.query('DELETE FROM room WHERE id = 8')
      expect((await second()).rowCount).toBe(2)
    })
  })

  it('a parent of the run is a parent', async () => {
    await dry(async () => {
      await client.query('INSERT INTO node VALUES (20, 1)')
      expect((await client.query('INSERT INTO node VALUES (21, 20), (22, 21)')).rowCount).toBe(2)
      expect(await caught(client.query('DELETE FROM node WHERE id IN (20, 21)'))).toMatchObject({ code: '23503' })
      expect((await client.query('DELETE FROM node WHERE id >= 20')).rowCount).toBe(3)
    })
  })

  it('a statement that is worked out again is judged again, with its parameters', async () => {
    const insert = (...values: number[]) =>
      dry(() => client.query('INSERT INTO node VALUES ($1, $2), ($3, $4) RETURNING id', values))
    for (let round = 0; round < 3; round++) {
      expect((await insert(5, 6, 6, 1)).rows).toEqual([{ id: 5 }, { id: 6 }])
      expect(await caught(insert(5, 6, 7, 1))).toMatchObject({ code: '23503', detail: expect.stringContaining('(6)') })
    }
  })
})

describe('deferrable constraints in a transaction', () => {
  // The first column's constraint is checked after each statement, the second's at COMMIT.
  it.each<[string[], string, string | undefined]>([
    [[], 'INSERT INTO place VALUES (1, 50)', '23505'],
    [[], 'INSERT INTO place VALUES (50, 1)', undefined],
    [['SET CONSTRAINTS ALL IMMEDIATE'], 'INSERT INTO place VALUES (50, 1)', '23505'],
    [['SET CONSTRAINTS ALL DEFERRED'], 'INSERT INTO place VALUES (1, 50)', undefined],
    [['SET CONSTRAINTS place_n_key DEFERRED'], 'INSERT INTO place VALUES (1, 50)', undefined],
    [['SAVEPOINT s', 'SET CONSTRAINTS ALL IMMEDIATE', 'ROLLBACK TO s'], 'INSERT INTO place VALUES (50, 1)', undefined],
  ])('%j, then %s', async (before, text, code) => {
    const inTransaction = async (on: typeof live) => {
      await on.query('BEGIN')
      for (const setting of before) await on.query(setting)
      const error = await caught(on.query(text))
      await on.query('ROLLBACK')
      return error
    }
    expect((await inTransaction(live))?.code).toBe(code)
    expect((await dry(() => inTransaction(client)))?.code).toBe(code)
  })
})
