import type { Client } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runForReal, runScript, type Step } from '../../support/postgres-scripts.js'
import { postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

const { pg, dry, takeEffects } = guardPg()

const SCHEMA = `
  CREATE EXTENSION pg_walinspect;
  CREATE ROLE clerk LOGIN PASSWORD 'clerk';
  CREATE TABLE document (id int PRIMARY KEY, owner text NOT NULL DEFAULT current_user, level int CHECK (level < 90), body text);
  INSERT INTO document VALUES (1, 'clerk', 1, 'mine'), (2, 'clerk', 3, 'mine too'), (3, 'boss', 1, 'not mine'), (4, 'clerk', 1, 'fixed');
  GRANT ALL ON document TO clerk;
  ALTER TABLE document ENABLE ROW LEVEL SECURITY;
  CREATE POLICY readable ON document FOR SELECT USING (level < 50);
  CREATE POLICY addable ON document FOR INSERT WITH CHECK (owner = current_user);
  CREATE POLICY editable ON document FOR UPDATE USING (owner = current_user) WITH CHECK (owner = current_user AND level < 10);
  CREATE POLICY fixed ON document AS RESTRICTIVE FOR UPDATE USING (body <> 'fixed') WITH CHECK (document.body <> 'secret');
  CREATE POLICY deletable ON document FOR DELETE USING (level = 1);
  CREATE TABLE closed (id int PRIMARY KEY, v text);
  INSERT INTO closed VALUES (1, 'x');
  GRANT ALL ON closed TO clerk;
  ALTER TABLE closed ENABLE ROW LEVEL SECURITY;
  CREATE POLICY nobody ON closed FOR INSERT;
  CREATE POLICY everybody ON closed FOR SELECT USING (true);
  CREATE TABLE seen (id int PRIMARY KEY, n int);
  INSERT INTO seen VALUES (1, 1), (2, 2);
  GRANT ALL ON seen TO clerk;
  ALTER TABLE seen ENABLE ROW LEVEL SECURITY;
  CREATE POLICY small ON seen FOR SELECT USING (n < 10);
  CREATE POLICY changeable ON seen FOR UPDATE USING (true);
`

postgresWorld(SCHEMA)
const unchanged = leavesUnchanged(['document', 'closed', 'seen'])

let clerk: Client

beforeAll(async () => {
  const { host, port, database } = server
  clerk = new pg.Client({ host, port, database, user: 'clerk', password: 'clerk' })
  await clerk.connect()
})
afterAll(async () => {
  await clerk.end()
})
beforeEach(() => {
  takeEffects()
})

const merge = (id: number, clauses: string): Step => [
  `MERGE INTO document d USING (SELECT ${id} AS i) s ON d.id = s.i ${clauses}`,
]

describe('a write under row security gives what live would have given', () => {
  it.each<Step>([
    ["INSERT INTO document VALUES (9, 'clerk', 1, 'new')"],
    ["INSERT INTO document VALUES (9, 'boss', 1, 'new')"],
    ["INSERT INTO document VALUES (9, 'clerk', 60, 'new')"],
    ["INSERT INTO document VALUES (9, 'clerk', 60, 'new') RETURNING id"],
    ["INSERT INTO document VALUES (9, 'boss', 95, NULL)"],
    ["INSERT INTO closed VALUES (2, 'x')"],
    ["UPDATE document SET body = 'changed' RETURNING id"],
    ['UPDATE document SET level = 20 WHERE id = 1'],
    ["UPDATE document SET body = 'secret' WHERE id = 1"],
    ['UPDATE seen SET n = 20'],
    ['UPDATE seen SET n = n + 20'],
    ['UPDATE seen SET n = s.n + 20 FROM (VALUES (1)) s(n)'],
    ['UPDATE seen SET n = 20 WHERE id = 1'],
    ['DELETE FROM document RETURNING id'],
    [
      "INSERT INTO document VALUES (1, 'clerk', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING *",
    ],
    ["INSERT INTO document VALUES (1, 'boss', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body"],
    [
      "INSERT INTO document VALUES (1, 'boss', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body WHERE false",
    ],
    ["INSERT INTO document VALUES (1, 'boss', 1, 'new') ON CONFLICT DO NOTHING"],
    ["INSERT INTO document VALUES (1, 'clerk', 1, 'new') ON CONFLICT DO NOTHING"],
    ["INSERT INTO document VALUES (9, 'clerk', 60, 'new') ON CONFLICT DO NOTHING"],
    ["INSERT INTO document VALUES (9, 'clerk', 60, 'new') ON CONFLICT (id) DO NOTHING"],
    ["INSERT INTO document VALUES (3, 'clerk', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body"],
    [
      "INSERT INTO document VALUES (3, 'clerk', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body WHERE document.level > 1",
    ],
    ["INSERT INTO document VALUES (4, 'clerk', 1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body"],
    ["INSERT INTO document VALUES (1, 'clerk', 1, 'new') ON CONFLICT (id) DO UPDATE SET level = 20"],
    ["INSERT INTO document VALUES (1, 'clerk', 1, 'secret') ON CONFLICT (id) DO UPDATE SET body = excluded.body"],
    merge(1, "WHEN MATCHED THEN UPDATE SET body = 'merged' RETURNING d.*"),
    merge(1, 'WHEN MATCHED THEN UPDATE SET level = 20'),
    merge(1, "WHEN MATCHED THEN UPDATE SET body = 'secret'"),
    merge(3, "WHEN MATCHED THEN UPDATE SET body = 'merged'"),
    merge(4, "WHEN MATCHED THEN UPDATE SET body = 'merged'"),
    merge(3, 'WHEN MATCHED THEN DELETE RETURNING merge_action(), d.id'),
    merge(2, 'WHEN MATCHED THEN DELETE'),
    merge(3, "WHEN MATCHED AND d.owner = 'clerk' THEN DELETE WHEN MATCHED THEN DO NOTHING"),
    merge(9, "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (9, 'clerk', 1, 'by merge')"),
    merge(9, "WHEN NOT MATCHED THEN INSERT VALUES (9, 'boss', 1, 'by merge')"),
    merge(9, "WHEN NOT MATCHED THEN INSERT VALUES (9, 'clerk', 60, 'by merge')"),
    merge(9, "WHEN NOT MATCHED THEN INSERT VALUES (9, 'clerk', 60, 'by merge') RETURNING d.id"),
    ['MERGE INTO closed USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE'],
  ])('%s', async (text, values = []) => {
    const expected = await runForReal(clerk, [[text, values]], [])
    await unchanged.renew()
    const found = await dry(() => runScript(clerk, [[text, values]], [], false))
    expect(found).toEqual(expected)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked' }])
  })
})
