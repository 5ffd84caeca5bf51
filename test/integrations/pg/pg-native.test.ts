import { createRequire } from 'node:module'
import path from 'node:path'
import type { Client, DatabaseError, Pool, QueryResult } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { patchNative } from '../../../src/integrations/pg/native.js'
import { pgPoolIntegration } from '../../../src/integrations/pg/pg.js'
import { DIST, runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { mustHavePgClients, PG_CLIENTS, pgNativeInstalled } from '../../support/pg-clients.js'
import { startPostgres, type TestPostgres } from '../../support/postgres.js'
import { guardPg } from './dry-pg.js'
import { type DatabaseState, expectUnchanged, stateOf } from './pg-world.js'

it.runIf(mustHavePgClients)('pg-native is installed and compiled: npm ci --prefix test/pg-clients', () => {
  expect(pgNativeInstalled).toBe(true)
})

describe.skipIf(!pgNativeInstalled)('pg-native (apt-get install libpq-dev, npm ci --prefix test/pg-clients)', () => {
  const { pg, dry, guard, takeEffects, takeProblems } = guardPg()
  let server: TestPostgres
  let live: Client
  let native: Client
  let pool: Pool
  let before: DatabaseState
  const TABLES = ['item', 'audit']

  beforeAll(async () => {
    const require = createRequire(path.join(PG_CLIENTS, 'package.json'))
    const file = require.resolve('pg/lib/native/client.js')
    patchNative(require(file), guard, { name: 'pg', version: null }, file)
    const poolFile = require.resolve('pg-pool')
    pgPoolIntegration.targets[0]?.patch(require(poolFile), guard, { file: poolFile, version: null })
    const { native: bound } = require('pg') as typeof pg & { native: typeof pg }
    server = await startPostgres()
    live = new pg.Client(server.url)
    await live.connect()
    await live.query(`
      CREATE EXTENSION pg_walinspect;
      CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL, code varchar(5) UNIQUE, data bytea, tags jsonb);
      INSERT INTO item (name, code) SELECT 'item ' || n, 'c' || n FROM generate_series(1, 10) n;
      CREATE TABLE audit (what text);
      CREATE PROCEDURE counts(OUT n int) LANGUAGE plpgsql AS $$ BEGIN SELECT count(*) INTO n FROM item; END $$;
      CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; INSERT INTO audit VALUES ('x'); END $$;
      CREATE FUNCTION write_it(x text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (x); RETURN x; END $$;
    `)
    native = new bound.Client(server.url)
    await native.connect()
    pool = new bound.Pool({ connectionString: server.url, max: 1 })
  })

  afterAll(async () => {
    await pool?.end()
    await native?.end()
    await live?.end()
    await server?.stop()
  })

  beforeEach(async () => {
    takeEffects()
    takeProblems()
    before = await stateOf(live, TABLES)
  })

  afterEach(async () => {
    await expectUnchanged(live, TABLES, before)
    const { rows } = await native.query(
      "SELECT current_setting('transaction_read_only') AS mode, (SELECT count(*)::int FROM pg_prepared_statements WHERE name LIKE 'drytrace%') AS n",
    )
    expect(rows).toEqual([{ mode: 'off', n: 0 }])
  })

  it('procedures and blocks that only read are executed, the others are blocked', async () => {
    expect((await dry(() => native.query('CALL counts(NULL)'))).rows).toEqual([{ n: 10 }])
    await dry(() => native.query('DO $$ BEGIN ASSERT (SELECT count(*) FROM item) = 10; END $$'))
    expect((await dry(() => native.query('SELECT txid_current() AS id'))).rows).toEqual([
      { id: expect.stringMatching(/^\d+$/) },
    ])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['allowed', 'allowed', 'allowed'])
    expect((await dry(() => native.query('CALL commits()'))).command).toBe('CALL')
    await dry(() => native.query("DO $$ BEGIN PERFORM write_it('x'); END $$"))
    expect(takeEffects().filter(({ outcome }) => outcome === 'blocked')).toHaveLength(2)
  })

  const pick = ({ command, rowCount, rows, fields }: QueryResult) => ({
    command,
    rowCount,
    rows,
    fields: fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
  })
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => 'ok',
      (error: DatabaseError) => error.code ?? error.message,
    )

  it.each<[string, unknown[]?, object?]>([
    ['SELECT id, name, code, tags FROM item ORDER BY id LIMIT 3'],
    ['SELECT name FROM item WHERE id = $1 AND name LIKE $2', [3, 'item%']],
    ['SELECT name, id FROM item ORDER BY id LIMIT 2', undefined, { rowMode: 'array' }],
    ['SELECT NULL AS nothing, $1::bytea AS b, true AS t, 1.5 AS n', [Buffer.from([0, 255, 1])]],
    ['SELECT 1 AS a; SELECT 2 AS b'],
    ['SELECT 1 WHERE false'],
    ['SHOW work_mem'],
  ])('%s gives what it gives live', async (text, values, more) => {
    const run = async () => {
      const result = (await native.query({ text, values, ...more } as never)) as QueryResult | QueryResult[]
      return Array.isArray(result) ? result.map(pick) : pick(result)
    }
    expect(await dry(run)).toEqual(await run())
    expect(takeEffects().map(({ effect, outcome }) => `${effect} ${outcome}`)).toContain('read allowed')
  })

  it.each<[string, unknown[], object]>([
    [
      'INSERT INTO item (name, code) VALUES ($1, $2) RETURNING name, code',
      ['new', 'n1'],
      { command: 'INSERT', rowCount: 1, rows: [{ name: 'new', code: 'n1' }] },
    ],
    [
      'UPDATE item SET name = name || $1 WHERE id <= $2 RETURNING id, name',
      ['!', 2],
      {
        command: 'UPDATE',
        rowCount: 2,
        rows: [
          { id: 1, name: 'item 1!' },
          { id: 2, name: 'item 2!' },
        ],
      },
    ],
    ['DELETE FROM item WHERE id > $1', [5], { command: 'DELETE', rowCount: 5, rows: [] }],
    [
      "INSERT INTO item (id, name, code) VALUES (1, 'x', 'y') ON CONFLICT (id) DO UPDATE SET name = 'z' RETURNING id, name",
      [],
      { command: 'INSERT', rowCount: 1, rows: [{ id: 1, name: 'z' }] },
    ],
    ['CREATE TABLE made_up (a int)', [], { command: 'CREATE' }],
    ['TRUNCATE item', [], { command: 'TRUNCATE' }],
    ["NOTIFY jobs, 'x'", [], { command: 'NOTIFY' }],
  ])('%s is blocked and simulated', async (text, values, expected) => {
    expect(await dry(() => native.query(text, values))).toMatchObject(expected)
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', effect: 'write' }])
  })

  it('functions that write are found by the server', async () => {
    expect((await dry(() => native.query("SELECT write_it('x') AS x"))).rowCount).toBe(1)
    expect(takeEffects().filter(({ outcome }) => outcome === 'blocked')).toHaveLength(1)
  })

  it('errors are those of the server', async () => {
    const failing = ['SELECT nothing', 'SELEC 1', 'INSERT INTO nowhere VALUES (1)', 'SELECT 1 / 0', "SELECT 'x'::int"]
    for (const text of failing) {
      const fields = (promise: Promise<unknown>) =>
        promise.then(
          () => 'ok',
          ({ code, message, severity, position }: DatabaseError) => ({ code, message, severity, position }),
        )
      expect(await fields(dry(() => native.query(text)))).toEqual(await fields(native.query(text)))
    }
    await native.query('ROLLBACK')
    expect(await code(dry(() => native.query("INSERT INTO item (name, code) VALUES ('x', 'c1')")))).toBe('23505')
    expect(await code(dry(() => native.query('INSERT INTO item (name) VALUES (NULL)')))).toBe('23502')
  })

  it("later statements see the run's own rows", async () => {
    await dry(async () => {
      await native.query('INSERT INTO item (name, code) VALUES ($1, $2)', ['mine', 'm'])
      expect((await native.query('SELECT name FROM item WHERE code = $1', ['m'])).rows).toEqual([{ name: 'mine' }])
      expect((await native.query("UPDATE item SET name = 'changed' WHERE code = $1", ['m'])).rowCount).toBe(1)
      expect((await native.query('SELECT name FROM item WHERE code = $1', ['m'])).rows).toEqual([{ name: 'changed' }])
    })
    expect(takeProblems().filter(({ kind }) => kind === 'gap')).toEqual([])
  })

  it('transactions are READ ONLY and rolled back', async () => {
    await dry(async () => {
      await native.query('BEGIN')
      await native.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
      await native.query("INSERT INTO item (name) VALUES ('mine')")
      expect((await native.query("SELECT current_setting('transaction_read_only') AS mode")).rows).toEqual([
        { mode: 'on' },
      ])
      expect((await native.query('COMMIT')).command).toBe('COMMIT')
      await native.query('BEGIN')
      expect(await code(native.query('SELECT nothing'))).toBe('42703')
      expect(await code(native.query('SELECT 1'))).toBe('25P02')
      expect(await code(native.query("INSERT INTO item (name) VALUES ('x')"))).toBe('25P02')
      expect((await native.query('COMMIT')).command).toBe('ROLLBACK')
    })
  })

  it('a live transaction stays as it was', async () => {
    await native.query('BEGIN')
    await dry(() => native.query("INSERT INTO item (name) VALUES ('dry')"))
    expect(await code(dry(() => native.query('SELECT nothing')))).toBe('42703')
    expect((await native.query('SHOW transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }])
    await native.query('COMMIT')
  })

  it('callbacks, events, names', async () => {
    const seen = await dry(
      () =>
        new Promise((resolve) =>
          native.query('UPDATE item SET name = $1 WHERE id = $2', ['x', 1], (error, result) =>
            resolve([error, result.rowCount, guard.run() !== undefined]),
          ),
        ),
    )
    expect(seen).toEqual([null, 1, true])
    await native.query({ name: 'by-id', text: 'SELECT name FROM item WHERE id = $1', values: [1] })
    const named = { name: 'by-id', text: 'SELECT name FROM item WHERE id = $1', values: [2] }
    expect((await dry(() => native.query(named))).rows).toEqual([{ name: 'item 2' }])
    expect(await code(dry(() => native.query({ ...named, text: 'DELETE FROM item' })))).toMatch(/must be unique/)
  })

  it('live and dry callers of one pool are kept apart, in callback style too', async () => {
    await live.query('CREATE TABLE mark (who text)')
    const insert = (who: string, n: number) =>
      n % 2
        ? pool.query('INSERT INTO mark VALUES ($1)', [who])
        : new Promise((resolve, reject) =>
            pool.query('INSERT INTO mark VALUES ($1)', [who], (error, result) =>
              error ? reject(error) : resolve(result),
            ),
          )
    await Promise.all(
      Array.from({ length: 200 }, (_, n) => (n % 3 === 0 ? dry(() => insert('dry', n)) : insert('live', n))),
    )
    expect((await live.query('SELECT who, count(*)::int AS n FROM mark GROUP BY who')).rows).toEqual([
      { who: 'live', n: 133 },
    ])
    await live.query('DROP TABLE mark')
    before = await stateOf(live, TABLES)
  })

  it('what is not supported is refused before anything leaves', async () => {
    expect(await code(dry(() => native.query('COPY item FROM STDIN')))).toBe('DRY_BLOCKED')
    expect(await code(dry(() => native.query("COPY item TO '/tmp/drytrace-must-not-exist'")))).toBe('DRY_BLOCKED')
    const pipelined = Object.assign(Object.create(native) as Client, { pipeline: true })
    expect(await code(dry(() => pipelined.query("INSERT INTO item (name) VALUES ('x')")))).toBe('DRY_BLOCKED')
    expect((await native.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'failed'])
  })

  it('settings that make texts ambiguous are noticed', async () => {
    await native.query('SET standard_conforming_strings = off')
    expect(await code(dry(() => native.query('SELECT 1')))).toBe('DRY_BLOCKED')
    await native.query('RESET standard_conforming_strings')
    expect(await code(dry(() => native.query('SELECT 1')))).toBe('ok')
  })

  it('used without pg it is refused, in a run and in a dry process; live it works', async () => {
    const source = `
      import { createRequire } from 'node:module'
      import { dryRun } from ${JSON.stringify(`${DIST}/index.js`)}
      const require = createRequire(${JSON.stringify(`${PG_CLIENTS}/package.json`)})
      const Binding = require('pg-native')
      const binding = new Binding()
      binding.connectSync(process.env.PG_URL)
      const use = async () => {
        const code = (fn) => { try { return JSON.stringify(fn()) } catch (error) { return error.code } }
        const byCallback = (method, ...args) => new Promise((resolve) => binding[method](...args, (error) => resolve(error ? error.code : 'ok')))
        return [
          code(() => binding.querySync("DELETE FROM item RETURNING 1 WHERE false")),
          code(() => binding.querySync("DELETE FROM item WHERE false")),
          await byCallback('query', 'DELETE FROM item WHERE false'),
          await byCallback('prepare', 'later', 'DELETE FROM item WHERE false', 0),
        ]
      }
      const { native } = require('pg')
      const client = new native.Client(process.env.PG_URL)
      await client.connect()
      const through = async () => (await client.query('DELETE FROM item')).rowCount
      const out = process.env.DRY_RUN ? [await use(), await through()] : [await dryRun({}, use), await use(), await dryRun({}, through)]
      console.log(JSON.stringify(out))
      await client.end()
      binding.end()
    `
    const refused = Array(4).fill('DRY_BLOCKED')
    const inRun = await runNode({ register: true, env: { PG_URL: server.url }, source })
    expect(inRun.stderr).toBe('')
    expect(JSON.parse(inRun.stdout)).toEqual([refused, [null, '[]', 'ok', 'ok'], 10])
    const dryProcess = await runNode({ register: true, env: { PG_URL: server.url, DRY_RUN: '1' }, source })
    expect(dryProcess.stderr).toBe('')
    expect(JSON.parse(dryProcess.stdout)).toEqual([refused, 10])
  })

  it('preloaded, in a process of its own, nothing gets through', async () => {
    const journal = scratchDirectory()
    const finished = await runNode({
      register: true,
      env: { PG_URL: server.url, DRYTRACE_JOURNAL: journal },
      source: `
        import { createRequire } from 'node:module'
        import { dryRun } from ${JSON.stringify(`${DIST}/index.js`)}
        const { native } = createRequire(${JSON.stringify(`${PG_CLIENTS}/package.json`)})('pg')
        const pool = new native.Pool({ connectionString: process.env.PG_URL, max: 1 })
        const out = await dryRun({}, async () => {
          // The connection is born here, and libpq calls back without any context.
          const byCallback = await new Promise((resolve, reject) => pool.query("DELETE FROM item", (error, result) => error ? reject(error) : resolve(result.rowCount)))
          const { rowCount } = await pool.query("UPDATE item SET name = 'x'")
          return [byCallback, rowCount]
        })
        console.log(JSON.stringify(out))
        await pool.end()
      `,
    })
    expect(finished.stderr).toBe('')
    // The run's own DELETE leaves nothing for its UPDATE.
    expect(JSON.parse(finished.stdout)).toEqual([10, 0])
    expect(readEffects(journal).map(({ outcome }) => outcome)).toEqual(['blocked', 'blocked'])
  })
})
