import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ROOT, scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
import { request, type Service, startService } from '../support/service.js'
import { ECHO_SERVICE, PLACES } from './echo-service.js'

const PRELOAD = path.join(ROOT, 'test/support/otel-preload.mjs')

let peer: HttpWorld
const services: Service[] = []

beforeAll(async () => {
  peer = await startHttpWorld()
})
afterAll(async () => {
  await Promise.all(services.map((service) => service.stop()))
  await peer.stop()
})

// `after` makes OpenTelemetry's ingress the outer one: it extracts the flag before ours has admitted anybody.
describe.each(['before', 'after'] as const)('OpenTelemetry loaded %s drytrace/register', (order) => {
  it.each([
    ['header', { 'x-dry-run': '1:r1' }, 'r1', false],
    ['tracestate', { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`, tracestate: 'drytrace=1:r2' }, 'r2', false],
    ['baggage', { baggage: 'dry_run=true,dry_run.run.id=r3' }, 'r3', false],
    ['header', { 'x-dry-run': 'perhaps' }, undefined, true],
  ])('one run, one id, however it came: %s %o', async (carrier, headers, id, conflict) => {
    const { service, spans } = await start(order)
    const answer = await request(service.url, { headers: { ...headers, 'x-tag': 'dry' } })
    const runId = String(answer.headers['x-dry-run']).slice(2)
    if (id !== undefined) expect(runId).toBe(id)

    await vi.waitFor(() => expect(readEffects(service.journal)).toHaveLength(PLACES.length))
    const runs = readRecords(service.journal).filter(({ type }) => type === 'run')
    expect(runs).toEqual([expect.objectContaining({ runId, entry: 'http', carriers: [carrier], conflict })])
    expect(new Set(readEffects(service.journal).map((effect) => effect.runId))).toEqual(new Set([runId]))
    expect(peer.log).toEqual([])

    const server = await vi.waitFor(() => {
      const found = spans().find(({ kind }) => kind === 1)
      expect(found).toBeDefined()
      return found
    })
    expect(server?.attributes).toMatchObject({
      'dry_run.enabled': true,
      'dry_run.run.id': runId,
      'dry_run.flag.carriers': [carrier],
      'dry_run.flag.conflict': conflict,
    })
    expect(new Set(spans().map(({ attributes }) => attributes['dry_run.run.id']))).toEqual(new Set([runId]))
  })

  it('a refused peer leaves no run behind', async () => {
    const { service } = await start(order)
    const answer = await request(service.url, { headers: { 'x-dry-run': '1:r1', 'x-forwarded-for': '203.0.113.9' } })
    expect(answer.status).toBe(403)
    expect((await request(`${service.url}/handled`)).body).toBe('0')
    expect(existsSync(service.journal)).toBe(false)
  })

  it('a journal that cannot be written refuses the request and leaves the service alive', async () => {
    const { service } = await start(order, { DRYTRACE_JOURNAL: '/proc/self/nowhere' })
    for (let attempt = 0; attempt < 2; attempt++) {
      const answer = await request(service.url, { headers: { 'x-dry-run': '1:r1', 'x-tag': 'dry' } })
      expect(answer.status).toBe(503)
      expect(JSON.parse(answer.body).error.code).toBe('DRY_JOURNAL')
    }
    expect((await request(`${service.url}/handled`)).body).toBe('0')
    expect(peer.log).toEqual([])
  })
})

interface Line {
  readonly kind: number
  readonly attributes: Record<string, unknown>
}

async function start(order: 'before' | 'after', env: Record<string, string> = {}) {
  const file = path.join(scratchDirectory(), 'spans.jsonl')
  const service = await startService({
    source: ECHO_SERVICE,
    [order]: [PRELOAD],
    env: { PEER: peer.url, SPANS_FILE: file, ...env },
  })
  services.push(service)
  const spans = () =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Line)
  return { service, spans }
}
