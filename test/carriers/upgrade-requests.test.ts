import http from 'node:http'
import type { Duplex } from 'node:stream'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects } from '../support/journal.js'
import { request, type Service, startService } from '../support/service.js'
import { ECHO_SERVICE } from './echo-service.js'

let peer: HttpWorld
let service: Service

beforeAll(async () => {
  peer = await startHttpWorld()
  service = await startService({ source: ECHO_SERVICE, env: { PEER: peer.url } })
})
afterAll(async () => {
  await service.stop()
  await peer.stop()
})
beforeEach(() => {
  peer.log.length = 0
})

describe('an upgrade request', () => {
  it('with the flag is dry as long as its connection lives', async () => {
    const { socket } = await upgrade({ 'x-dry-run': '1:up', 'x-tag': 'dry' })
    expect(await ask(socket as Duplex, 'one')).toBe('dry=true one')
    expect(await ask(socket as Duplex, 'two')).toBe('dry=true two')
    socket?.destroy()
    await vi.waitFor(() => {
      const effects = readEffects(service.journal).filter(({ runId }) => runId === 'up')
      expect(effects.map(({ target }) => target.split('/').at(-1)).sort()).toEqual(['data', 'data', 'upgrade'])
    })
    expect(peer.log).toEqual([])
  })

  it('without the flag is live', async () => {
    const { socket } = await upgrade({ 'x-tag': 'live' })
    expect(await ask(socket as Duplex, 'one')).toBe('dry=false one')
    socket?.destroy()
    expect(peer.log.sort()).toEqual(['POST /live/data {}', 'POST /live/upgrade {}'])
  })

  it('that may not ask is refused before the application sees it', async () => {
    const before = (await request(`${service.url}/handled`)).body
    const { response } = await upgrade({ 'x-dry-run': '1:up', 'x-forwarded-for': '203.0.113.9' })
    expect(response?.statusCode).toBe(403)
    expect(response?.headers['x-dry-run']).toBe('refused')
    let body = ''
    for await (const chunk of response as http.IncomingMessage) body += chunk
    expect(JSON.parse(body).error.code).toBe('DRY_FLAG_REFUSED')
    // One more: the question itself.
    expect(Number((await request(`${service.url}/handled`)).body)).toBe(Number(before) + 1)
  })
})

interface Upgraded {
  readonly socket?: Duplex
  readonly response?: http.IncomingMessage
}

function upgrade(headers: Record<string, string>): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const outgoing = http.get(service.url, { headers: { connection: 'upgrade', upgrade: 'echo', ...headers } })
    outgoing.on('upgrade', (_, socket) => resolve({ socket }))
    outgoing.on('response', (response) => resolve({ response }))
    outgoing.on('error', reject)
  })
}

function ask(socket: Duplex, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.once('data', (chunk) => resolve(String(chunk)))
    socket.once('error', reject)
    socket.write(text)
  })
}
