// PostgreSQL's own regression suites in a dry run: npm run pg:regress
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startCluster } from './pg-regress/cluster.mjs'
import { startDryProcess } from './pg-regress/dry-process.mjs'
import { differences, takeEvidence, walRecords } from './pg-regress/evidence.mjs'
import { interpose } from './pg-regress/interleaved.mjs'
import { Ledger } from './pg-regress/ledger.mjs'
import { populate, sessionsOf } from './pg-regress/populate.mjs'
import { regressionLibrary, regressionSource } from './pg-regress/source.mjs'
import { findServer, Missing, serverUser } from './pg-regress/tools.mjs'

const help = `Usage: npm run pg:regress -- [options]

Needs a PostgreSQL server of Debian (postgresql, postgresql-contrib) and, the
first time, apt for its source package and for the headers that the suite's C
functions are built with (gcc); both are kept below .build/pg-regress.

Options:
  --bin DIR        programs of the server; else the newest in /usr/lib/postgresql
  --source PATH    PostgreSQL's source tree or tarball, instead of Debian's
  --only REGEX     only the scripts with such names
  --interleaved    every statement dry immediately before it is executed live,
                   instead of all of them on the populated server
  --without-guard  leave the preload out, to see the evidence turn red
`

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({
  options: {
    bin: { type: 'string' },
    source: { type: 'string' },
    only: { type: 'string', default: '' },
    interleaved: { type: 'boolean', default: false },
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
  const context = { cluster, bin: server.bin, user, directory }
  try {
    log(`PostgreSQL ${server.version} on port ${cluster.port}`)
    const suite = { ...context, tree, library, log, only: new RegExp(options.only) }
    return await (options.interleaved ? proveInterleaved(context, suite) : provePopulated(context, suite))
  } catch (error) {
    // Stopping the server ends connections, which must not be what is reported.
    console.error(error instanceof Missing ? `pg:regress: ${error.message}` : error)
    return 2
  } finally {
    await cluster.stop()
  }
}

/** All statements on the server that executing them all has left behind. */
async function provePopulated(context, suite) {
  const { cluster, directory } = context
  await populate(suite)
  const sessions = sessionsOf(cluster.readLog()).filter(({ name }) => suite.only.test(name))
  log(
    `${sessions.reduce((sum, { statements }) => sum + statements.length, 0)} statements in ${sessions.length} sessions`,
  )

  const ledger = new Ledger(context, { strict: true })
  await ledger.open()
  const databases = await settle(context, ledger.observer, sessions)
  const before = await takeEvidence({ ...context, databases })
  log(`${Object.keys(before).length} facts noted; the dry run begins`)

  const start = await ledger.mark()
  const dry = startDryProcess({ cluster, directory, guarded: !options['without-guard'] })
  for (const [id, { name, user, database, statements }] of sessions.entries()) {
    for (const text of statements) {
      await ledger.add({ name, text }, await dry.execute({ id, user, database, text }))
      if (ledger.sent % 10_000 === 0) log(`${ledger.sent} statements`)
    }
    await dry.execute({ id })
  }
  await dry.stop()
  log('the dry run is over')

  // Statistics are flushed at most once a second.
  await sleep(1500)
  const end = await ledger.mark()
  const changed = differences(before, await takeEvidence({ ...context, databases }))
  ledger.judge()
  const late = walRecords(context, start.wal, end.wal).length
  return report(ledger, { changed, late })
}

/** Each statement dry when the server is in the state that the live one is about to meet. */
async function proveInterleaved(context, suite) {
  const { cluster, directory } = context
  const ledger = new Ledger(context, { strict: false })
  await ledger.open()
  const dry = startDryProcess({ cluster, directory, guarded: !options['without-guard'] })
  const proxy = await interpose(cluster, async ({ id, user, database, text, name }) => {
    if (name === undefined || name === 'setup') return
    if (text === undefined) await dry.execute({ id })
    // A dry transaction that is left open would hold locks that the live statement waits for.
    else if (!TRANSACTION_CONTROL.test(text) && suite.only.test(name)) {
      await ledger.mark()
      await ledger.add({ name, text }, await dry.execute({ id, user, database, text, single: true }))
      if (ledger.sent % 10_000 === 0) log(`${ledger.sent} statements`)
    }
  })
  await populate({ ...suite, port: proxy.port })
  await dry.stop()
  proxy.close()
  return report(ledger, { changed: [], late: 0 })
}

const TRANSACTION_CONTROL =
  /^(\s|--.*\n)*(begin|start|commit|end|rollback|abort|savepoint|release|prepare\s+transaction|declare|fetch|move|close)\b/i

/** Roles the sessions log in as exist, and nothing is left for a read to tidy up. */
async function settle({ cluster }, observer, sessions) {
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

function report({ sent, answers, stuck, guilty }, { changed, late }) {
  const sorted = [...answers].sort(([, a], [, b]) => b - a)
  console.log(`\nanswers: ${sorted.map(([code, count]) => `${code} ${count}`).join(', ')}`)
  const line = (text) => text.replace(/\s+/g, ' ').slice(0, 200)
  for (const one of stuck.slice(0, 20)) console.log(`no answer: ${one.name}: ${line(one.text)}`)
  for (const one of changed.slice(0, 40)) console.log(`CHANGED: ${one}`)
  console.log(
    `WAL records beside RUNNING_XACTS: ${late}; facts changed: ${changed.length}; statements without an answer: ${stuck.length}`,
  )
  const wrong = Math.max(guilty.length, changed.length > 0 || late > 0 ? 1 : 0)
  console.log(`false allows: ${wrong} of ${sent}`)
  return wrong === 0 && stuck.length === 0 && sent > 0 ? 0 : 1
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
