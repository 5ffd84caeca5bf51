import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { RunRecord } from '../../src/journal/record.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
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
beforeEach(() => {
  peer.log.length = 0
})

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

describe('an HTTP request that carries the flag', () => {
  it.each([
    ['baggage', 'in-baggage', { baggage: 'tenant=7,dry_run=true,dry_run.run.id=in-baggage' }],
    ['tracestate', 'in-tracestate', { traceparent, tracestate: 'vendor=1,drytrace=1:in-tracestate' }],
    ['header', 'in-header', { 'x-dry-run': '1:in-header' }],
  ])('enters the run it names: %s', async (carrier, id, headers) => {
    const answer = await request(service.url, { headers: { ...headers, 'x-tag': id } })
    expect(answer.status).toBe(200)
    expect(answer.headers['x-dry-run']).toBe(`1:${id}`)
    expect(JSON.parse(answer.body)).toMatchObject({ dry: true, run: { id, entry: 'http' } })

    const effects = await waitForEffects(id, PLACES.length)
    expect(effects.map(({ outcome }) => outcome)).toEqual(PLACES.map(() => 'blocked'))
    expect(peer.log).toEqual([])
    const run = readRecords(service.journal).find((record) => record.type === 'run' && record.runId === id)
    expect(run).toMatchObject({ entry: 'http', carriers: [carrier], conflict: false })
  })

  it('blocks what the handler causes at once, at the end of the request, after the response and later', async () => {
    await request(service.url, { method: 'POST', body: 'x', headers: { 'x-dry-run': '1:places', 'x-tag': 'p' } })
    const effects = await waitForEffects('places', PLACES.length)
    const paths = effects.map(({ target }) => target.slice(target.lastIndexOf('/') + 1))
    expect(paths.sort()).toEqual([...PLACES])
    expect(peer.log).toEqual([])
  })

  it('is dry and marked when malformed, with an id of our own', async () => {
    const answer = await request(service.url, { headers: { 'x-dry-run': 'perhaps', 'x-tag': 'm' } })
    const id = /^1:(dr-.+)$/.exec(String(answer.headers['x-dry-run']))?.[1] ?? ''
    expect(JSON.parse(answer.body)).toMatchObject({ dry: true, run: { id } })
    await waitForEffects(id, PLACES.length)
    expect(peer.log).toEqual([])
    expect(runRecord(id)).toMatchObject({ conflict: true, carriers: ['header'] })
  })

  it('ends its run when the response has gone out', async () => {
    await request(service.url, { headers: { 'x-dry-run': '1:ends', 'x-tag': 'e' } })
    const end = await vi.waitFor(() => {
      const record = readRecords(service.journal).find(({ type, ...rest }) => {
        return type === 'run_end' && 'runId' in rest && rest.runId === 'ends'
      })
      expect(record).toBeDefined()
      return record
    })
    expect(end).toMatchObject({ error: null })
  })
})

describe('an HTTP request without the flag', () => {
  it.each([
    ['none', {}],
    ['a flag that says live', { 'x-dry-run': '0', baggage: 'dry_run=false' }],
    ['members of others', { baggage: 'my_dry_run=true,x=dry_run', tracestate: 'drytrace@vendor=1:r' }],
  ])('writes as ever: %s', async (_, headers) => {
    const answer = await request(service.url, { method: 'POST', body: 'x', headers: { ...headers, 'x-tag': 'live' } })
    expect(answer.headers['x-dry-run']).toBeUndefined()
    expect(JSON.parse(answer.body)).toEqual({ dry: false, run: null })
    await vi.waitFor(() => expect(peer.log).toHaveLength(PLACES.length))
    expect([...peer.log].sort()).toEqual(PLACES.map((place) => `POST /live/${place} {}`))
  })
})

function runRecord(id: string): RunRecord | undefined {
  return readRecords(service.journal).find((record) => record.type === 'run' && record.runId === id) as
    | RunRecord
    | undefined
}

function waitForEffects(runId: string, count: number) {
  return vi.waitFor(
    () => {
      const effects = readEffects(service.journal).filter((effect) => effect.runId === runId)
      expect(effects).toHaveLength(count)
      return effects
    },
    { timeout: 10_000 },
  )
}
