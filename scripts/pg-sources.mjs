import { execFile, spawn } from 'node:child_process'
import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const CACHE = join(dirname(fileURLToPath(import.meta.url)), '..', '.build', 'pg')

/** Debian releases whose source package has the regression SQL of a server's major version. */
const SUITES = { 15: 'bookworm', 17: 'trixie', 18: 'sid' }
const WANTED = ['*/src/test/regress/*', '*/src/pl/plpgsql/src/sql/*']

/**
 * PostgreSQL's own regression tests, from Debian's source package. Downloaded
 * by `apt-get source` once and kept below .build/, with lists of their own so
 * that the machine's apt is not changed.
 * @returns {Promise<string>} directory of `src/test/regress`
 */
export async function regressSources(major) {
  const target = join(CACHE, String(major))
  const regress = join(target, 'src', 'test', 'regress')
  if (await exists(join(regress, 'parallel_schedule'))) return regress
  const suite = SUITES[major]
  if (suite === undefined) throw new Error(`no Debian suite is known for PostgreSQL ${major}`)
  const apt = join(CACHE, `apt-${major}`)
  for (const directory of ['lists/partial', 'cache/archives/partial']) {
    await mkdir(join(apt, directory), { recursive: true })
  }
  const list = join(apt, 'sources.list')
  const keys = '/usr/share/keyrings/debian-archive-keyring.gpg'
  await writeFile(list, `deb-src [signed-by=${keys}] ${await debianArchive()} ${suite} main\n`)
  const options = [
    `Dir::Etc::sourcelist=${list}`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::lists=${apt}/lists`,
    `Dir::Cache=${apt}/cache`,
  ].flatMap((option) => ['-o', option])
  await run('apt-get', [...options, '-qq', 'update'], { timeout: 120_000 })
  await run('apt-get', [...options, '-qq', 'source', '--download-only', `postgresql-${major}`], {
    cwd: CACHE,
    timeout: 300_000,
  })
  const archive = (await readdir(CACHE)).find((name) =>
    new RegExp(`^postgresql-${major}_.*\\.orig\\.tar\\.\\w+$`).test(name),
  )
  if (archive === undefined) throw new Error(`apt-get source postgresql-${major} brought no archive`)
  await mkdir(target, { recursive: true })
  await run('tar', ['-xf', join(CACHE, archive), '-C', target, '--strip-components=1', '--wildcards', ...WANTED])
  return regress
}

/** Where this machine's apt has Debian's main archive. */
async function debianArchive() {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN) $(LABEL)'
  const { stdout } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])
  const main = stdout.split('\n').find((line) => / main Debian Debian$/.test(line))
  if (main === undefined) throw new Error("apt has no package lists of Debian's: run apt-get update")
  return main.split(' ')[0]
}

/** The SQL files in the order of the schedule, then those of PL/pgSQL. */
export async function regressFiles(regress) {
  const schedule = await readFile(join(regress, 'parallel_schedule'), 'utf8')
  const names = schedule
    .split('\n')
    .flatMap((line) => (line.startsWith('test:') ? line.slice(5).trim().split(/\s+/) : []))
  const core = names.map((name) => ({ name, path: join(regress, 'sql', `${name}.sql`) }))
  const plpgsql = join(regress, '..', '..', 'pl', 'plpgsql', 'src', 'sql')
  const more = (await exists(plpgsql)) ? (await readdir(plpgsql)).filter((name) => name.endsWith('.sql')).sort() : []
  return [...core, ...more.map((name) => ({ name: name.slice(0, -4), path: join(plpgsql, name) }))]
}

/** The statements pg_regress runs before its tests. */
export const CREATE_REGRESSION = [
  'CREATE DATABASE regression TEMPLATE = template0',
  ...['lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time'].map(
    (name) => `ALTER DATABASE regression SET ${name} TO 'C'`,
  ),
  "ALTER DATABASE regression SET bytea_output TO 'hex'",
  "ALTER DATABASE regression SET timezone_abbreviations TO 'Default'",
]

/**
 * Runs one file with psql, as pg_regress does. psql does the splitting: only it
 * knows its own variables, conditions and COPY data.
 */
export function runRegressFile({ path, regress, server, seconds = 60 }) {
  return new Promise((resolve) => {
    const child = spawn(
      'psql',
      ['-X', '-a', '-q', '-v', 'HIDE_TABLEAM=on', '-v', 'HIDE_TOAST_COMPRESSION=on', '-f', path],
      {
        stdio: 'ignore',
        timeout: seconds * 1000,
        cwd: CACHE,
        env: {
          ...process.env,
          PGHOST: server.host,
          PGPORT: String(server.port),
          PGUSER: server.user,
          PGPASSWORD: server.password,
          PGDATABASE: 'regression',
          PGSSLMODE: 'disable',
          PGGSSENCMODE: 'disable',
          PGTZ: 'America/Los_Angeles',
          PGDATESTYLE: 'Postgres, MDY',
          PGOPTIONS: '-c intervalstyle=postgres_verbose',
          PG_ABS_SRCDIR: regress,
          PG_ABS_BUILDDIR: CACHE,
          PG_LIBDIR: '$libdir',
          PG_DLSUFFIX: '.so',
        },
      },
    )
    child.on('error', (error) => resolve({ code: null, error }))
    child.on('close', (code, signal) => resolve({ code, signal }))
  })
}

export function buildDirectory() {
  return CACHE
}

function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  )
}
