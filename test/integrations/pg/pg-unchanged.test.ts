import { it } from 'vitest'
import { expectNothingChanges } from '../../support/postgres-unchanged.js'
import { observedPostgres, live as observer } from '../../support/postgres-world.js'

const SCHEMA = `
  CREATE TABLE parent (id serial PRIMARY KEY, name text UNIQUE, n int DEFAULT 0, at timestamptz DEFAULT now());
  CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent_id int REFERENCES parent(id) ON DELETE CASCADE, body text);
  CREATE TABLE audit (at timestamptz, what text);
  CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), TG_OP); RETURN COALESCE(NEW, OLD); END $$;
  CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON parent FOR EACH ROW EXECUTE FUNCTION log_it();
  CREATE FUNCTION write_it(x text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), x); RETURN 1; END $$;
  CREATE FUNCTION sneaky() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO audit VALUES (now(), 'sneaky'); RETURN 'done'; END $$;
  CREATE PROCEDURE commit_it() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; INSERT INTO audit VALUES (now(), 'commit_it'); COMMIT; END $$;
  CREATE FUNCTION tries_it() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), 'tries'); RETURN 'added'; EXCEPTION WHEN others THEN RETURN 'not added'; END $$;
  CREATE PROCEDURE calls_it() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (now(), 'called'); END $$;
  CREATE PROCEDURE locks_it() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(1); END $$;
  CREATE PROCEDURE unlocks_it() LANGUAGE plpgsql AS $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO audit VALUES (now(), 'unlocked'); END $$;
  CREATE PROCEDURE keeps_it() LANGUAGE plpgsql AS $$ BEGIN SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; PERFORM 1; END $$;
  CREATE VIEW writing AS SELECT write_it(name) FROM parent;
  CREATE OPERATOR @#@ (FUNCTION = write_it, RIGHTARG = text);
  CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM parent;
  INSERT INTO parent (name) SELECT 'p' || g FROM generate_series(1, 20) g;
  INSERT INTO child (parent_id, body) SELECT g, 'b' || g FROM generate_series(1, 10) g;
`

/** Every kind of statement that changes something live. */
const STATEMENTS = [
  "INSERT INTO parent (name) VALUES ('new') RETURNING id",
  "INSERT INTO parent (name) VALUES ('p1') ON CONFLICT (name) DO UPDATE SET n = 99",
  'INSERT INTO child (parent_id, body) SELECT id, name FROM parent',
  'UPDATE parent SET n = n + 1 RETURNING *',
  'UPDATE child SET body = p.name FROM parent p WHERE p.id = parent_id',
  'DELETE FROM parent WHERE id < 5',
  'WITH d AS (DELETE FROM child RETURNING *) INSERT INTO audit SELECT now(), body FROM d',
  'WITH d AS (DELETE FROM child RETURNING *) SELECT count(*) FROM d',
  'MERGE INTO parent p USING child c ON c.parent_id = p.id WHEN MATCHED THEN UPDATE SET n = 5',
  'TRUNCATE child',
  'SELECT * INTO copied FROM parent',
  'CREATE TABLE created AS SELECT 1 AS a',
  'CREATE TABLE t2 (a int)',
  'CREATE TEMP TABLE scratch (a int)',
  'CREATE INDEX ON parent (n)',
  'ALTER TABLE parent ADD COLUMN extra int',
  'DROP TABLE audit',
  'REFRESH MATERIALIZED VIEW summary',
  'CREATE SCHEMA elsewhere',
  'CREATE ROLE somebody',
  'GRANT SELECT ON parent TO public',
  "COMMENT ON TABLE parent IS 'commented'",
  'VACUUM parent',
  'ANALYZE parent',
  'REINDEX TABLE parent',
  'CLUSTER parent USING parent_pkey',
  'CHECKPOINT',
  "ALTER SYSTEM SET work_mem = '9MB'",
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
  'SELECT write_it(name) FROM parent',
  'SELECT sneaky()',
  'SELECT * FROM writing',
  "SELECT @#@ 'x'::text",
  "SELECT nextval('parent_id_seq')",
  "SELECT setval('parent_id_seq', 1000)",
  'SELECT lo_create(0)',
  'SELECT pg_advisory_lock(1)',
  "SELECT pg_notify('a', 'b')",
  "NOTIFY a, 'b'",
  'SELECT txid_current()',
  "SELECT pg_create_restore_point('x')",
  'SELECT pg_switch_wal()',
  "SELECT pg_logical_emit_message(false, 'a', 'b')",
  'SELECT * FROM parent FOR UPDATE',
  'LOCK TABLE parent IN ACCESS EXCLUSIVE MODE',
  'EXPLAIN ANALYZE DELETE FROM parent',
  'EXPLAIN ANALYZE CREATE TABLE explained AS SELECT 1 AS a',
  "COPY parent TO '/tmp/drytrace-must-not-exist'",
  "COPY parent TO PROGRAM 'touch /tmp/drytrace-must-not-exist'",
  'commit; INSERT INTO audit VALUES (now(), 1)',
  'rollback; INSERT INTO audit VALUES (now(), 1); begin; INSERT INTO audit VALUES (now(), 1); commit',
  'SELECT 1; COMMIT; BEGIN; INSERT INTO audit VALUES (now(), 1); COMMIT',
  'SET TRANSACTION READ WRITE; INSERT INTO audit VALUES (now(), 1)',
  'BEGIN; SET TRANSACTION READ WRITE; INSERT INTO audit VALUES (now(), 1); SELECT write_it(1::text); COMMIT',
  'BEGIN READ WRITE; SELECT write_it(1::text); COMMIT',
  'START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE; DELETE FROM parent; COMMIT AND CHAIN; DELETE FROM parent; COMMIT',
  "BEGIN; INSERT INTO audit VALUES (now(), 1); PREPARE TRANSACTION 'two'",
  "COMMIT PREPARED 'two'",
  "SET default_transaction_read_only = off; SELECT set_config('transaction_read_only', 'off', false); SELECT write_it('x')",
  "PREPARE w AS INSERT INTO audit VALUES (now(), 'prepared'); EXECUTE w",
  'PREPARE r AS SELECT write_it(name) FROM parent; EXECUTE r',
  'DECLARE c CURSOR WITH HOLD FOR SELECT write_it(name) FROM parent; FETCH ALL FROM c',
  "SELECT query_to_xml('DELETE FROM parent', true, true, '')",
  'LISTEN a',
  'DISCARD ALL',
]

/** All rows, the catalog, sequences, counters of changed rows, locks, large objects, prepared transactions. */
async function snapshot() {
  const tables = await observer.query(
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') ORDER BY 1",
  )
  const rows: Record<string, unknown> = {}
  for (const { relname } of tables.rows) {
    rows[relname] = (
      await observer.query(`SELECT t::text, xmin::text, ctid::text FROM "${relname}" t ORDER BY ctid`)
    ).rows
  }
  await observer.query('SELECT pg_stat_force_next_flush()')
  const rest = await observer.query(`SELECT
    (SELECT json_agg((sequencename, last_value)) FROM (SELECT * FROM pg_sequences ORDER BY sequencename) s) AS sequences,
    (SELECT json_agg((relname, relnatts, xmin::text) ORDER BY oid) FROM pg_class WHERE oid >= 16384) AS relations,
    (SELECT json_agg(proname ORDER BY oid) FROM pg_proc WHERE oid >= 16384) AS functions,
    (SELECT json_agg(nspname ORDER BY oid) FROM pg_namespace) AS schemas,
    (SELECT json_agg(rolname ORDER BY oid) FROM pg_roles) AS roles,
    (SELECT json_agg((relname, n_tup_ins, n_tup_upd, n_tup_del) ORDER BY relname) FROM pg_stat_user_tables) AS counters,
    (SELECT count(*) FROM pg_description d JOIN pg_class c ON c.oid = d.objoid WHERE c.oid >= 16384) AS comments,
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
    (SELECT count(*) FROM pg_prepared_xacts) AS prepared,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory,
    (SELECT count(*) FROM pg_replication_slots) AS slots`)
  return { rows, ...rest.rows[0] }
}

observedPostgres(SCHEMA)

it('no statement of a dry process changes the database', () =>
  expectNothingChanges({
    statements: STATEMENTS,
    setting: 'transaction_read_only',
    snapshot,
    source: `
      import pg from 'pg'
      const pool = new pg.Pool({ connectionString: process.env.PG_URL, max: 2 })
      const outcomes = []
      for (const text of JSON.parse(process.env.STATEMENTS)) {
        for (const values of [undefined, []]) {
          try { await pool.query(text, values); outcomes.push([text, 'ok']) }
          catch (error) { outcomes.push([text, error.code, error.message]) }
        }
      }
      // And once more inside a transaction that is committed, each in its own.
      for (const text of JSON.parse(process.env.STATEMENTS)) {
        const client = await pool.connect()
        try {
          await client.query('BEGIN')
          await client.query(text).catch(() => undefined)
          await client.query('COMMIT')
        } finally { client.release() }
      }
      console.log(JSON.stringify(outcomes.filter(([, code]) => /^DRY_GUARD|^XX/.test(code))))
      console.log(JSON.stringify((await pool.query('SHOW transaction_read_only')).rows))
      await pool.end()
    `,
  }))
