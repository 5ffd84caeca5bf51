import { it } from 'vitest'
import { expectNothingChanges } from '../../support/postgres-unchanged.js'
import { observedPostgres, live as observer } from '../../support/postgres-world.js'

const SCHEMA = `
  CREATE TABLE parent (id serial PRIMARY KEY, name text UNIQUE, n int DEFAULT 0);
  CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent_id int REFERENCES parent(id) ON DELETE CASCADE, body text);
  CREATE TABLE audit (at timestamptz, what text);
  CREATE FUNCTION write_it(x text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), x); RETURN 1; END $$;
  CREATE FUNCTION sneaky() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO audit VALUES (now(), 'sneaky'); RETURN 'done'; END $$;
  CREATE PROCEDURE commit_it() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; INSERT INTO audit VALUES (now(), 'commit_it'); COMMIT; END $$;
  CREATE FUNCTION tries_it() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), 'tries'); RETURN 'added'; EXCEPTION WHEN others THEN RETURN 'not added'; END $$;
  CREATE PROCEDURE calls_it() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), 'called'); END $$;
  CREATE PROCEDURE locks_it() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(1); END $$;
  CREATE PROCEDURE unlocks_it() LANGUAGE plpgsql AS $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO audit VALUES (now(), 'unlocked'); END $$;
  CREATE PROCEDURE keeps_it() LANGUAGE plpgsql AS $$ BEGIN SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; PERFORM 1; END $$;
  CREATE VIEW writing AS SELECT write_it(name) FROM parent;
  INSERT INTO parent (name) SELECT 'p' || g FROM generate_series(1, 20) g;
  INSERT INTO child (parent_id, body) SELECT g, 'b' || g FROM generate_series(1, 10) g;
`

const STATEMENTS = [
  "INSERT INTO parent (name) VALUES ('new') RETURNING id",
  "INSERT INTO parent (name) VALUES ('p1') ON CONFLICT (name) DO UPDATE SET n = 99",
  'UPDATE parent SET n = n + 1 RETURNING *',
  'DELETE FROM parent WHERE id < 5',
  'WITH d AS (DELETE FROM child RETURNING *) INSERT INTO audit SELECT now(), body FROM d',
  'MERGE INTO parent p USING child c ON c.parent_id = p.id WHEN MATCHED THEN UPDATE SET n = 5',
  'TRUNCATE child',
  'SELECT * INTO copied FROM parent',
  'CREATE TABLE made (a int)',
  'CREATE TEMP TABLE scratch (a int)',
  'CREATE INDEX ON parent (n)',
  'DROP TABLE audit',
  'VACUUM parent',
  'ANALYZE parent',
  'CALL commit_it()',
  'CALL calls_it()',
  'CALL locks_it()',
  'CALL unlocks_it()',
  'CALL keeps_it()',
  'CALL keeps_it(); CALL calls_it()',
  'SELECT tries_it()',
  "DO $$ BEGIN PERFORM count(*) FROM parent; PERFORM write_it('x'); END $$",
  'DO $$ DECLARE r record; BEGIN FOR r IN SELECT name FROM parent LOOP CALL calls_it(); END LOOP; END $$',
  'DO $$ DECLARE r record := (SELECT pg_advisory_lock(1)); BEGIN NULL; END $$',
  'DO $$ BEGIN CALL locks_it(); END $$',
  'DO $$ BEGIN ROLLBACK; INSERT INTO audit VALUES (now(), 1); COMMIT; END $$',
  "SELECT write_it('x')",
  'SELECT sneaky()',
  'SELECT * FROM writing',
  "SELECT nextval('parent_id_seq')",
  "SELECT setval('parent_id_seq', 1000)",
  'SELECT lo_create(0)',
  'SELECT pg_advisory_lock(1)',
  "NOTIFY a, 'b'",
  'SELECT txid_current()',
  'SELECT pg_switch_wal()',
  'SELECT * FROM parent FOR UPDATE',
  'EXPLAIN ANALYZE DELETE FROM parent',
  'EXPLAIN ANALYZE CREATE TABLE explained AS SELECT 1 AS a',
  "COPY parent TO '/tmp/drytrace-must-not-exist'",
  'commit; INSERT INTO audit VALUES (now(), 1)',
  'rollback; INSERT INTO audit VALUES (now(), 1); begin; INSERT INTO audit VALUES (now(), 1); commit',
  'SET TRANSACTION READ WRITE; INSERT INTO audit VALUES (now(), 1)',
  'START TRANSACTION READ WRITE; DELETE FROM parent; COMMIT AND CHAIN; DELETE FROM parent; COMMIT',
  "BEGIN; INSERT INTO audit VALUES (now(), 1); PREPARE TRANSACTION 'two'",
  "SET default_transaction_read_only = off; SELECT set_config('default_transaction_read_only', 'off', false); SELECT write_it('x')",
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE',
  "PREPARE w AS INSERT INTO audit VALUES (now(), 'prepared'); EXECUTE w",
  'DECLARE c CURSOR WITH HOLD FOR SELECT write_it(name) FROM parent; FETCH ALL FROM c',
  'LISTEN a',
  'DISCARD ALL',
]

/** All rows, relations, sequences, counters of changed rows, locks, large objects. */
async function snapshot() {
  await observer.query('SELECT pg_stat_force_next_flush()')
  const rest = await observer.query(`SELECT
    (SELECT json_agg((t::text, xmin::text, ctid::text)) FROM parent t) AS parent,
    (SELECT json_agg((t::text, xmin::text, ctid::text)) FROM child t) AS child,
    (SELECT json_agg(t) FROM audit t) AS audit,
    (SELECT json_agg((sequencename, last_value)) FROM (SELECT * FROM pg_sequences ORDER BY sequencename) s) AS sequences,
    (SELECT json_agg((relname, relnatts, xmin::text) ORDER BY oid) FROM pg_class WHERE oid >= 16384) AS relations,
    (SELECT json_agg((relname, n_tup_ins, n_tup_upd, n_tup_del) ORDER BY relname) FROM pg_stat_user_tables) AS counters,
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
    (SELECT count(*) FROM pg_prepared_xacts) AS prepared,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory`)
  return rest.rows[0]
}

observedPostgres(SCHEMA)

it('no statement of a dry process changes the database', () =>
  expectNothingChanges({
    statements: STATEMENTS,
    setting: 'default_transaction_read_only',
    snapshot,
    source: `
      import postgres from 'postgres'
      const sql = postgres(process.env.PG_URL, { max: 1, onnotice() {} })
      const outcomes = []
      for (const text of JSON.parse(process.env.STATEMENTS)) {
        const ways = {
          simple: () => sql.unsafe(text),
          extended: () => sql.unsafe(text, [], { simple: false }),
          prepared: () => sql.unsafe(text, [], { simple: false, prepare: true }),
          described: () => sql.unsafe(text).describe(),
          cursor: () => sql.unsafe(text).cursor(1, () => undefined),
          'in a transaction': () => sql.begin(async (tx) => { await tx.unsafe(text).catch(() => undefined) }),
          'at a savepoint': () => sql.begin((tx) => tx.savepoint((inner) => inner.unsafe(text))),
        }
        for (const [way, go] of Object.entries(ways)) {
          const limit = new Promise((resolve) => setTimeout(resolve, 5000, 'hangs').unref())
          const outcome = await Promise.race([limit, go().then(() => 'ok', (error) => error.code)])
          outcomes.push([text, way, outcome])
        }
      }
      console.log(JSON.stringify(outcomes.filter(([, , code]) => /^DRY_GUARD|^XX|hangs/.test(code))))
      console.log(JSON.stringify([...await sql\`SHOW default_transaction_read_only\`]))
      await sql.end()
    `,
  }))
