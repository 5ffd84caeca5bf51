import { spawn } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestPostgres } from './postgres.js'
import { requireTool } from './tools.js'

/** PgBouncer's place, or undefined: Debian keeps it where only root looks. */
export function findPgBouncer(): string | undefined {
  const path = process.env['PATH'] ?? ''
  if (!path.split(':').includes('/usr/sbin')) process.env['PATH'] = `${path}:/usr/sbin`
  try {
    return requireTool('pgbouncer')
  } finally {
    process.env['PATH'] = path
  }
}

export interface TestPgBouncer {
  /** `pooled` has three server connections, `single` has one. */
  url(database: 'pooled' | 'single'): string
  stop(): Promise<void>
}

/** Starts PgBouncer in transaction mode before a server, on a free loopback port. */
export async function startPgBouncer(file: string, server: TestPostgres): Promise<TestPgBouncer> {
  const directory = await mkdtemp(join(tmpdir(), 'drytrace-pgbouncer-'))
  await chmod(directory, 0o755)
  const port = await freePort()
  const target = `host=${server.host} port=${server.port} dbname=${server.database} user=${server.user} password=${server.password}`
  const configuration = join(directory, 'pgbouncer.ini')
  await writeFile(
    configuration,
    `[databases]
pooled = ${target} pool_size=3
single = ${target} pool_size=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
`,
  )
  // PgBouncer refuses to run as root.
  const asRoot = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
  const child = spawn(file, [...asRoot, configuration], { stdio: ['ignore', 'ignore', 'pipe'] })
  const log: string[] = []
  child.stderr.on('data', (chunk: Buffer) => {
    if (log.length < 100) log.push(String(chunk))
  })
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  for (let attempt = 0; !(await accepts(port)); attempt++) {
    if (attempt > 100 || child.exitCode !== null) {
      child.kill('SIGKILL')
      throw new Error(`PgBouncer did not start:\n${log.join('')}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    url: (database) => `postgres://app@127.0.0.1:${port}/${database}`,
    async stop() {
      child.kill('SIGKILL')
      await exited
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => (typeof address === 'object' && address ? resolve(address.port) : reject(new Error('no port'))))
    })
  })
}
