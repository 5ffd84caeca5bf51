import { once } from 'node:events'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { DryTraceError } from '../../errors.js'
import type { Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { PostgresOptions } from './library.js'
import { int32, SSL_REQUEST } from './wire.js'

const SSL_ACCEPTED = 0x53

/**
 * Opens a connection to the first host that answers, as the library would,
 * outside every context: it must not keep a run, nor pass it on.
 * @throws the error of the last host
 */
export async function openUpstream(options: PostgresOptions, guard: Guard, run: Run): Promise<Duplex> {
  const hosts = options.path ? [undefined] : options.host
  let failure: unknown
  for (const [index, host] of hosts.entries()) {
    try {
      const socket = await connect(options, index, guard, run)
      return options.ssl ? await secure(socket, host ?? '', options) : socket
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

async function connect(options: PostgresOptions, index: number, guard: Guard, run: Run): Promise<net.Socket> {
  const socket = new net.Socket()
  const target = options.path
    ? { path: options.path }
    : { host: options.host[index] ?? 'localhost', port: Number(options.port[index] ?? options.port[0]) }
  guard.within(run, () =>
    guard.permit('postgres.js shadow connection', (permit) => {
      try {
        socket.connect(target)
      } finally {
        permit.open = false
      }
    }),
  )
  await once(socket, 'connect')
  socket.setNoDelay(true)
  if (options.keep_alive) socket.setKeepAlive(true, 1000 * options.keep_alive)
  return socket
}

/** TLS with the options the library gives it. */
async function secure(socket: net.Socket, host: string, { ssl, sslnegotiation }: PostgresOptions): Promise<Duplex> {
  if (sslnegotiation !== 'direct') {
    socket.write(Buffer.concat([int32(8), int32(SSL_REQUEST)]))
    const [answer] = (await once(socket, 'data')) as [Buffer]
    if (answer[0] !== SSL_ACCEPTED || answer.length !== 1) {
      if (ssl === 'prefer' && answer.length === 1) return socket
      socket.destroy()
      throw new DryTraceError('DRY_GUARD_FAILED', 'dry run: the PostgreSQL server does not accept TLS')
    }
  }
  const secured = tls.connect({
    socket,
    ...(net.isIP(host) || host === '' ? {} : { servername: host }),
    ...(sslnegotiation === 'direct' ? { ALPNProtocols: ['postgresql'] } : {}),
    ...(ssl === 'require' || ssl === 'allow' || ssl === 'prefer' ? { rejectUnauthorized: false } : {}),
    ...(typeof ssl === 'object' ? ssl : {}),
  })
  await once(secured, 'secureConnect')
  return secured
}
