// PostgreSQL's own regression suites in a dry run, on the server they have populated: npm run pg:regress
import { fork } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startCluster } from './pg-regress/cluster.mjs'
import { differences, takeEvidence, walRecords } from './pg-regress/evidence.mjs'
import { populate, sessionsOf } from './pg-regress/populate.mjs'
import { regressionLibrary, regressionSource } from './pg-regress/source.mjs'
import { findServer, Missing, serverUser } from './pg-regress/tools.mjs'

const help = `Usage: npm run pg:regress -- [options]

Needs a PostgreSQL server of Debian (postgresql, postgresql-contrib) and, the
first time, apt for its source package and for the headers that the suite's C
functions are built with (gcc); both are kept below .build/pg-regress.

Options:
  --bin DIR      programs of the server; else the newest in /usr/lib/postgresql
  --source PATH  PostgreSQL's source tree or tarball, instead of Debian's
  --only REGEX   only sessions of scripts with such names
  --without-guard  leave the preload out, to see the evidence turn red
`

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({
  options: {
    bin: { type: 'string' },
    source: { type: 'string' },
    only: { type: 'string' },
    'without-guard': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const startedAt = Date.now()
const log = (text) => console.log(`${String(Math.round((Date.now() - startedAt) / 1000)).padStart(4)} s  ${text}`)

async function main() {
  const server = findServer(options.bin)
  const user = serverUser()
  const directory = path.join(ROOT, '.build/pg-regress', server.version)
  const tree = regressionSource({ directory, ...server, given: options.source })
  const pkglibdir = path.join(server.bin, '../lib')
  const library = regressionLibrary({ directory, tree, major: server.major, pkglibdir })
  const cluster = await startCluster({ bin: server.bin, user })
  try {
    log(`PostgreSQL ${server.version} on port ${cluster.port}`)
    await populate({ cluster, bin: server.bin, tree, library, user, log })
    return await prove({ cluster, bin: server.bin, user, directory })
  } catch (error) {
    console.error(error)
    return 2
  } finally {
    await cluster.stop()
  }
}

async function prove({ cluster, bin, user, directory }) {
  const only = new RegExp(options.only ?? '')
  const sessions = sessionsOf(cluster.readLog()).filter(({ name }) => only.test(name))
  const statements = sessions.reduce((sum, session) => sum + session.statements.length, 0)
  log(`${statements} statements in ${sessions.length} sessions`)

  const observer = new pg.Client({ host: cluster.host, port: cluster.port, user: 'postgres', database: 'postgres' })
  // Stopping the server ends it.
  observer.on('error', () => undefined)
  await observer.connect()
  const databases = await settle(cluster, observer, sessions)
  const context = { cluster, bin, user, databases }
  const before = await takeEvidence(context)
  log(`${Object.keys(before).length} facts noted; the dry run begins`)

  let sent = 0
  let last = await position(observer)
  const start = last
  const moved = []
  const codes = new Map()
  const stuck = []
  const died = await replay(cluster, directory, sessions, async ({ index, number, code, message }) => {
    if (++sent % 10_000 === 0) log(`${sent} statements`)
    codes.set(code ?? 'ok', (codes.get(code ?? 'ok') ?? 0) + 1)
    const session = sessions[index]
    const statement = { name: session.name, text: session.statements[number], code, message }
    if (code === 'BOUND') stuck.push(statement)
    const now = await position(observer)
    if (now.wal !== last.wal || now.xid !== last.xid || now.advisory !== last.advisory)
      moved.push({ ...statement, from: last, to: now })
    last = now
  })
  log('the dry run is over')
  // Statistics are flushed at most once a second.
  await sleep(1500)
  const end = await position(observer)
  await observer.end()
  const found = differences(before, await takeEvidence(context))

  const guilty = moved.flatMap((one) => {
    const records = walRecords(context, one.from.wal, one.to.wal)
    const reasons = records.map((record) => record.replace(/^rmgr: (\S+).*desc: (\S+).*$/, '$1 $2'))
    if (one.from.xid !== one.to.xid) reasons.push('a transaction id was taken')
    if (one.from.advisory < one.to.advisory) reasons.push('an advisory lock was taken')
    return reasons.length === 0 ? [] : [{ ...one, reasons: [...new Set(reasons)] }]
  })
  const late = walRecords(context, start.wal, end.wal).length
  report({ codes, stuck, guilty, found, late })
  const wrong = Math.max(guilty.length, found.length > 0 || late > 0 ? 1 : 0)
  if (died !== undefined) console.log(died)
  console.log(`false allows: ${wrong} of ${sent}`)
  return wrong === 0 && stuck.length === 0 && died === undefined ? 0 : 1
}

/** Roles the sessions log in as exist, and nothing is left for a read to tidy up. */
async function settle(cluster, observer, sessions) {
  for (const user of new Set(sessions.map((session) => session.user))) {
    const { rowCount } = await observer.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [user])
    if (rowCount === 0) await observer.query(`CREATE ROLE ${pg.escapeIdentifier(user)} LOGIN`)
  }
  await observer.query('ALTER SYSTEM SET log_statement = none')
  await observer.query('SELECT pg_reload_conf()')
  const { rows } = await observer.query('SELECT datname FROM pg_database WHERE datallowconn')
  for (const { datname } of rows) {
    const client = new pg.Client({ host: cluster.host, port: cluster.port, user: 'postgres', database: datname })
    await client.connect()
    try {
      await client.query('VACUUM (FREEZE)')
    } finally {
      await client.end()
    }
  }
  await observer.query('CHECKPOINT')
  await sleep(1500)
  return rows.map(({ datname }) => datname)
}

async function position(observer) {
  const { rows } = await observer.query(`SELECT pg_current_wal_insert_lsn()::text AS wal,
    pg_snapshot_xmax(pg_current_snapshot())::text AS xid,
    (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS advisory`)
  return rows[0]
}

/** Resolves with what is wrong with the child, if anything is. */
function replay(cluster, directory, sessions, observe) {
  mkdirSync(directory, { recursive: true })
  const policy = path.join(directory, 'policy.json')
  writeFileSync(
    policy,
    JSON.stringify({ version: 1, budget: { writes: 1_000_000, repeats: 1_000_000, seconds: 86_400 } }),
  )
  const journal = path.join(directory, 'journal')
  rmSync(journal, { recursive: true, force: true })
  const preload = options['without-guard'] ? [] : ['--import', new URL('../dist/register.js', import.meta.url).href]
  const child = fork(new URL('./pg-regress/replay.mjs', import.meta.url), {
    execArgv: preload,
    env: {
      ...process.env,
      DRY_RUN: '1',
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_POLICY: policy,
      DRYTRACE_QUIET: '1',
      PGTZ: 'PST8PDT',
    },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  return new Promise((resolve, reject) => {
    child.on('message', (message) => {
      observe(message).then(() => child.connected && child.send('next'), reject)
    })
    child.on('exit', (code, signal) => resolve(code === 0 ? undefined : `the child ended with ${signal ?? code}`))
    child.send({ sessions, connection: { host: cluster.host, port: cluster.port } })
  })
}

function report({ codes, stuck, guilty, found, late }) {
  const sorted = [...codes].sort(([, a], [, b]) => b - a)
  console.log(`\nanswers: ${sorted.map(([code, count]) => `${code} ${count}`).join(', ')}`)
  const line = (text) => text.replace(/\s+/g, ' ').slice(0, 200)
  for (const one of stuck.slice(0, 20)) console.log(`no answer: ${one.name}: ${line(one.text)}`)
  for (const one of guilty.slice(0, 60))
    console.log(`FALSE ALLOW: ${one.name}: ${line(one.text)} (${one.code ?? 'ok'}): ${one.reasons.join(', ')}`)
  for (const one of found.slice(0, 40)) console.log(`CHANGED: ${one}`)
  console.log(
    `WAL records beside RUNNING_XACTS: ${late}; facts changed: ${found.length}; statements without an answer: ${stuck.length}`,
  )
}

if (options.help) {
  console.log(help)
} else {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(error instanceof Missing ? `pg:regress: ${error.message}` : error)
    process.exitCode = 2
  }
}
