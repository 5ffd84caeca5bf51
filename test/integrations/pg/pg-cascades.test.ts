import type { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, guard, takeProblems } = guardPg()

const SCHEMA = `
  CREATE TABLE account (id int PRIMARY KEY, region text NOT NULL, code text NOT NULL, UNIQUE (region, code));
  CREATE TABLE invoice (id int PRIMARY KEY, account_id int REFERENCES account ON DELETE CASCADE ON UPDATE CASCADE);
  CREATE TABLE line (id int PRIMARY KEY, invoice_id int NOT NULL REFERENCES invoice ON DELETE CASCADE);
  CREATE TABLE note (id int PRIMARY KEY, account_id int DEFAULT 3 REFERENCES account ON DELETE SET DEFAULT ON UPDATE SET NULL);
  CREATE TABLE visit (id int PRIMARY KEY, region text, code text,
    FOREIGN KEY (region, code) REFERENCES account (region, code) ON DELETE SET NULL ON UPDATE CASCADE);
  CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node ON DELETE CASCADE);
  INSERT INTO account VALUES (1, 'eu', 'a'), (2, 'eu', 'b'), (3, 'us', 'a');
  INSERT INTO invoice VALUES (10, 1), (11, 1), (12, 2), (13, NULL);
  INSERT INTO line VALUES (100, 10), (101, 10), (102, 11), (103, 12);
  INSERT INTO note VALUES (20, 1), (21, 2);
  INSERT INTO visit VALUES (30, 'eu', 'a'), (31, 'eu', 'b'), (32, 'us', 'a');
  INSERT INTO node VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, NULL);`

const TABLES = ['account', 'invoice', 'line', 'note', 'visit', 'node']

postgresWorld(SCHEMA)

async function rowsOf(from: Client): Promise<Record<string, unknown[]>> {
  const state: Record<string, unknown[]> = {}
  for (const table of TABLES) state[table] = (await from.query(`SELECT * FROM ${table} ORDER BY id`)).rows
  return state
}

/** What the tables hold after the statements: by real execution that is rolled back. */
async function executed(statements: readonly string[]): Promise<Record<string, unknown[]>> {
  await live.query('BEGIN')
  try {
    for (const text of statements) await live.query(text)
    return await rowsOf(live)
  } finally {
    await live.query('ROLLBACK')
  }
}

describe('what foreign keys change along', () => {
  it.each([
    ['deletes two tables down', ['DELETE FROM account WHERE id = 1']],
    ['a default, and NULL in two columns', ['DELETE FROM account WHERE id = 2']],
    ['a new key', ['UPDATE account SET id = id + 100, code = upper(code) WHERE id < 3']],
    ['a table that refers to itself', ['DELETE FROM node WHERE id = 1']],
    [
      'rows of the run itself',
      [
        "INSERT INTO account VALUES (7, 'eu', 'z')",
        'INSERT INTO invoice VALUES (70, 7), (71, 2)',
        'INSERT INTO line VALUES (700, 70), (701, 71)',
        'DELETE FROM account WHERE id IN (2, 7)',
      ],
    ],
    ['one after another', ['UPDATE account SET id = 50 WHERE id = 1', 'DELETE FROM account WHERE id = 50']],
  ])('is seen by later reads: %s', async (_, statements) => {
    const before = await rowsOf(live)
    const expected = await executed(statements)
    expect(expected).not.toEqual(before)
    await dry(async () => {
      for (const text of statements) await client.query(text)
      expect(await rowsOf(client)).toEqual(expected)
    })
    expect(takeProblems()).toEqual([])
    expect(await guard.within(undefined, () => rowsOf(live))).toEqual(before)
  })

  it('is taken back with the transaction', async () => {
    const before = await rowsOf(live)
    await dry(async () => {
      await client.query('BEGIN')
      await client.query('DELETE FROM account WHERE id = 1')
      expect((await client.query('SELECT id FROM line ORDER BY id')).rows).toEqual([{ id: 103 }])
      await client.query('ROLLBACK')
      expect(await rowsOf(client)).toEqual(before)
    })
  })
})
