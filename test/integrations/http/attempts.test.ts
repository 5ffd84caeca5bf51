import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, scratchDirectory } from '../../support/child.js'
import { type ResourceWorld, startResourceWorld } from '../../support/resource-world.js'
import { CLIENT_MODULES, CLIENTS, installed } from './resources/clients.js'
import { dry } from './resources/resource-run.js'

const OTEL = path.join(ROOT, 'test/support/otel-preload.mjs')
const FAILS =
  'rules:\n  - {name: fails, match: {host: 127.0.0.1}, respond: {status: 500, json: {error: {message: no}}}}'

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld()
})
afterAll(() => world.stop())
beforeEach(() => world.reset({}))

async function attempts(client: string, body: string, policy = FAILS) {
  const { report, effects } = await dry({
    client,
    url: world.url,
    policy,
    before: [OTEL],
    env: { SPANS_FILE: path.join(scratchDirectory(), 'spans.jsonl') },
    body,
  })
  expect(world.log).toEqual([])
  expect(report.totals.blocked).toBe(report.effects.length)
  return { rows: report.effects.map(({ attempts: count = 1 }) => count), records: effects.length }
}

describe.each(['node:http', 'fetch', 'undici'])('retries of one call: %s', (name) => {
  const client = `
    import { trace } from '@opentelemetry/api'
    const inSpan = (fn) => trace.getTracer('app').startActiveSpan('call', async (span) => { await fn(); span.end() })
    ${CLIENTS[name]}`
  const post = `send('POST', '/v1/contacts', { body: { name: 'x' } })`

  it('made in the span of the call, after a failure, are one row; every attempt is a record', async () => {
    const found = await attempts(client, `await inSpan(async () => { for (let n = 0; n < 3; n += 1) await ${post} })`)
    expect(found).toEqual({ rows: [3], records: 3 })
  })

  it('of a call the policy refuses too', async () => {
    const found = await attempts(
      client,
      `await inSpan(async () => { await ${post}; await ${post} })`,
      'onBlocked: throw',
    )
    expect(found).toEqual({ rows: [2], records: 2 })
  })

  it('two equal calls are two rows: both done, at once, in two spans, or with two keys', async () => {
    const twice = `await inSpan(async () => { await ${post}; await ${post} })`
    expect(await attempts(client, twice, '')).toEqual({ rows: [1, 1], records: 2 })
    const atOnce = `await inSpan(() => Promise.all([${post}, ${post}]))`
    expect(await attempts(client, atOnce)).toEqual({ rows: [1, 1], records: 2 })
    const spans = `await inSpan(() => ${post}); await inSpan(() => ${post})`
    expect(await attempts(client, spans)).toEqual({ rows: [1, 1], records: 2 })
    const keyed = (key: string) => post.replace('} })', `}, headers: { 'idempotency-key': '${key}' } })`)
    const keys = `await inSpan(async () => { await ${keyed('a')}; await ${keyed('b')}; await ${keyed('b')} })`
    expect(await attempts(client, keys)).toEqual({ rows: [1, 2], records: 3 })
  })
})

describe.skipIf(!installed)('retries of official clients are one row', () => {
  const from = (file: string) => JSON.stringify(`file://${path.join(CLIENT_MODULES, file)}`)

  it('openai', async () => {
    const client = `import OpenAI from ${from('openai/index.mjs')}`
    const body = `const openai = new OpenAI({ apiKey: 'k', baseURL: process.env.URL + '/v1', maxRetries: 1 })
      await openai.batches.create({ input_file_id: 'f', endpoint: '/v1/responses', completion_window: '24h' }).catch(() => {})
      await openai.batches.create({ input_file_id: 'f', endpoint: '/v1/responses', completion_window: '24h' }).catch(() => {})`
    expect(await attempts(client, body)).toEqual({ rows: [2, 2], records: 4 })
  })

  it('stripe', async () => {
    const client = `import { createRequire } from 'node:module'
      const Stripe = createRequire(${from('x.js')})('stripe')`
    const body = `const { hostname, port } = new URL(process.env.URL)
      const stripe = new (Stripe.default ?? Stripe)('sk_test_x', { host: hostname, port, protocol: 'http', maxNetworkRetries: 1 })
      await stripe.customers.create({ name: 'a' }).catch(() => {})
      await stripe.customers.create({ name: 'a' }).catch(() => {})`
    expect(await attempts(client, body)).toEqual({ rows: [2, 2], records: 4 })
  })

  it('AWS', async () => {
    const client = `import { createRequire } from 'node:module'
      const { SQSClient, SendMessageCommand } = createRequire(${from('x.js')})('@aws-sdk/client-sqs')`
    const body = `const sqs = new SQSClient({ endpoint: process.env.URL, region: 'eu-west-1', maxAttempts: 2, credentials: { accessKeyId: 'a', secretAccessKey: 'b' } })
      const send = () => sqs.send(new SendMessageCommand({ QueueUrl: process.env.URL + '/1/q', MessageBody: 'x' })).catch(() => {})
      await send()
      await send()`
    expect(await attempts(client, body)).toEqual({ rows: [2, 2], records: 4 })
  })
})
