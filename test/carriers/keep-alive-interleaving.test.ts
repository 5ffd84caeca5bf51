import http from 'node:http'
import net from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects } from '../support/journal.js'
import { request, type Service, startService } from '../support/service.js'
import { ECHO_SERVICE, PLACES } from './echo-service.js'

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

describe('live and dry requests over one keep-alive socket', () => {
  it('leak no dry write and swallow no live one', async () => {
    const requests = 200
    // Neither strictly alternating nor random: runs of one, two and three of a kind.
    const isDry = (index: number) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][index % 10] === 1
    const sockets = new Set<unknown>()
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    agent.on('free', (socket) => sockets.add(socket))

    // All at once: the socket is never idle, so what one request leaves behind meets the next.
    const answers = await Promise.all(
      Array.from({ length: requests }, (_, index) =>
        request(service.url, {
          agent,
          method: index % 3 === 0 ? 'GET' : 'POST',
          body: index % 3 === 0 ? '' : 'x'.repeat(index * 10),
          headers: { 'x-tag': `${isDry(index) ? 'dry' : 'live'}-${index}`, ...(isDry(index) ? flag(index) : {}) },
        }),
      ),
    )
    agent.destroy()
    expect(sockets.size).toBe(1)
    const indexes = Array.from({ length: requests }, (_, index) => index)
    expect(answers.map(({ body }) => JSON.parse(body).dry)).toEqual(indexes.map(isDry))
    expect(answers.map(({ headers }) => headers['x-dry-run'])).toEqual(
      indexes.map((index) => (isDry(index) ? `1:run-${index}` : undefined)),
    )

    const live = indexes.filter((index) => !isDry(index))
    const dry = indexes.filter(isDry)
    const expected = live.flatMap((index) => PLACES.map((place) => `POST /live-${index}/${place} {}`))
    await vi.waitFor(() => expect(peer.log.length).toBeGreaterThanOrEqual(expected.length), { timeout: 20_000 })
    const effects = await vi.waitFor(
      () => {
        const found = readEffects(service.journal)
        expect(found).toHaveLength(dry.length * PLACES.length)
        return found
      },
      { timeout: 20_000 },
    )
    expect([...peer.log].sort()).toEqual(expected.sort())
    // Each effect on record with the run of its own request.
    for (const { runId, target } of effects) expect(target).toContain(`/dry-${runId.slice('run-'.length)}/`)
  })
})

describe('live and dry requests pipelined in one packet', () => {
  it('leak no dry write and swallow no live one', async () => {
    peer.log.length = 0
    const indexes = Array.from({ length: 60 }, (_, index) => index)
    const isDry = (index: number) => index % 3 === 1
    // The parser hands them all out in one go: what is left of one request's context would be the next one's.
    const text = indexes
      .map((index) => {
        const carried = isDry(index) ? `x-dry-run: 1:piped-${index}\r\n` : ''
        const last = index === indexes.length - 1 ? 'connection: close\r\n' : ''
        return `GET / HTTP/1.1\r\nhost: a\r\nx-tag: piped-${index}\r\n${carried}${last}\r\n`
      })
      .join('')
    const answered = await new Promise<string>((resolve, reject) => {
      let received = ''
      const socket = net.connect(service.port, '127.0.0.1', () => socket.write(text))
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        received += chunk
      })
      socket.on('error', reject).on('close', () => resolve(received))
    })
    expect([...answered.matchAll(/"dry":(true|false)/g)].map(([, dry]) => dry === 'true')).toEqual(indexes.map(isDry))

    const expected = indexes
      .filter((index) => !isDry(index))
      .flatMap((index) => PLACES.map((place) => `POST /piped-${index}/${place} {}`))
    await vi.waitFor(() => expect(peer.log.length).toBeGreaterThanOrEqual(expected.length), { timeout: 20_000 })
    await vi.waitFor(
      () => {
        const mine = readEffects(service.journal).filter(({ runId }) => runId.startsWith('piped-'))
        expect(mine).toHaveLength(indexes.filter(isDry).length * PLACES.length)
        for (const { runId, target } of mine) expect(target).toContain(`/${runId}/`)
      },
      { timeout: 20_000 },
    )
    expect([...peer.log].sort()).toEqual(expected.sort())
  })
})

function flag(index: number): Record<string, string> {
  const id = `run-${index}`
  return index % 2 === 0 ? { 'x-dry-run': `1:${id}` } : { baggage: `dry_run=true,dry_run.run.id=${id}` }
}
