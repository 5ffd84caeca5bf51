import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'

/** Something the command needs and this machine does not have; shown without a stack. */
export class Missing extends Error {}

/** Runs a program to its end and gives its output. @throws with the program's own words. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1024 * 1024 * 1024,
    timeout: 300_000,
    ...options,
  })
  if (result.error !== undefined) throw new Missing(`${command}: ${result.error.message}`)
  if (result.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${result.signal ?? result.status}\n${result.stdout}${result.stderr}`)
  }
  return result.stdout
}

/** The user PostgreSQL's programs run as: they refuse root. */
export function serverUser() {
  if (process.getuid() !== 0) return {}
  const id = (flag) => {
    try {
      return Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
    } catch {
      throw new Missing("as root this needs the user postgres, which Debian's package postgresql-common creates")
    }
  }
  return { uid: id('-u'), gid: id('-g') }
}

/** Where the programs of an installed server are. */
export function findServer(asked) {
  const root = '/usr/lib/postgresql'
  const installed = existsSync(root) ? readdirSync(root).map((version) => path.join(root, version, 'bin')) : []
  const candidates = asked === undefined ? installed.sort((a, b) => Number(majorOf(b)) - Number(majorOf(a))) : [asked]
  const bin = candidates.find((one) =>
    ['initdb', 'postgres', 'pg_waldump', 'psql', 'pg_dumpall'].every((program) => existsSync(path.join(one, program))),
  )
  if (bin === undefined) {
    throw new Missing(
      `no PostgreSQL server with initdb, psql, pg_dumpall and pg_waldump in ${candidates.join(', ') || root}: ` +
        'apt-get install postgresql postgresql-contrib, or give --bin DIR',
    )
  }
  const version = /(\d+)\.(\d+)/.exec(run(path.join(bin, 'postgres'), ['--version']))?.[0] ?? ''
  return { bin, version, major: version.split('.')[0] }
}

function majorOf(bin) {
  return path.basename(path.dirname(bin))
}
