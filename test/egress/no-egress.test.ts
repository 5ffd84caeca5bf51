import http2, { type Http2Server } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readEffects } from '../support/journal.js'
import { findStrace, type Trace, traceWrites } from './trace.js'

const strace = await findStrace()

describe.skipIf(strace === undefined)(
  'system calls of a write, by client (needs strace: apt-get install strace)',
  () => {
    let server: Http2Server
    let dry: Trace
    let live: Trace

    beforeAll(async () => {
      // Something to connect to is enough: what it answers to those that speak no HTTP/2 does not matter.
      server = http2.createServer((_, response) => response.end())
      server.on('sessionError', () => {})
      const sockets = new Set<Socket>()
      server.on('connection', (socket: Socket) => {
        sockets.add(socket)
        socket.on('error', () => {})
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const endpoint = `localhost:${(server.address() as AddressInfo).port}`
      dry = await traceWrites(strace as string, 'dry', endpoint)
      live = await traceWrites(strace as string, 'live', endpoint)
      for (const socket of sockets) socket.destroy()
    }, 300_000)
    afterAll(() => server?.close())

    it('in a dry run: no socket, no connect, no byte sent, no name looked up', () => {
      for (const [name, { egress, lookups }] of dry.clients) {
        expect({ name, egress, lookups }).toEqual({ name, egress: [], lookups: [] })
      }
    })

    it('every one of them is on record as blocked', () => {
      const outcomes = readEffects(dry.journal).map(({ outcome, effect }) => `${outcome} ${effect}`)
      expect(outcomes).toHaveLength(dry.clients.size)
      expect(new Set(outcomes)).toEqual(new Set(['blocked write', 'blocked unknown']))
    })

    it('live, the same tracer sees the look-up and the connection of each', () => {
      for (const [name, { egress, lookups }] of live.clients) {
        const seen = { lookups: lookups.length > 0, connects: egress.some((line) => /\bconnect\(.*AF_INET/.test(line)) }
        expect({ name, ...seen }).toEqual({ name, lookups: true, connects: true })
      }
    })
  },
)
