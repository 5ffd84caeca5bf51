// Works each Postgres library through the same steps live and in the dry modes, in child processes on a real server,
// and compares what the caller got and what the database looks like.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import pg from 'pg'
import { DIST, REGISTER, runCommand } from '../support/child.ts'
import { readRecords } from '../support/journal.ts'
import { startPostgres } from '../support/postgres.ts'

const HERE = path.dirname(fileURLToPath(import.meta.url))

export const installed = existsSync(path.join(HERE, 'node_modules'))
export const libraries = readdirSync(path.join(HERE, 'libraries'))
  .map((file) => path.basename(file, '.mjs'))
  .sort()

/** Values of `postgres.preview`. */
export const MODES = ['none', 'select', 'rollback']

/** Nothing may write WAL on its own, so that its position tells. */
const QUIET_SERVER = ['wal_level=minimal', 'max_wal_senders=0', 'autovacuum=off', 'checkpoint_timeout=1d']

/** A server, and a database of each library with its tables in it. */
export async function openWorld(names = libraries) {
  generatePrismaClient()
  const server = await startPostgres(QUIET_SERVER)
  const admin = new pg.Client(server.url)
  await admin.connect()
  const urlOf = (database) => server.url.replace(/\/[^/]*$/, `/${database}`)
  for (const name of names) {
    const database = `${identifier(name)}_seed`
    await admin.query(`CREATE DATABASE ${database}`)
    await withClient(urlOf(database), (client) => client.query(readFileSync(path.join(HERE, 'seed.sql'), 'utf8')))
    const seeded = await runChild(name, 'seed', urlOf(database))
    if (seeded.code !== 0) throw new Error(`${name} could not be seeded:\n${seeded.stderr}`)
    // A read may prune a page or set hint bits, which writes WAL: not where everything is frozen.
    await withClient(urlOf(database), (client) => client.query('VACUUM FREEZE'))
  }
  return {
    urlOf,
    /** A fresh copy of the library's database. */
    async copy(name, mode) {
      const database = `${identifier(name)}_${mode}`
      await admin.query(`DROP DATABASE IF EXISTS ${database}`)
      await admin.query(`CREATE DATABASE ${database} TEMPLATE ${identifier(name)}_seed`)
      return urlOf(database)
    },
    async close() {
      await admin.end()
      await server.stop()
    },
  }
}

/** What one library gave, live and in one mode, and what the mode left behind. */
export async function measureLibrary(world, name, mode, live) {
  const url = await world.copy(name, mode)
  const before = await digest(url)
  const { results, effects, problems, output } = await work(name, mode, url)
  const after = await digest(url)
  if (results === undefined) throw new Error(`${name} (${mode}) printed no results:\n${output}`)
  const steps = (live?.results ?? results).map(([title, expected], index) => {
    const [, given] = results[index] ?? []
    return { title, expected, given, same: JSON.stringify(expected) === JSON.stringify(given) }
  })
  return { name, mode, results, steps, before, after, effects, problems }
}

async function work(name, mode, url) {
  const directory = mkdtempSync(path.join(tmpdir(), 'drytrace-orm-'))
  try {
    const journal = path.join(directory, 'journal')
    const policy = path.join(directory, 'policy.json')
    writeFileSync(policy, JSON.stringify({ version: 1, ...(mode === 'live' ? {} : { postgres: { preview: mode } }) }))
    const { stdout, stderr } = await runChild(name, mode, url, { journal, policy })
    const line = stdout.split('\n').find((text) => text.startsWith('RESULTS '))
    const records = readRecords(journal)
    return {
      results: line === undefined ? undefined : JSON.parse(line.slice('RESULTS '.length)),
      effects: records.filter(({ type }) => type === 'effect'),
      problems: records.filter(({ type }) => type === 'problem'),
      output: stdout + stderr,
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function runChild(name, mode, url, { journal, policy } = {}) {
  const args = ['--no-warnings', `--import=${pathToFileURL(REGISTER)}`, path.join(HERE, 'child.mjs'), name, mode, url]
  return runCommand(process.execPath, args, {
    cwd: HERE,
    timeout: 120_000,
    env: {
      // The same table in continuous integration as elsewhere.
      CI: undefined,
      DRYTRACE_INDEX: path.join(DIST, 'index.js'),
      DRYTRACE_QUIET: '1',
      ...(journal === undefined ? {} : { DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: policy }),
    },
  })
}

const TABLES = `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`
const CATALOG = `SELECT md5(string_agg(format('%s %s %s', c.oid, c.relname, c.relfilenode), ',' ORDER BY c.oid)) AS catalog
FROM pg_class c`

/** Everything a dry run could have changed. */
async function digest(url) {
  return await withClient(url, async (client) => {
    const rows = async (text) => (await client.query({ text, rowMode: 'array' })).rows
    const data = {}
    for (const [table] of await rows(TABLES)) {
      ;[[data[table]]] = await rows(
        `SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM ${table} t`,
      )
    }
    const [[catalog]] = await rows(CATALOG)
    const sequences = await rows('SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2')
    const [counters] = await rows(
      'SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()',
    )
    const [[wal]] = await rows('SELECT pg_current_wal_insert_lsn()')
    return { data, catalog, sequences, counters, wal }
  })
}

async function withClient(url, fn) {
  const client = new pg.Client(url)
  await client.connect()
  try {
    return await fn(client)
  } finally {
    await client.end()
  }
}

/** Prisma's client is generated code, which is not kept. The engine it would fetch is not used by the adapter. */
function generatePrismaClient() {
  if (existsSync(path.join(HERE, '.generated/prisma/index.js'))) return
  const { status, stderr } = spawnSync(
    process.execPath,
    [path.join(HERE, 'node_modules/prisma/build/index.js'), 'generate', '--no-hints', '--schema', 'schema.prisma'],
    {
      cwd: HERE,
      encoding: 'utf8',
      env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true', CHECKPOINT_DISABLE: '1' },
    },
  )
  if (status !== 0) throw new Error(`prisma generate failed:\n${stderr}`)
}

const identifier = (name) => name.replaceAll('-', '_')

/** Keys of what must be as before. Rolled-back writes move sequences, count tuples and write WAL. */
export const UNCHANGED = {
  none: ['data', 'catalog', 'sequences', 'counters', 'wal'],
  select: ['data', 'catalog', 'sequences', 'counters', 'wal'],
  rollback: ['data', 'catalog'],
}

export function versions() {
  return Object.keys(JSON.parse(readFileSync(path.join(HERE, 'package.json'), 'utf8')).devDependencies).map((name) => {
    const { version } = JSON.parse(readFileSync(path.join(HERE, 'node_modules', name, 'package.json'), 'utf8'))
    return `${name} ${version}`
  })
}

/** Every library in every mode, one after the other. */
export async function measureAll(names = libraries) {
  const world = await openWorld(names)
  const rows = []
  try {
    for (const name of names) {
      const live = await measureLibrary(world, name, 'live')
      const modes = {}
      for (const mode of MODES) modes[mode] = await measureLibrary(world, name, mode, live)
      rows.push({ name, live, modes })
    }
  } finally {
    await world.close()
  }
  return rows
}

/** What differs between two digests, of what must not. */
export function changedIn({ mode, before, after }) {
  return UNCHANGED[mode].filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]))
}

export function renderTable(rows, versions) {
  const lines = rows.map(({ name, modes }) => {
    const cells = MODES.map((mode) => {
      const { steps } = modes[mode]
      return `${steps.filter(({ same }) => same).length} of ${steps.length}`
    })
    const blocked = modes.select.effects.filter(({ outcome }) => outcome === 'blocked').length
    const changed = MODES.flatMap((mode) => changedIn(modes[mode]).map((key) => `${mode}: ${key}`))
    return `| ${name} | ${cells.join(' | ')} | ${blocked} | ${changed.join(', ') || 'nothing'} |`
  })
  const differing = rows.flatMap(({ name, modes }) =>
    ['select', 'rollback'].flatMap((mode) => {
      const titles = modes[mode].steps.filter(({ same }) => !same).map(({ title }) => title)
      return titles.length === 0 ? [] : [`- ${name}, \`${mode}\`: ${titles.join(', ')}`]
    }),
  )
  return `# Postgres libraries

Generated by \`node test/orms/write-table.mjs\`; a test fails when it is out of date.

Each library works through the same kind of steps (insert, read back, update, upsert, relations, transactions,
constraint errors, streams, delete with cascade, counts at the end) once live, and once in a dry run for each value of
\`postgres.preview\`, on a copy of the same database. A step counts when its caller gets exactly what it got live; the
steps build on each other, so reads must see the run's own writes.

After \`none\` and \`select\`, every row, relation and sequence, the server's tuple counters and the WAL position are
compared with before; after \`rollback\`, which moves sequences and writes WAL, every row and relation.

| library | \`none\` | \`select\` (default) | \`rollback\` | writes blocked | changed |
|---|---|---|---|---|---|
${lines.join('\n')}

What differs from live:

${differing.join('\n') || 'Nothing.'}

With \`none\` results have the right shape and no more: later steps do not see what earlier ones would have written.
\`migrations\` and \`findOrCreate\` of Sequelize define something and then use it, which only \`rollback\` can give.

Measured with ${versions.join(', ')}.
`
}
