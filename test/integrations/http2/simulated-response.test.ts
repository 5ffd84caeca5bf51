import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Originals, simulateRequest } from '../../../src/integrations/http2/simulated-request.js'

const server = http2.createServer()
let session: http2.ClientHttp2Session

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
})
afterAll(() => {
  session.destroy()
  server.close()
})

const { connect, performServerHandshake } = http2
const originals = (): Originals => ({
  connect,
  performServerHandshake,
  request: Object.getPrototypeOf(session).request as Originals['request'],
})

it('a simulated response of 20 MB is made no faster than the caller reads it', async () => {
  const chunk = Buffer.alloc(64 * 1024, 'x')
  let made = 0
  async function* body() {
    for (let index = 0; index < 320; index += 1) {
      made += 1
      yield chunk
    }
  }
  const stream = simulateRequest(originals(), session, [{ ':method': 'POST', ':path': '/large' }], {
    respond: () => ({ status: 200, body: body(), trailers: { 'x-end': 'yes' } }),
    closed: () => {},
  })
  const trailers = new Promise((resolve) => stream.on('trailers', resolve))
  await new Promise((resolve) => stream.once('response', resolve).end())
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  expect(made).toBeLessThan(40)
  let size = 0
  for await (const part of stream) size += (part as Buffer).length
  expect(size).toBe(320 * chunk.length)
  expect(made).toBe(320)
  expect(await trailers).toMatchObject({ 'x-end': 'yes' })
})

it('a request that is destroyed while its answer streams tells the responder', async () => {
  let closed = 0
  const stream = simulateRequest(originals(), session, [{ ':method': 'POST', ':path': '/gone' }, {}], {
    respond: () => ({
      status: 200,
      body: (async function* () {
        for (;;) yield Buffer.alloc(1024)
      })(),
    }),
    closed: () => {
      closed += 1
    },
  })
  expect(stream.session).toBe(session)
  await new Promise((resolve) => stream.once('response', resolve).end())
  await new Promise((resolve) => {
    stream.once('close', resolve)
    stream.destroy()
  })
  expect(closed).toBe(1)
})

it('asks for and gets 100-continue', async () => {
  const stream = simulateRequest(
    originals(),
    session,
    [{ ':method': 'POST', ':path': '/continue', expect: '100-continue' }],
    { respond: ({ body }) => ({ status: 200, body: String(body.size) }), closed: () => {} },
  )
  stream.once('continue', () => stream.end('12345'))
  let text = ''
  for await (const part of stream) text += part
  expect(text).toBe('5')
})
