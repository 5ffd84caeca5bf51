import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects, takeProblems } = guardPg()

/** The clerk may write more than it may read. */
const SCHEMA = `
  CREATE ROLE clerk;
  CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, secret text NOT NULL DEFAULT 's',
    balance int NOT NULL DEFAULT 0 CHECK (balance >= 0), code int UNIQUE);
  INSERT INTO account VALUES (1, 'a', 'sa', 10, 100), (2, 'b', 'sb', 20, 200), (3, 'b', 'sc', 30, 300);
  GRANT INSERT, UPDATE, DELETE, SELECT (id, owner) ON account TO clerk;
  CREATE TABLE vault (id int PRIMARY KEY, amount int CHECK (amount < 1000), hidden text NOT NULL DEFAULT 'h');
  INSERT INTO vault VALUES (1, 10), (2, 20), (3, -5);
  CREATE VIEW ledger AS SELECT id AS number, amount FROM vault WHERE amount > 0 WITH CHECK OPTION;
  GRANT SELECT, INSERT, UPDATE, DELETE ON ledger TO clerk;
  CREATE TABLE line (account_id int REFERENCES vault(id), note text);
  GRANT SELECT, INSERT ON line TO clerk;
  CREATE TABLE dropbox (id int, note text NOT NULL, CHECK (id > 0));
  GRANT INSERT, DELETE ON dropbox TO clerk;
  INSERT INTO dropbox VALUES (1, 'x');
  CREATE VIEW counted AS SELECT count(*) AS n FROM account;
  CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
  CREATE TRIGGER nothing INSTEAD OF INSERT ON counted FOR EACH ROW EXECUTE FUNCTION nothing();
`
postgresWorld(SCHEMA)

beforeAll(async () => {
  await client.query('SET ROLE clerk')
})

beforeEach(() => {
  takeEffects()
})

async function outcome(text: string) {
  try {
    const { command, rowCount, rows } = await client.query(text)
    return { command, rowCount, rows }
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return { code, message }
  }
}

async function forReal(text: string) {
  await client.query('BEGIN')
  try {
    return await outcome(text)
  } finally {
    await client.query('ROLLBACK')
  }
}

const contents = async () =>
  (
    await live.query(
      "SELECT (SELECT string_agg(a::text, ',' ORDER BY id) FROM account a), (SELECT string_agg(v::text, ',' ORDER BY id) FROM vault v)",
    )
  ).rows[0] as unknown

async function inDryRun(text: string) {
  const before = await contents()
  const result = await dry(() => outcome(text))
  expect(await contents()).toEqual(before)
  return { result, effect: takeEffects()[0] }
}

describe('a role that may not read all of what it writes gets what live would have given', () => {
  it.each<[string]>([
    ["UPDATE account SET owner = 'z' WHERE id > 1 RETURNING id, owner"],
    ["UPDATE account SET secret = 'new'"],
    ["UPDATE account SET secret = upper(v.s) FROM (VALUES (1, 'x'), (2, 'y'), (2, 'z')) v(i, s) WHERE id = v.i"],
    ["DELETE FROM account WHERE owner = 'b' RETURNING id"],
    ["INSERT INTO account (id, owner, code) VALUES (9, 'n', 900) RETURNING owner"],
    [
      "INSERT INTO account (id, owner) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET secret = excluded.owner RETURNING id",
    ],
    [
      "MERGE INTO account a USING (VALUES (1), (8)) s(i) ON a.id = s.i WHEN MATCHED THEN UPDATE SET secret = 'm' WHEN NOT MATCHED THEN INSERT (id, owner) VALUES (s.i, 'o')",
    ],
    ['UPDATE ledger SET amount = amount + 1 WHERE number = 2 RETURNING *'],
    ['DELETE FROM ledger RETURNING number'],
    ['INSERT INTO ledger VALUES (7, 70) RETURNING *'],
    ['MERGE INTO ledger l USING (VALUES (1)) s(i) ON l.number = s.i WHEN MATCHED THEN UPDATE SET amount = 99'],
    ["INSERT INTO line VALUES (1, 'x') RETURNING note"],
    ["INSERT INTO dropbox VALUES (2, 'y')"],
    // What the table's conditions say of the new row fails either way.
    ['UPDATE account SET secret = NULL WHERE id = 1'],
    ['UPDATE account SET balance = -1 WHERE id = 1'],
    ["INSERT INTO account (id, owner) VALUES (1, 'twice')"],
    ['INSERT INTO dropbox VALUES (-1, NULL)'],
    ['INSERT INTO dropbox VALUES (-1, $$n$$)'],
    ['UPDATE ledger SET amount = 5000 WHERE number = 1'],
    // And so does what it may not do at all.
    ['UPDATE account SET owner = $$x$$ WHERE secret = $$sa$$'],
    ['DELETE FROM account RETURNING *'],
    ['INSERT INTO account (id, owner, code) VALUES (5, $$x$$, 1) ON CONFLICT (code) DO NOTHING'],
    ['UPDATE vault SET amount = 0'],
    // Also where there would be no preview.
    ['INSERT INTO counted VALUES (1)'],
  ])('%s', async (text) => {
    const expected = await forReal(text)
    const { result, effect } = await inDryRun(text)
    if ('code' in expected) expect(result).toMatchObject({ code: expected.code })
    else {
      expect(result).toEqual(expected)
      expect(effect).toMatchObject({ outcome: 'blocked', preview: { method: 'select', rows: expected.rowCount } })
    }
  })
})

describe('the report says what was not seen', () => {
  it('of columns', async () => {
    const { effect } = await inDryRun("UPDATE account SET secret = 'new', owner = 'o' WHERE id = 1")
    expect(effect?.fidelity).toBe('plausible')
    expect(effect?.preview?.notes).toEqual([
      'may not be looked at on account: account_code_key, account_balance_check',
      'not all of account may be read: what may not is shown as NULL',
    ])
    expect(effect?.preview?.diff).toContainEqual({
      target: 'public.account',
      key: 'id=1',
      field: 'owner',
      before: 'a',
      after: 'o',
    })
  })

  it('of keys, and of rows that are referred to', async () => {
    const { effect } = await inDryRun("INSERT INTO account (id, owner, code) VALUES (9, 'n', 100)")
    expect(effect?.preview?.notes).toEqual(['may not be looked at on account: account_code_key'])
    const line = await inDryRun("INSERT INTO line VALUES (77, 'nowhere')")
    expect(line.effect?.preview?.notes).toEqual(['may not be looked at on line: line_account_id_fkey'])
    expect(line.effect?.fidelity).toBe('plausible')
  })

  it('where nothing at all may be read, there is no preview', async () => {
    const { effect, result } = await inDryRun('DELETE FROM dropbox')
    expect(result).toMatchObject({ command: 'DELETE' })
    expect(effect).toMatchObject({ outcome: 'blocked', preview: { method: 'synthesized' } })
  })

  it('and later reads are told that they do not see it', async () => {
    await dry(async () => {
      await client.query("UPDATE account SET owner = 'o' WHERE id = 1")
      takeProblems()
      expect((await client.query('SELECT owner FROM account WHERE id = 1')).rows).toEqual([{ owner: 'a' }])
      expect(takeProblems().map(({ message }) => message)).toEqual([
        'not overlaid: SELECT account sees the data as it is, without what this run would have changed ' +
          '(what the run did to "account" is not all known: not all of it may be read)',
      ])
    })
  })
})
