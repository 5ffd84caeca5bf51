import { spawn } from 'node:child_process'
import { cpSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { run } from './tools.mjs'

/** How long one script of the suite may take, in milliseconds. */
const SCRIPT_TIMEOUT = 60_000

/** Modules whose suites wait for a server that is configured for them alone. */
const UNUSABLE = new Set(['sepgsql', 'basic_archive'])

/**
 * Runs PostgreSQL's own suites live, with psql as upstream does, and leaves the
 * databases as they are then: populated.
 */
export async function populate({ cluster, bin, tree, library, user, log, port = cluster.port }) {
  const regress = path.join(tree, 'src/test/regress')
  const build = cluster.own('build')
  for (const name of ['results', 'testtablespace']) cluster.own(`build/${name}`)
  const source = cluster.own('suite')
  for (const name of ['data', 'sql', 'expected'])
    cpSync(path.join(regress, name), path.join(source, name), { recursive: true })
  const lib = cluster.own('lib')
  cpSync(library, lib, { recursive: true })
  const psql = (args, options = {}) =>
    new Promise((resolve) => {
      const { database = 'postgres', name = 'setup', cwd = build, srcdir = source, builddir = build } = options
      const child = spawn(path.join(bin, 'psql'), ['-X', '-q', '-d', database, ...args], {
        ...user,
        cwd,
        stdio: 'ignore',
        env: {
          PATH: process.env.PATH,
          LC_ALL: 'C',
          PGHOST: cluster.host,
          PGPORT: String(port),
          PGUSER: 'postgres',
          PGTZ: 'PST8PDT',
          PGDATESTYLE: 'Postgres, MDY',
          PGOPTIONS: '-c intervalstyle=postgres_verbose',
          PGAPPNAME: `suite/${name}`,
          PG_ABS_SRCDIR: srcdir,
          PG_ABS_BUILDDIR: builddir,
          PG_LIBDIR: lib,
          PG_DLSUFFIX: '.so',
        },
      })
      const timer = setTimeout(() => {
        log(`${name} is ended after ${SCRIPT_TIMEOUT / 1000} s`)
        child.kill('SIGKILL')
      }, SCRIPT_TIMEOUT)
      child.once('exit', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  const createDatabase = async (name) => {
    await psql(['-c', `CREATE DATABASE "${name}" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'`])
    for (const setting of ['lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time']) {
      await psql(['-c', `ALTER DATABASE "${name}" SET ${setting} TO 'C'`])
    }
  }
  const script = (file, database, name, more = {}) =>
    psql(['-a', '-v', 'HIDE_TABLEAM=on', '-v', 'HIDE_TOAST_COMPRESSION=on', '-f', file], { database, name, ...more })

  await createDatabase('regression')
  const scheduled = [
    ...readFileSync(path.join(regress, 'parallel_schedule'), 'utf8').matchAll(/^test: (.+)$/gm),
  ].flatMap(([, names]) => names.trim().split(/\s+/))
  for (const name of scheduled) await script(path.join(source, 'sql', `${name}.sql`), 'regression', name)
  log(`${scheduled.length} scripts of the core suite`)

  const plpgsql = path.join(tree, 'src/pl/plpgsql/src/sql')
  await createDatabase('plpgsql')
  for (const file of sqlFiles(plpgsql)) {
    await script(path.join(plpgsql, file), 'plpgsql', `plpgsql/${file.slice(0, -4)}`, { cwd: path.dirname(plpgsql) })
  }
  const contrib = path.join(tree, 'contrib')
  let modules = 0
  for (const module of readdirSync(contrib).sort()) {
    const directory = path.join(contrib, module)
    const files = sqlFiles(path.join(directory, 'sql'))
    if (files.length === 0 || UNUSABLE.has(module)) continue
    modules++
    // The scripts name files relative to their module, and the server's user must be able to read and write there.
    const copy = cluster.own(`contrib/${module}`)
    cpSync(directory, copy, { recursive: true })
    cluster.own(`contrib/${module}/results`)
    await createDatabase(`contrib_${module}`)
    const [first, ...rest] = inOrder(files, readFileSync(path.join(directory, 'Makefile'), 'utf8'))
    for (const file of [first, ...rest]) {
      const more = { cwd: copy, srcdir: copy, builddir: copy }
      await script(path.join(copy, 'sql', file), `contrib_${module}`, `${module}/${file.slice(0, -4)}`, more)
    }
  }
  log(`the suites of PL/pgSQL and of ${modules} contrib modules`)
}

function sqlFiles(directory) {
  try {
    return readdirSync(directory)
      .filter((file) => file.endsWith('.sql'))
      .sort()
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw error
  }
}

/** Upstream's own order, from the module's Makefile; the first script usually creates the extension. */
function inOrder(files, makefile) {
  const listed = /^REGRESS\s*=((?:.*\\\n)*.*)$/m.exec(makefile)?.[1] ?? ''
  const order = listed.replaceAll('\\\n', ' ').trim().split(/\s+/)
  const rank = (file) => {
    const index = order.indexOf(file.slice(0, -4))
    return index === -1 ? order.length : index
  }
  return [...files].sort((a, b) => rank(a) - rank(b))
}

/**
 * What psql sent, session by session, from the server's log: variables,
 * `\gexec`, `\;` and the like are what psql made of them.
 */
export function sessionsOf(log) {
  const sessions = new Map()
  for (const line of log.split('\n')) {
    if (line === '') continue
    const entry = JSON.parse(line)
    // A parallel worker tells its leader's errors once more.
    if (entry.backend_type !== 'client backend') continue
    const known = sessions.get(entry.session_id)
    const name = entry.application_name?.startsWith('suite/')
      ? entry.application_name.slice('suite/'.length)
      : undefined
    if (known === undefined && (name === undefined || name === 'setup')) continue
    const session = known ?? { name, user: entry.user, database: entry.dbname, statements: [] }
    sessions.set(entry.session_id, session)
    const logged = /^statement: (.*)$/s.exec(entry.message ?? '')?.[1]
    if (entry.error_severity === 'LOG' && logged !== undefined) session.statements.push(logged)
    // A text the server could not parse is logged with its error only.
    else if (entry.error_severity === 'ERROR' && typeof entry.statement === 'string') {
      if (entry.statement !== session.statements.at(-1)) session.statements.push(entry.statement)
    }
  }
  return [...sessions.values()].filter(({ statements }) => statements.length > 0)
}

/** The server's programs that show what is there. */
export function dumpAll({ cluster, bin, user }) {
  const text = run(
    path.join(bin, 'pg_dumpall'),
    ['-h', cluster.host, '-p', String(cluster.port), '-U', 'postgres', '--no-sync'],
    {
      ...user,
      cwd: cluster.root,
      encoding: 'latin1',
    },
  )
  // Made up anew for every dump.
  return text.replace(/^\\(un)?restrict .*$/gm, '')
}
