import net from 'node:net'
import { expect, it } from 'vitest'
import { Front } from '../../../src/integrations/postgres-js/front.js'
import { cstring, int32, message, PROTOCOL_3 } from '../../../src/integrations/postgres-js/wire.js'
import { enterRun } from '../../../src/run/store.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { guardPostgres } from './dry-postgres.js'

const { postgres, dry, guard } = guardPostgres()

observedPostgres('CREATE TABLE t (v text)')

/** A server that hears something else than it was told: what `from` stands for is taken out of the first packet. */
async function deafProxy(from: string): Promise<{ port: number; close(): void }> {
  const proxy = net.createServer((client) => {
    const upstream = net.connect(server.port, server.host)
    client.once('data', (packet) => {
      const at = packet.indexOf(from)
      const cut = at < 0 ? packet : Buffer.concat([packet.subarray(0, at), packet.subarray(at + from.length)])
      cut.writeInt32BE(cut.length)
      upstream.write(cut)
      client.pipe(upstream)
    })
    upstream.pipe(client)
    for (const socket of [client, upstream]) socket.on('error', () => undefined)
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return { port: (proxy.address() as net.AddressInfo).port, close: () => proxy.close() }
}

it('a server that does not keep the session READ ONLY is not used', async () => {
  const proxy = await deafProxy('default_transaction_read_only\0on\0')
  const sql = postgres({ ...credentials(), port: proxy.port, max: 1, fetch_types: false })
  try {
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
    await dry(async () => {
      await expect(sql`SELECT 1`).rejects.toMatchObject({ code: 'DRY_GUARD_FAILED' })
      await expect(sql`INSERT INTO t VALUES ('x')`).rejects.toMatchObject({ code: 'DRY_GUARD_FAILED' })
    })
    expect((await sql`SELECT 1 AS one`)[0]).toEqual({ one: 1 })
  } finally {
    await sql.end()
    proxy.close()
  }
  expect((await observer.query('SELECT * FROM t')).rows).toEqual([])
})

it('a server that cannot be reached, or refuses the password, says so as live', async () => {
  const cases = [
    { ...credentials(), port: 1 },
    { ...credentials(), password: 'wrong' },
    { ...credentials(), database: 'nowhere' },
  ]
  for (const options of cases) {
    const sql = postgres({ ...options, max: 1, connect_timeout: 5 })
    const codeOf = () =>
      sql`SELECT 1`.then(
        () => 'ok',
        (error: { code: string }) => error.code,
      )
    const live = await codeOf()
    expect(await dry(codeOf)).toBe(live)
    expect(live).not.toBe('ok')
    await sql.end({ timeout: 1 })
  }
})

const startup = (...parameters: string[]) => {
  const body = Buffer.concat([int32(PROTOCOL_3), ...parameters.map(cstring), Buffer.from([0])])
  return Buffer.concat([int32(body.length + 4), body])
}
const readOnly = ['user', 'u', 'default_transaction_read_only', 'on']

it.each([
  ['a session that is not READ ONLY', [startup('user', 'u')]],
  ['a session that turns it off', [startup(...readOnly, 'default_transaction_read_only', 'off')]],
  ['replication', [startup(...readOnly, 'replication', 'database')]],
  ['a query before the session has started', [startup(...readOnly), message('Q', cstring('DELETE FROM t'))]],
  ['a message nobody knows', [startup(...readOnly), message('p', cstring('x')), message('F', int32(1))]],
])('the front ends at %s', async (_name, packets) => {
  const sent: Buffer[] = []
  const front = new Front({
    guard,
    run: enterRun({ entry: 'test', carriers: ['api'] }),
    open: (packet, own) => {
      sent.push(packet)
      own.relay(message('R', int32(3)), (answer) => sent.push(answer))
      return new Promise(() => undefined)
    },
    cancel: async () => undefined,
  })
  const failed = new Promise((resolve) => front.on('error', resolve))
  for (const packet of packets) front.write(packet)
  expect(await failed).toMatchObject({ code: 'DRY_GUARD_FAILED' })
  expect(sent.filter((bytes) => bytes[0] === 0x51 || bytes[0] === 0x46)).toEqual([])
})

function credentials() {
  const { host, port, user, password, database } = server
  return { host, port, user, password, database }
}
