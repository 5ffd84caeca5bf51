import { spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { run } from './tools.mjs'

const SOCKETS = '/var/run/postgresql'

/** A server of its own on a free loopback port, with nothing going on in it that a client did not ask for. */
export async function startCluster({ bin, user }) {
  const root = mkdtempSync(path.join(tmpdir(), 'drytrace-pg-regress-'))
  chmodSync(root, 0o755)
  const own = (name) => {
    const directory = path.join(root, name)
    mkdirSync(directory, { recursive: true })
    if (user.uid !== undefined) chownSync(directory, user.uid, user.gid)
    return directory
  }
  own('.')
  const data = path.join(root, 'data')
  const port = await freePort()
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    // The suites of dblink and postgres_fdw connect to the server they run on, by its default socket.
    unix_socket_directories: existsSync(SOCKETS) ? SOCKETS : '',
    fsync: 'off',
    autovacuum: 'off',
    checkpoint_timeout: '1d',
    max_wal_size: '20GB',
    max_prepared_transactions: 2,
    max_connections: 40,
    wal_level: 'logical',
    logging_collector: 'on',
    log_destination: 'jsonlog',
    log_directory: own('log'),
    log_filename: 'server',
    log_rotation_age: 0,
    log_rotation_size: 0,
    log_statement: 'all',
  }
  const asServer = { ...user, cwd: root, env: { ...process.env, LC_ALL: 'C' } }
  run(
    path.join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '--encoding=UTF8', '--no-locale', '--no-sync'],
    asServer,
  )
  const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(path.join(bin, 'postgres'), ['-D', data, ...options], { ...asServer, stdio: 'ignore' })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  // Whatever ends this command, no server stays behind.
  process.once('exit', () => child.kill('SIGQUIT'))
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))
  const cluster = {
    root,
    data,
    port,
    host: '127.0.0.1',
    log: path.join(root, 'log/server.json'),
    own,
    readLog: () => readFileSync(path.join(root, 'log/server.json'), 'utf8'),
    async stop() {
      child.kill('SIGINT')
      const timer = setTimeout(() => child.kill('SIGQUIT'), 10_000)
      await exited
      clearTimeout(timer)
      rmSync(root, { recursive: true, force: true })
    },
  }
  for (let attempt = 0; ; attempt++) {
    try {
      run(path.join(bin, 'pg_isready'), ['-q', '-h', cluster.host, '-p', String(port)])
      return cluster
    } catch (error) {
      if (attempt > 100 || child.exitCode !== null) {
        await cluster.stop()
        throw error
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}
