import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createToken } from '../../src/run/token.js'
import { scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
import { type Answer, request, type Service, startService } from '../support/service.js'
import { ECHO_SERVICE, PLACES } from './echo-service.js'

let peer: HttpWorld
const services: Service[] = []

beforeAll(async () => {
  peer = await startHttpWorld()
})
afterAll(async () => {
  await Promise.all(services.map((service) => service.stop()))
  await peer.stop()
})

const dry = { 'x-dry-run': '1:r1', 'x-tag': 'dry' }

describe('with no secret', () => {
  it.each([
    ['x-forwarded-for', '203.0.113.9'],
    ['forwarded', 'for=203.0.113.9'],
    ['x-real-ip', '203.0.113.9'],
    ['via', '1.1 proxy'],
  ])('a flag that came through a proxy is refused: %s', async (name, value) => {
    const service = await start({})
    const answer = await request(service.url, { headers: { ...dry, [name]: value } })
    expectRefusal(answer, 403, 'DRY_FLAG_REFUSED', /through a proxy.*DRYTRACE_SECRET/)
    await expectNeverRan(service)
  })

  it('a live request through the same proxy is served', async () => {
    const service = await start({})
    await expectLive(service, { 'x-forwarded-for': '203.0.113.9' })
  })
})

describe('with a secret', () => {
  const secret = 'a shared secret'
  const tokenOf = (options: { runId?: string; ttl?: number; audience?: string } = {}) =>
    createToken({ secret, runId: 'r1', ...options })
  const signed = (token: string, more = {}) => ({
    baggage: `dry_run=true,dry_run.run.id=r1,dry_run.token=${encodeURIComponent(token)}`,
    'x-tag': 'dry',
    ...more,
  })

  it('a flag without a token is refused, from loopback too', async () => {
    const service = await start({ DRYTRACE_SECRET: secret })
    const answer = await request(service.url, { headers: dry })
    expectRefusal(answer, 403, 'DRY_FLAG_REFUSED', /without a token/)
    await expectNeverRan(service)
  })

  it('a good token runs dry, also through a proxy', async () => {
    const service = await start({ DRYTRACE_SECRET: secret })
    const before = peer.log.length
    const answer = await request(service.url, { headers: signed(tokenOf(), { 'x-forwarded-for': '203.0.113.9' }) })
    expect(answer.status).toBe(200)
    expect(answer.headers['x-dry-run']).toBe('1:r1')
    await vi.waitFor(() => expect(readEffects(service.journal)).toHaveLength(PLACES.length))
    expect(peer.log).toHaveLength(before)
  })

  it('the token alone restores the run', async () => {
    const service = await start({ DRYTRACE_SECRET: secret })
    const headers = { baggage: `dry_run.token=${tokenOf({ runId: 'signed-run' })}`, 'x-tag': 'dry' }
    const answer = await request(service.url, { headers })
    expect(answer.headers['x-dry-run']).toBe('1:signed-run')
  })

  it.each([
    ['expired', () => signed(tokenOf({ ttl: -1 })), /expired/],
    ['signed with another secret', () => signed(createToken({ secret: 'other', runId: 'r1' })), /not signed/],
    ['malformed', () => signed('x'), /malformed/],
    ['of another run', () => signed(tokenOf({ runId: 'r2' })), /for run r2, the flag for run r1/],
  ])('a token is refused: %s', async (_, headers, message) => {
    const service = await start({ DRYTRACE_SECRET: secret })
    expectRefusal(await request(service.url, { headers: headers() }), 403, 'DRY_FLAG_REFUSED', message)
    await expectNeverRan(service)
  })

  it('a token for another audience is refused', async () => {
    const policy = policyFile('version: 1\ntrust: {audience: [billing]}\n')
    const service = await start({ DRYTRACE_SECRET: secret, DRYTRACE_POLICY: policy })
    const wrong = await request(service.url, { headers: signed(tokenOf({ audience: 'crm' })) })
    expectRefusal(wrong, 403, 'DRY_FLAG_REFUSED', /for audience "crm", not for billing/)
    await expectNeverRan(service)
    expect((await request(service.url, { headers: signed(tokenOf({ audience: 'billing' })) })).status).toBe(200)
  })

  it('a live request needs no token', async () => {
    await expectLive(await start({ DRYTRACE_SECRET: secret }), {})
  })
})

describe('with the gate closed', () => {
  it('a dry request gets 503 with the file and the line, live ones are untouched', async () => {
    const policy = policyFile('version: 1\nrules:\n  - name: loose\n    match: {system: http}\n    verdict: block\n')
    const service = await start({ DRYTRACE_POLICY: policy })
    const answer = await request(service.url, { headers: dry })
    const error = expectRefusal(answer, 503, 'DRY_GATE_CLOSED', /host is required/)
    expect(error.message).toContain(`${policy}:4: rule "loose"`)
    expect(error.gaps).toEqual([expect.stringContaining(policy)])
    await expectNeverRan(service)
    await expectLive(service, {})
  })

  it('trust: signed without a secret closes it', async () => {
    const service = await start({ DRYTRACE_POLICY: policyFile('version: 1\ntrust: {mode: signed}\n') })
    expectRefusal(await request(service.url, { headers: dry }), 503, 'DRY_GATE_CLOSED', /DRYTRACE_SECRET is not set/)
    await expectNeverRan(service)
  })

  it('a secret file that cannot be read closes it', async () => {
    const service = await start({ DRYTRACE_SECRET: 'file:/nowhere/secret' })
    expectRefusal(await request(service.url, { headers: dry }), 503, 'DRY_GATE_CLOSED', /\/nowhere\/secret/)
    await expectNeverRan(service)
  })
})

describe('with a journal that cannot be written', () => {
  it('a dry request gets 503 each time, live ones are untouched', async () => {
    const service = await start({ DRYTRACE_JOURNAL: '/proc/self/nowhere' })
    for (let attempt = 0; attempt < 3; attempt++) {
      expectRefusal(await request(service.url, { headers: dry }), 503, 'DRY_JOURNAL', /cannot be written/)
    }
    await expectNeverRan(service)
    await expectLive(service, {})
  })
})

async function start(env: Record<string, string>): Promise<Service> {
  const service = await startService({ source: ECHO_SERVICE, env: { PEER: peer.url, ...env } })
  services.push(service)
  return service
}

function policyFile(text: string): string {
  const file = path.join(scratchDirectory(), 'policy.yaml')
  writeFileSync(file, text)
  return file
}

function expectRefusal(answer: Answer, status: number, code: string, message: RegExp) {
  expect(answer.status, answer.body).toBe(status)
  expect(answer.headers['content-type']).toBe('application/json')
  expect(answer.headers['x-dry-run']).toBe('refused')
  const { error } = JSON.parse(answer.body) as { error: { code: string; message: string; gaps?: string[] } }
  expect(error.code).toBe(code)
  expect(error.message).toMatch(message)
  return error
}

/** The handler was not called, and nothing of a run that was never admitted is on record. */
async function expectNeverRan(service: Service): Promise<void> {
  expect((await request(`${service.url}/handled`)).body).toBe('0')
  expect(readRecords(service.journal).filter(({ type }) => type === 'run' || type === 'effect')).toEqual([])
}

async function expectLive(service: Service, headers: Record<string, string>): Promise<void> {
  const before = peer.log.length
  const answer = await request(service.url, { headers: { 'x-tag': 'live', ...headers } })
  expect(answer.status).toBe(200)
  expect(answer.headers['x-dry-run']).toBeUndefined()
  await vi.waitFor(() => expect(peer.log).toHaveLength(before + PLACES.length))
}
