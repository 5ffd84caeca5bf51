import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Client } from 'pg'
import Cursor from 'pg-cursor'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { enterRun, holdRun } from '../../../src/run/store.js'
import { runNode } from '../../support/child.js'
import { code } from '../../support/error-code.js'
import { client, live as observer, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, guard, takeEffects, takeProblems } = guardPg({
  postgres: { preview: 'rollback', rollback: { lockSeconds: 0.3 } },
  rules: [
    {
      name: 'metrics',
      match: { system: 'postgresql', relation: 'metric' },
      verdict: 'allow',
      owner: 'test',
      reason: 'append-only',
      expires: '2099-12-31',
    },
  ],
})

let other: Client
let runs = 0

postgresWorld(`
    CREATE TABLE parent (id serial PRIMARY KEY, v text UNIQUE);
    CREATE TABLE child (id serial PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE);
    CREATE TABLE late (id int PRIMARY KEY, parent_id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE audit (what text);
    CREATE TABLE metric (v int);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO audit VALUES (TG_OP || ' ' || NEW.v); NEW.v := upper(NEW.v); RETURN NEW; END $$;
    CREATE TRIGGER audit BEFORE INSERT OR UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE FUNCTION add_parent(name text) RETURNS int LANGUAGE sql AS
      $$ INSERT INTO parent (v) VALUES (name) RETURNING id $$;
    CREATE FUNCTION tries_parent(name text) RETURNS text LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO parent (v) VALUES (name); RETURN 'added'; EXCEPTION WHEN others THEN RETURN 'not added'; END $$;
    CREATE PROCEDURE put_parent(name text, OUT id int) LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO parent (v) VALUES (name) RETURNING parent.id INTO id; END $$;
    CREATE PROCEDURE counts(OUT n int) LANGUAGE plpgsql AS $$ BEGIN SELECT count(*) INTO n FROM parent; END $$;
  `)

beforeAll(async () => {
  other = new pg.Client(server.url)
  await other.connect()
})

afterAll(async () => {
  await other?.end()
})

beforeEach(async () => {
  await observer.query(`TRUNCATE parent, child, late, audit, metric RESTART IDENTITY;
    INSERT INTO parent (v) VALUES ('a'), ('b'); INSERT INTO child (parent_id) VALUES (1), (1); TRUNCATE audit`)
  takeEffects()
  takeProblems()
})

afterEach(async () => {
  await observer.query(`DROP TRIGGER IF EXISTS reaching ON parent; DROP FUNCTION IF EXISTS reaching()`)
})

/** Runs `fn` in a run that ends with it, and waits until nothing of it is left on the server. */
async function dryRun<T>(fn: () => Promise<T>): Promise<T> {
  const run = enterRun({ id: `rollback-${process.pid}-${runs++}`, entry: 'test', carriers: ['api'] })
  const release = holdRun(run)
  try {
    return await guard.within(run, fn)
  } finally {
    release()
    await expect.poll(pinnedConnections).toBe(0)
  }
}

/** What is truly there, whatever run asks. */
const live = (text: string) => guard.within(undefined, () => observer.query(text))

async function pinnedConnections(): Promise<number> {
  const { rows } = await live("SELECT 1 FROM pg_stat_activity WHERE application_name = 'drytrace'")
  return rows.length
}

async function world() {
  const { rows } = await live(`SELECT
    (SELECT json_agg(parent ORDER BY id) FROM parent) AS parents, (SELECT json_agg(child ORDER BY id) FROM child) AS children,
    (SELECT count(*)::int FROM audit) AS audits, (SELECT count(*)::int FROM late) AS late`)
  return rows[0]
}

describe('preview: rollback', () => {
  it('gives the caller what real execution gives, and takes it back when the run ends', async () => {
    const before = await world()
    await dryRun(async () => {
      const inserted = await client.query("INSERT INTO parent (v) VALUES ('c') RETURNING id, v")
      expect(inserted.rows).toEqual([{ id: 3, v: 'C' }])
      expect(inserted.command).toBe('INSERT')
      // Another connection of the run sees it, as it would live.
      expect((await other.query('SELECT v FROM parent WHERE id = $1', [3])).rows).toEqual([{ v: 'C' }])
      expect((await other.query('UPDATE parent SET v = v || $1 WHERE id <= 2', ['x'])).rowCount).toBe(2)
      expect((await client.query('SELECT v FROM parent ORDER BY id')).rows.map(({ v }) => v)).toEqual(['AX', 'BX', 'C'])
      expect(await world()).toEqual(before)
    })
    expect(await world()).toEqual(before)
    const effects = takeEffects().filter(({ effect }) => effect === 'write')
    expect(effects.map(({ outcome, preview }) => [outcome, preview?.method, preview?.rows])).toEqual([
      ['blocked', 'rollback', 1],
      ['blocked', 'rollback', 2],
    ])
    expect(effects[0]?.preview?.notes).toContainEqual(expect.stringContaining('sequences move on'))
    expect(effects[0]?.preview?.notes).toContain('also changed by triggers, rules or cascades: public.audit: INSERT 1')
    expect(effects[1]?.preview?.diff).toContainEqual(
      expect.objectContaining({ target: 'public.parent', key: 'id=1', field: 'v', before: 'A' }),
    )
  })

  it('counts cascades, executes functions that write, and runs migrations', async () => {
    const before = await world()
    await dryRun(async () => {
      expect((await client.query('DELETE FROM parent WHERE id = 1')).rowCount).toBe(1)
      expect((await client.query('SELECT count(*)::int AS n FROM child')).rows).toEqual([{ n: 0 }])
      expect((await client.query("SELECT add_parent('f') AS id")).rows[0].id).toBeGreaterThan(2)
      await client.query('CREATE TABLE fresh (id serial PRIMARY KEY, v text); CREATE INDEX ON fresh (v)')
      expect((await client.query("INSERT INTO fresh (v) VALUES ('x') RETURNING *")).rows).toEqual([{ id: 1, v: 'x' }])
      await client.query('ALTER TABLE parent ADD COLUMN extra int DEFAULT 7')
      expect((await client.query('SELECT extra FROM parent WHERE id = 2')).rows).toEqual([{ extra: 7 }])
    })
    expect(await world()).toEqual(before)
    expect((await observer.query("SELECT to_regclass('fresh') AS t")).rows).toEqual([{ t: null }])
    const writes = takeEffects().filter(({ effect }) => effect === 'write')
    expect(writes.map(({ preview }) => preview?.method)).toEqual(Array(6).fill('rollback'))
    expect(writes[0]?.preview?.notes).toContain('also changed by triggers, rules or cascades: public.child: DELETE 2')
    expect(writes[1]?.target).toBe('add_parent')
  })

  it('executes procedures, blocks and functions that handle their own errors; those that read see the rest', async () => {
    const before = await world()
    await dryRun(async () => {
      expect((await client.query("CALL put_parent('p', NULL)")).rows).toEqual([{ id: 3 }])
      expect((await client.query("SELECT tries_parent('t') AS t")).rows).toEqual([{ t: 'added' }])
      await client.query("DO $$ BEGIN INSERT INTO parent (v) VALUES ('d'); END $$")
      expect((await client.query('CALL counts(NULL)')).rows).toEqual([{ n: 5 }])
      await client.query('DO $$ BEGIN ASSERT (SELECT count(*) FROM parent) = 5; END $$')
    })
    expect(await world()).toEqual(before)
    const writes = takeEffects().filter(({ effect }) => effect === 'write')
    expect(writes.map(({ summary, preview }) => [summary, preview?.method])).toEqual([
      ['CALL put_parent()', 'rollback'],
      ['SELECT tries_parent()', 'rollback'],
      ['DO', 'rollback'],
    ])
  })

  it('maps transactions of the application to savepoints', async () => {
    const before = await world()
    await dryRun(async () => {
      expect((await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE')).command).toBe('BEGIN')
      await client.query("INSERT INTO parent (v) VALUES ('gone')")
      await client.query('SAVEPOINT s')
      expect(await code(client.query("INSERT INTO parent (v) VALUES ('GONE')"))).toBe('23505')
      expect(await code(client.query('SELECT 1'))).toBe('25P02')
      await client.query('ROLLBACK TO SAVEPOINT s')
      expect((await client.query('SELECT count(*)::int AS n FROM parent')).rows).toEqual([{ n: 3 }])
      expect((await client.query('ROLLBACK')).command).toBe('ROLLBACK')
      expect((await client.query('SELECT count(*)::int AS n FROM parent')).rows).toEqual([{ n: 2 }])

      await client.query('BEGIN')
      await client.query("INSERT INTO parent (v) VALUES ('kept')")
      expect((await client.query('COMMIT')).command).toBe('COMMIT')
      expect((await other.query("SELECT v FROM parent WHERE v = 'KEPT'")).rowCount).toBe(1)

      await client.query('BEGIN')
      expect(await code(client.query('SELECT 1/0'))).toBe('22012')
      expect((await client.query('COMMIT')).command).toBe('ROLLBACK')
      expect(await code(client.query('SAVEPOINT nowhere'))).toBe('25P01')
      await client.query('BEGIN')
      await client.query("INSERT INTO parent (v) VALUES ('prepared')")
      await client.query("PREPARE TRANSACTION 'two-phase'")
      expect((await client.query("SELECT 1 FROM parent WHERE v = 'PREPARED'")).rowCount).toBe(0)
      await client.query("INSERT INTO parent (v) VALUES ('still dry')")
      await client.query('BEGIN READ ONLY')
      expect(await code(client.query("INSERT INTO parent (v) VALUES ('no')"))).toBe('25006')
      await client.query('ROLLBACK')
    })
    expect(await world()).toEqual(before)
    expect(takeProblems().map(({ message }) => message)).toEqual([
      'transactions asked for serializable; in rollback mode they are read committed',
    ])
  })

  it('checks deferred constraints where live would: at COMMIT, and after a statement of its own', async () => {
    await dryRun(async () => {
      await client.query('BEGIN')
      await client.query('INSERT INTO late VALUES (1, 77)')
      expect(await code(client.query('COMMIT'))).toBe('23503')
      expect((await client.query('SELECT count(*)::int AS n FROM late')).rows).toEqual([{ n: 0 }])
      expect(await code(client.query('INSERT INTO late VALUES (1, 77)'))).toBe('23503')
      // Deferred again for the next transaction.
      await client.query('BEGIN')
      await client.query('INSERT INTO late VALUES (2, 78)')
      await client.query("INSERT INTO parent (id, v) VALUES (78, 'in time')")
      expect((await client.query('COMMIT')).command).toBe('COMMIT')
    })
    expect((await world()).late).toBe(0)
  })

  it('takes several statements in one text back together', async () => {
    await dryRun(async () => {
      const script = "INSERT INTO parent (v) VALUES ('first'); INSERT INTO parent (v) VALUES ('A')"
      expect(await code(client.query(script))).toBe('23505')
      expect((await client.query('SELECT count(*)::int AS n FROM parent')).rows).toEqual([{ n: 2 }])
      await client.query("INSERT INTO parent (v) VALUES ('first'); INSERT INTO parent (v) VALUES ('second')")
      expect((await client.query('SELECT count(*)::int AS n FROM parent')).rows).toEqual([{ n: 4 }])
    })
    expect((await world()).parents).toHaveLength(2)
  })

  it('holds one run apart from another, and from live traffic', async () => {
    await dryRun(async () => {
      await client.query("INSERT INTO parent (v) VALUES ('one')")
      const another = enterRun({ id: `rollback-other-${process.pid}`, entry: 'test', carriers: ['api'] })
      const release = holdRun(another)
      const seen = await guard.within(another, () => other.query("SELECT v FROM parent WHERE v = 'ONE'"))
      expect(seen.rowCount).toBe(0)
      release()
      await guard.within(undefined, () => other.query("INSERT INTO parent (v) VALUES ('live')"))
    })
    expect((await world()).parents.map(({ v }: { v: string }) => v)).toEqual(['A', 'B', 'LIVE'])
  })

  it('does not wait for live locks longer than it may, and works the write out by reading then', async () => {
    await guard.within(undefined, async () => {
      await other.query('BEGIN')
      await other.query("UPDATE parent SET v = 'held' WHERE id = 1")
    })
    await dryRun(async () => {
      const result = await client.query("UPDATE parent SET v = 'mine' WHERE id = 1 RETURNING id, v")
      expect(result.rows).toEqual([{ id: 1, v: 'MINE' }])
    })
    await guard.within(undefined, () => other.query('ROLLBACK'))
    const [effect] = takeEffects().filter(({ effect }) => effect === 'write')
    expect(effect?.preview?.method).toBe('select')
    expect(effect?.preview?.notes).toContainEqual(expect.stringContaining('not executed'))
  })

  it('executes nothing where a trigger could reach out of the transaction', async () => {
    await observer.query(`CREATE FUNCTION reaching() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_logical_emit_message(false, 'out', 'it'); RETURN NEW; END $$;
      CREATE TRIGGER reaching AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION reaching()`)
    const lsn = async () => (await observer.query('SELECT pg_current_wal_insert_lsn() AS lsn')).rows[0].lsn
    const before = await lsn()
    await dryRun(async () => {
      expect((await client.query("INSERT INTO parent (v) VALUES ('x')")).rowCount).toBe(1)
    })
    expect(await lsn()).toBe(before)
    const [effect] = takeEffects().filter(({ effect }) => effect === 'write')
    expect(effect?.preview?.method).toBe('select')
    expect(takeProblems()[0]?.message).toContain('trigger function reaching')
  })

  it('never executes what no rollback undoes', async () => {
    const file = path.join(await mkdtemp(path.join(tmpdir(), 'drytrace-copy-')), 'out')
    await chmod(path.dirname(file), 0o777)
    await dryRun(async () => {
      await client.query('CHECKPOINT')
      await client.query("NOTIFY channel, 'x'")
      await client.query("DO $$ BEGIN PERFORM pg_logical_emit_message(false, 'a', 'b'); END $$")
      await client.query(`COPY parent TO '${file}'`)
    })
    const writes = takeEffects().filter(({ effect }) => effect === 'write')
    expect(writes.map(({ preview }) => preview?.method === 'rollback')).toEqual([false, false, false, false])
    expect(existsSync(file)).toBe(false)
    await rm(path.dirname(file), { recursive: true })
  })

  it('lets through what policy allows, for good', async () => {
    await dryRun(async () => {
      await client.query("INSERT INTO parent (v) VALUES ('x')")
      await client.query('INSERT INTO metric VALUES (1)')
    })
    expect((await observer.query('SELECT v FROM metric')).rows).toEqual([{ v: 1 }])
    expect((await world()).parents).toHaveLength(2)
  })

  it('follows the session settings of the application', async () => {
    await observer.query('CREATE SCHEMA IF NOT EXISTS tenant; CREATE TABLE IF NOT EXISTS tenant.parent (v text)')
    const tenant = new pg.Client(server.url)
    await tenant.connect()
    await guard.within(undefined, () => tenant.query('SET search_path = tenant'))
    await dryRun(async () => {
      await tenant.query("INSERT INTO parent (v) VALUES ('t')")
      expect((await tenant.query('SELECT v FROM tenant.parent')).rows).toEqual([{ v: 't' }])
    })
    await tenant.end()
    expect((await observer.query('SELECT * FROM tenant.parent')).rowCount).toBe(0)
    expect(takeEffects().filter(({ effect }) => effect === 'write')[0]?.preview?.method).toBe('rollback')
  })

  it('rolls back the transaction of a connection that goes with it open', async () => {
    await dryRun(async () => {
      const leaver = new pg.Client(server.url)
      await leaver.connect()
      await leaver.query('BEGIN')
      await leaver.query("INSERT INTO parent (v) VALUES ('left')")
      await leaver.end()
      await expect
        .poll(async () => (await client.query("SELECT 1 FROM parent WHERE v = 'LEFT'")).rowCount, { timeout: 10_000 })
        .toBe(0)
    })
  })

  it('says so when the connection that holds the changes is lost', async () => {
    await dryRun(async () => {
      await client.query("INSERT INTO parent (v) VALUES ('x')")
      await live("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drytrace'")
      await expect.poll(pinnedConnections).toBe(0)
      await expect(client.query("INSERT INTO parent (v) VALUES ('y')")).rejects.toThrow(
        /holds the run's changes is gone/,
      )
    })
    expect((await world()).parents).toHaveLength(2)
    // The application's own connection is unharmed.
    expect((await guard.within(undefined, () => client.query('SELECT 1 AS one'))).rows).toEqual([{ one: 1 }])
  })

  it.each(['ROLLBACK', 'COMMIT'])(
    'does not keep a connection dry whose transaction was lost and ended: %s',
    async (end) => {
      await dryRun(async () => {
        await client.query('BEGIN')
        await client.query("INSERT INTO parent (v) VALUES ('x')")
        await live("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drytrace'")
        await expect.poll(pinnedConnections).toBe(0)
        // Still dry, whatever the context says, until the application ends the transaction.
        await expect(
          guard.within(undefined, () => client.query("INSERT INTO parent (v) VALUES ('y')")),
        ).rejects.toThrow()
        await client.query(end).catch(() => undefined)
      })
      await guard.within(undefined, () => client.query("INSERT INTO parent (v) VALUES ('live again')"))
      expect((await world()).parents.map(({ v }: { v: string }) => v)).toEqual(['A', 'B', 'LIVE AGAIN'])
    },
  )

  it('writes nothing to the caller that the journal does not hold', async () => {
    await dryRun(async () => {
      const { rows } = await client
        .query("INSERT INTO parent (v) VALUES ('x'); SELECT count(*)::int AS n FROM parent")
        .then((results) => (results as unknown as { rows: unknown[] }[])[1] as { rows: unknown[] })
      expect(rows).toEqual([{ n: 3 }])
    })
    expect(takeEffects().map(({ effect, outcome }) => `${effect} ${outcome}`)).toEqual([
      'write blocked',
      'read allowed',
    ])
  })

  it('serialises the transactions of a run that come over several connections', async () => {
    await observer.query('CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)')
    const pool = new pg.Pool({ connectionString: server.url, max: 4 })
    await dryRun(async () => {
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const own = await pool.connect()
          try {
            await own.query('BEGIN')
            const { rows } = await own.query('SELECT n FROM counter')
            await own.query('UPDATE counter SET n = $1', [rows[0].n + 1])
            await own.query('COMMIT')
          } finally {
            own.release()
          }
        }),
      )
      expect((await pool.query('SELECT n FROM counter')).rows).toEqual([{ n: 20 }])
    })
    await guard.within(undefined, async () => {
      await Promise.all(Array.from({ length: 20 }, () => pool.query('UPDATE counter SET n = n + 1')))
    })
    await pool.end()
    expect((await live('SELECT n FROM counter')).rows).toEqual([{ n: 20 }])
    expect(takeProblems()).toEqual([])
  })

  it('loses no live write of a pool it shares, and keeps none of its own', async () => {
    await observer.query('CREATE TABLE log (who text)')
    const pool = new pg.Pool({ connectionString: server.url, max: 3 })
    const insert = (who: string) => pool.query('INSERT INTO log VALUES ($1)', [who])
    const lives = Array.from({ length: 200 }, (_, index) => guard.within(undefined, () => insert(`live ${index}`)))
    const runs = Array.from({ length: 4 }, (_, index) =>
      dryRun(async () => {
        await Promise.all(Array.from({ length: 25 }, () => insert(`dry ${index}`)))
        expect((await pool.query('SELECT 1 FROM log WHERE who = $1', [`dry ${index}`])).rowCount).toBe(25)
        expect((await pool.query("SELECT 1 FROM log WHERE who LIKE 'dry%'")).rowCount).toBe(25)
      }),
    )
    await Promise.all([...lives, ...runs])
    await pool.end()
    const { rows } = await live(
      "SELECT count(*)::int AS n, count(*) FILTER (WHERE who LIKE 'dry%')::int AS dry FROM log",
    )
    expect(rows).toEqual([{ n: 200, dry: 0 }])
    expect(takeEffects().filter(({ effect }) => effect === 'write')).toHaveLength(100)
  })

  it('reads the changes of the run through a cursor, while the run goes on', async () => {
    await dryRun(async () => {
      await client.query("INSERT INTO parent (v) VALUES ('c')")
      const cursor = client.query(new Cursor('SELECT v FROM parent ORDER BY id'))
      expect(await cursor.read(2)).toEqual([{ v: 'A' }, { v: 'B' }])
      await other.query("UPDATE parent SET v = 'other' WHERE id = 1")
      expect(await cursor.read(2)).toEqual([{ v: 'C' }])
      await cursor.close()
      expect((await client.query('SELECT v FROM parent WHERE id = 1')).rows).toEqual([{ v: 'OTHER' }])
      const writing = client.query(new Cursor("SELECT add_parent('by cursor') AS id"))
      expect(await writing.read(2)).toHaveLength(1)
      await writing.close()
      expect((await client.query("SELECT 1 FROM parent WHERE v = 'BY CURSOR'")).rowCount).toBe(1)
    })
    expect((await world()).parents).toHaveLength(2)
  })

  it('does not hang on a transaction that waits for another connection of its run', async () => {
    const before = await world()
    await dryRun(async () => {
      await client.query('BEGIN')
      await client.query("INSERT INTO parent (v) VALUES ('x')")
      await other.query("INSERT INTO parent (v) VALUES ('y')")
      await client.query('COMMIT')
      expect((await client.query('SELECT count(*)::int AS n FROM parent')).rows).toEqual([{ n: 4 }])
    })
    expect(await world()).toEqual(before)
    expect(takeProblems()[0]?.message).toContain('went on inside it')
  })
})

describe('a process that is dry from start to end', () => {
  it('ends on its own, and leaves nothing behind', async () => {
    const before = await world()
    const directory = await mkdtemp(path.join(tmpdir(), 'drytrace-policy-'))
    const policy = path.join(directory, 'drytrace.config.yaml')
    await writeFile(policy, 'version: 1\npostgres: {preview: rollback}\n')
    const finished = await runNode({
      register: true,
      source: `import pg from 'pg'
        const pool = new pg.Pool({ connectionString: ${JSON.stringify(server.url)} })
        const { rows } = await pool.query("INSERT INTO parent (v) VALUES ('child') RETURNING v")
        console.log(rows[0].v, (await pool.query('SELECT count(*)::int AS n FROM parent')).rows[0].n)
        await pool.end()`,
      env: { DRY_RUN: '1', DRYTRACE_POLICY: policy },
    })
    await rm(directory, { recursive: true })
    expect(finished).toMatchObject({ code: 0, signal: null, stdout: 'CHILD 3\n' })
    expect(await world()).toEqual(before)
  })
})
