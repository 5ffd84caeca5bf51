import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects, takeProblems } = guardPg()

const SCHEMA = `
  CREATE TABLE audit (what text, id int, name text, note text);
  CREATE TABLE parent (id int PRIMARY KEY);
  INSERT INTO parent VALUES (1), (2);
  CREATE TABLE item (id int PRIMARY KEY, name text, slot int UNIQUE DEFERRABLE, parent int REFERENCES parent, boss int REFERENCES item,
    shout text GENERATED ALWAYS AS (name || '!') STORED);
  CREATE UNIQUE INDEX item_lower ON item (lower(name));
  INSERT INTO item VALUES (1, 'ONE', 1, 1), (2, 'TWO', 2, 2);
  CREATE TABLE ruled (id int, name text, twice int GENERATED ALWAYS AS (id * 2) STORED);
  INSERT INTO ruled VALUES (1, 'A'), (2, 'B');
  CREATE TABLE big (id int, name text);
  CREATE TABLE lazy (n int, inverse int GENERATED ALWAYS AS (10 / n) VIRTUAL);
  INSERT INTO lazy VALUES (5);
  CREATE TABLE chain (id int, name text);
  CREATE TABLE vault (id int PRIMARY KEY, name text CHECK (name <> 'BAD'));
  INSERT INTO vault VALUES (1, 'taken');
  CREATE TABLE fed (id int, name text);
  CREATE VIEW shown AS SELECT id AS k, name AS label FROM item WHERE id < 50 WITH CHECK OPTION;
  CREATE VIEW written AS SELECT id, name FROM item;
  CREATE VIEW handed AS SELECT id, name FROM item;
  CREATE VIEW above AS SELECT id AS k, name AS v FROM handed;
  CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
  CREATE FUNCTION next_id() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1; RETURN NEW; END $$;
  CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n - 1; RETURN NEW; END $$;
  CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    INSERT INTO audit (what, id, name) VALUES (TG_TABLE_NAME || ' ' || TG_OP, NEW.id, NEW.name);
    RETURN NULL;
  END $$;
  CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'noted'; RETURN NEW; END $$;
  CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF NEW.parent > 100 THEN INSERT INTO parent VALUES (NEW.parent); END IF;
    RETURN NEW;
  END $$;
  CREATE FUNCTION through() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    INSERT INTO big VALUES (NEW.id, NEW.name);
    RETURN NEW;
  END $$;
  CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO vault VALUES (NEW.id, NEW.name); RETURN NULL; END $$;
  CREATE TRIGGER z AFTER INSERT ON fed FOR EACH ROW EXECUTE FUNCTION keep();
  CREATE TRIGGER z AFTER UPDATE ON chain FOR EACH ROW EXECUTE FUNCTION note_it();
  CREATE TRIGGER a BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION loud();
  CREATE TRIGGER b BEFORE INSERT ON item FOR EACH ROW WHEN (NEW.parent IS NOT NULL) EXECUTE FUNCTION adopt();
  CREATE TRIGGER z AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION note_it();
  CREATE TRIGGER n BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION noted();
  CREATE TRIGGER a BEFORE INSERT OR UPDATE ON ruled FOR EACH ROW EXECUTE FUNCTION next_id();
  CREATE TRIGGER z AFTER UPDATE ON ruled FOR EACH ROW EXECUTE FUNCTION note_it();
  CREATE TRIGGER a BEFORE UPDATE ON lazy FOR EACH ROW EXECUTE FUNCTION more();
  CREATE TRIGGER i INSTEAD OF INSERT ON written FOR EACH ROW EXECUTE FUNCTION through();
  CREATE TRIGGER i INSTEAD OF INSERT OR UPDATE ON handed FOR EACH ROW EXECUTE FUNCTION through();
  CREATE RULE marked AS ON INSERT TO chain DO ALSO UPDATE chain SET name = name || '*' WHERE id = new.id;
  CREATE RULE told AS ON INSERT TO ruled DO ALSO INSERT INTO audit (what, id, name) VALUES ('rule', new.id, new.name);
  CREATE RULE large AS ON INSERT TO ruled WHERE new.id > 100 DO INSTEAD INSERT INTO big VALUES (new.id, new.name);
  CREATE RULE held AS ON UPDATE TO ruled WHERE old.twice = 4 DO INSTEAD NOTHING;
  CREATE RULE also AS ON INSERT TO written DO ALSO INSERT INTO audit (what, id) VALUES ('view', new.id);
`
const TABLES = ['audit', 'parent', 'item', 'ruled', 'big', 'chain', 'vault', 'fed']

type Query = (text: string) => Promise<{ rows: unknown[]; rowCount: number | null; command: string }>

/** What a statement comes to, and what its session finds in the tables afterwards. */
async function outcomeOf(query: Query, text: string) {
  try {
    const { command, rowCount, rows } = await query(text)
    const tables: Record<string, unknown> = {}
    for (const name of TABLES) {
      tables[name] = (await query(`SELECT * FROM ${name}`)).rows.map((row) => JSON.stringify(row)).sort()
    }
    return { command, rowCount, rows, tables }
  } catch (error) {
    const { code, message, constraint } = error as Error & Record<string, unknown>
    return { code, message, constraint }
  }
}

async function forReal(text: string) {
  await live.query('BEGIN')
  try {
    return await outcomeOf((query) => live.query(query), text)
  } finally {
    await live.query('ROLLBACK')
  }
}

async function inDryRun(text: string) {
  const outcome = await dry(() => outcomeOf((query) => client.query(query), text))
  const [effect] = takeEffects()
  return { outcome, notes: effect?.preview?.notes }
}

postgresWorld(SCHEMA)

beforeEach(() => {
  takeEffects()
  takeProblems()
})

describe('triggers beside what else makes something of a write', () => {
  it.each([
    // Rules see the row before its triggers, and what they write fires triggers too.
    "INSERT INTO ruled VALUES (7, 'x')",
    "INSERT INTO ruled VALUES (100, 'stays'), (101, 'goes')",
    "UPDATE ruled SET name = name || '.'",
    "INSERT INTO written VALUES (9, 'nine')",
    "INSERT INTO chain VALUES (1, 'x'), (2, 'y')",
    "INSERT INTO fed VALUES (2, 'y')",
    "MERGE INTO above USING (VALUES (1, 'm'), (20, 'new')) s(a, b) ON k = a WHEN MATCHED THEN UPDATE SET v = b WHEN NOT MATCHED THEN INSERT VALUES (a, b) RETURNING merge_action(), above.*",
    // Keys are judged by what triggers leave of the row, and by the rows together.
    "INSERT INTO item (id, name) VALUES (2, 'q') ON CONFLICT (id) DO UPDATE SET name = excluded.name || item.name RETURNING *",
    "INSERT INTO item (id, name) VALUES (5, 'two'), (6, 'six') ON CONFLICT (lower(name)) DO NOTHING RETURNING id, name, shout",
    "INSERT INTO shown (k, label) VALUES (1, 'again'), (8, 'eight') ON CONFLICT (k) DO UPDATE SET label = excluded.label RETURNING *",
    "UPDATE shown SET label = 'uno' WHERE k = 1 RETURNING old.label, new.label",
    'UPDATE item SET slot = 3 - slot RETURNING id, slot',
    "INSERT INTO item (id, name, boss) VALUES (11, 'eleven', 12), (12, 'twelve', 1)",
    "INSERT INTO item (id, name, parent) VALUES (13, 'thirteen', 113)",
    'UPDATE lazy SET n = 1',
    "MERGE INTO item USING (VALUES (1, 'm'), (20, 'new')) s(k, v) ON id = k WHEN MATCHED THEN UPDATE SET name = v WHEN NOT MATCHED THEN INSERT (id, name) VALUES (k, v) RETURNING merge_action(), item.*",
  ])('%s', async (text) => {
    const { outcome } = await inDryRun(text)
    expect(outcome).toHaveProperty('rowCount')
    expect(outcome).toEqual(await forReal(text))
  })

  it.each([
    "INSERT INTO item (id, name) VALUES (30, 'same'), (31, 'SAME')",
    "INSERT INTO item (id, name) VALUES (30, 'a'), (30, 'b')",
    "INSERT INTO item (id, name, boss) VALUES (30, 'a', 99)",
    "INSERT INTO shown VALUES (70, 'x')",
    "INSERT INTO item (id, name) VALUES (1, 'x'), (1, 'y') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    'UPDATE item SET slot = 1',
    "INSERT INTO fed VALUES (3, 'BAD')",
    'UPDATE item SET id = 2 WHERE id = 1',
  ])('fails as live: %s', async (text) => {
    const { outcome } = await inDryRun(text)
    expect(outcome).toHaveProperty('code')
    expect(outcome).toEqual(await forReal(text))
  })

  it('only predicts that a key refers to no row where a trigger may write it', async () => {
    const { outcome, notes } = await inDryRun("INSERT INTO item (id, name, parent) VALUES (30, 'a', 99)")
    expect(outcome).toMatchObject({ rowCount: 1 })
    expect(notes).toContainEqual(expect.stringMatching(/predicted.*item_parent_fkey/))
  })

  it('only predicts that a row a trigger writes meets another one', async () => {
    const { outcome, notes } = await inDryRun("INSERT INTO fed VALUES (1, 'x')")
    expect(outcome).toMatchObject({ rowCount: 1 })
    expect(notes).toContainEqual(expect.stringMatching(/predicted.*vault_pkey/))
  })

  it('is told where the effect of a trigger inside WITH is left out', async () => {
    const text = "WITH n AS (INSERT INTO item (id, name) VALUES (40, 'x') RETURNING name) SELECT * FROM n"
    const { outcome, notes } = await inDryRun(text)
    expect(outcome).toMatchObject({ rows: [{ name: 'X' }] })
    expect(notes).toContain('what triggers of item write was not worked out')
  })
})
