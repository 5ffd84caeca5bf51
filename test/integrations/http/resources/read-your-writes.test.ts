import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ResourceWorld, startResourceWorld } from '../../../support/resource-world.js'
import { CLIENT_MODULES, CLIENTS, installed } from './clients.js'
import { type Answer, dry } from './resource-run.js'

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld()
})
afterAll(() => world.stop())

const ADA = { id: 'c7', name: 'Ada', email: 'ada@old.example', address: { city: 'London', zip: 'E1' }, version: 3 }
beforeEach(() => world.reset({ '/v1/contacts/c7': ADA, '/v1/contacts': { data: [ADA] } }))

const CREATES = `rules:
  - {name: create, match: {host: 127.0.0.1, method: POST, path: /v1/contacts}, respond: {status: 201, json: {id: "{{syntheticId}}", createdAt: "{{now}}"}}}`

describe.each(Object.entries(CLIENTS).filter(([name]) => name !== 'http2'))(
  'what a run reads back: %s',
  (_, client) => {
    it('create, get, patch, get, delete, get: planned, marked, and the server never hears of it', async () => {
      const { out, effects, problems } = await dry({
        client,
        url: world.url,
        policy: CREATES,
        body: `
        const created = await send('POST', '/v1/contacts', { body: { name: 'Grace', tags: ['a'] } })
        const path = '/v1/contacts/' + created.body.id
        const get = await send('GET', path + '/')
        await send('PATCH', path, { body: { name: 'Grace H.', tags: null, address: { city: 'NYC' } } })
        const patched = await send('GET', path)
        const head = await send('HEAD', path)
        await send('DELETE', path)
        return { created, get, patched, head, deleted: await send('GET', path), headed: await send('HEAD', path) }`,
      })
      const { created, get, patched, head, deleted, headed } = out as Record<string, Answer>
      const id = created?.body?.['id']
      expect(get).toMatchObject({ status: 200, body: { ...created?.body, name: 'Grace', tags: ['a'] } })
      expect(get?.headers).toMatchObject({ 'x-dry-run': 'overlaid', 'content-type': 'application/json' })
      expect(patched?.body).toEqual({ ...created?.body, name: 'Grace H.', address: { city: 'NYC' } })
      expect(head).toMatchObject({ status: 200, size: 0, headers: { 'x-dry-run': 'overlaid' } })
      expect(Number(head?.headers['content-length'])).toBe(patched?.size)
      expect(deleted).toMatchObject({ status: 404, headers: { 'x-dry-run': 'overlaid' } })
      expect(headed).toMatchObject({ status: 404, size: 0 })
      expect(world.log).toEqual([])
      expect([...world.resources.keys()]).toEqual(['/v1/contacts/c7', '/v1/contacts'])
      const reads = effects.filter(({ effect }) => effect === 'read')
      expect(
        reads.map(({ outcome, overlaidBy }) => [outcome, overlaidBy?.map(({ summary }) => summary.split(' ')[0])]),
      ).toEqual([
        ['allowed', ['POST']],
        ['allowed', ['POST', 'PATCH']],
        ['allowed', ['POST', 'PATCH']],
        ['allowed', ['POST', 'PATCH', 'DELETE']],
        ['allowed', ['POST', 'PATCH', 'DELETE']],
      ])
      expect(reads[0]?.note).toContain('without a call')
      expect(reads[0]?.overlaidBy?.[0]?.spanId).toBe(effects[0]?.spanId)
      expect(id).toMatch(/^dry_/)
      // The made-up id shows up in writes, which is told; in what is asked of nobody it is not.
      expect(problems).toEqual([
        expect.stringMatching(/^PATCH .* uses an id made up/),
        expect.stringMatching(/^DELETE .* uses an id made up/),
      ])
    })

    it('a real resource: patch, get, put, get, delete, get', async () => {
      const { out, effects } = await dry({
        client,
        url: world.url,
        body: `
        const path = '/v1/contacts/c7'
        const before = await send('GET', path)
        await send('PATCH', path, { body: { email: 'ada@new.example', address: { zip: null } } })
        const patched = await send('GET', path)
        const head = await send('HEAD', path)
        await send('PUT', path, { body: { name: 'Countess' } })
        const put = await send('GET', path)
        await send('DELETE', path)
        return { before, patched, head, put, deleted: await send('GET', path), outside: await live('GET', path) }`,
      })
      const { before, patched, head, put, deleted, outside } = out as Record<string, Answer>
      expect(before?.body).toEqual(ADA)
      expect(before?.headers).toMatchObject({ etag: '"v1"', 'cache-control': 'max-age=60' })
      expect(before?.headers).not.toHaveProperty('x-dry-run')
      expect(patched).toMatchObject({
        status: 200,
        headers: { 'x-dry-run': 'overlaid', 'x-real': 'yes', 'cache-control': 'no-store' },
      })
      expect(patched?.body).toEqual({ ...ADA, email: 'ada@new.example', address: { city: 'London' } })
      expect(patched?.headers).not.toHaveProperty('etag')
      expect(head).toMatchObject({ status: 200, size: 0, headers: { 'x-dry-run': 'overlaid' } })
      expect(head?.headers).not.toHaveProperty('etag')
      expect(put?.body).toEqual({ id: 'c7', version: 3, name: 'Countess' })
      expect(deleted).toMatchObject({ status: 404, headers: { 'x-dry-run': 'overlaid' } })
      expect(outside?.body).toEqual(ADA)
      expect(outside?.headers).not.toHaveProperty('x-dry-run')
      expect(world.log.map((line) => line.split(' ')[0])).toEqual(['GET', 'GET', 'HEAD', 'GET', 'GET'])
      expect(world.resources.get('/v1/contacts/c7')).toEqual(ADA)
      expect(effects.filter(({ effect }) => effect === 'read')).toHaveLength(5)
    })
  },
)

describe.skipIf(!installed)('an official client', () => {
  it('stripe: create, retrieve, update, retrieve, delete, retrieve, with no server at all', async () => {
    const { out, effects } = await dry({
      client: `import { createRequire } from 'node:module'
        const Stripe = createRequire(${JSON.stringify(`file://${CLIENT_MODULES}/x.js`)})('stripe')`,
      url: world.url,
      body: `
        const stripe = new (Stripe.default ?? Stripe)('sk_test_x', { maxNetworkRetries: 0 })
        const created = await stripe.customers.create({ email: 'a@b.example', metadata: { plan: 'free' } })
        const got = await stripe.customers.retrieve(created.id, { expand: ['tax'] })
        await stripe.customers.update(created.id, { name: 'Ada', metadata: { plan: 'pro' } })
        const updated = await stripe.customers.retrieve(created.id)
        await stripe.customers.del(created.id)
        const gone = await stripe.customers.retrieve(created.id).catch((error) => error.statusCode)
        return { created, got, updated, gone }`,
    })
    expect(out.got).toMatchObject({ id: out.created.id, object: 'customer', email: 'a@b.example' })
    expect(out.updated).toMatchObject({
      id: out.created.id,
      email: 'a@b.example',
      name: 'Ada',
      metadata: { plan: 'pro' },
    })
    expect(out.gone).toBe(404)
    const update = effects.find(({ summary, preview }) => summary.includes('/dry_') && (preview?.diff.length ?? 0) > 0)
    expect(update?.preview?.diff).toMatchObject([
      { field: 'metadata.plan', after: 'pro' },
      { field: 'name', after: 'Ada' },
    ])
  })
})

describe('the answer of a read that is overlaid', () => {
  const client = CLIENTS['node:http'] as string
  const path = '/v1/contacts/c7'

  it.each(['gzip', 'br', 'zstd'])('unpacks %s', async (encoding) => {
    const { out } = await dry({
      client,
      url: world.url,
      body: `await send('PATCH', '${path}?encode=${encoding}', { body: { name: 'x' } })
        return await send('GET', '${path}?encode=${encoding}')`,
    })
    expect(out.body).toEqual({ ...ADA, name: 'x' })
    expect(out.headers).not.toHaveProperty('content-encoding')
  })

  it('conditions and ranges are left out of the real read', async () => {
    const { out } = await dry({
      client,
      url: world.url,
      body: `await send('PATCH', '${path}', { body: { name: 'x' } })
        return await send('GET', '${path}', { headers: { 'if-none-match': '"v1"', range: 'bytes=0-3', 'x-mine': 'kept', authorization: 'Bearer t' } })`,
    })
    expect(out).toMatchObject({ status: 200, body: { ...ADA, name: 'x' } })
    expect(world.headers[0]).toMatchObject({ 'x-mine': 'kept', authorization: 'Bearer t' })
    expect(world.headers[0]).not.toHaveProperty('if-none-match')
    expect(world.headers[0]).not.toHaveProperty('range')
  })

  it('numbers that no double holds keep their digits', async () => {
    world.reset({ [path]: '{"id":"c7","big":12345678901234567890,"name":"a"}' })
    const { out } = await dry({
      client,
      url: world.url,
      body: `await send('PATCH', '${path}', { body: { name: 'b' } }); return await send('GET', '${path}')`,
    })
    expect(out.text).toBe('{"id":"c7","big":12345678901234567890,"name":"b"}')
  })

  it('JSON Patch, merge patch and forms', async () => {
    const { out } = await dry({
      client,
      url: world.url,
      body: `
        await send('PATCH', '${path}', { body: [{ op: 'test', path: '/name', value: 'Ada' }, { op: 'replace', path: '/name', value: 'B' }, { op: 'add', path: '/tags', value: ['t'] }], headers: { 'content-type': 'application/json-patch+json' } })
        const patched = await send('GET', '${path}')
        await send('PATCH', '${path}', { body: { tags: null }, headers: { 'content-type': 'application/merge-patch+json' } })
        const merged = await send('GET', '${path}')
        await send('POST', '${path}', { body: 'version=4&address[zip]=N1&metadata[order]=7', headers: { 'content-type': 'application/x-www-form-urlencoded' } })
        return { patched, merged, form: await send('GET', '${path}') }`,
    })
    expect(out.patched.body).toEqual({ ...ADA, name: 'B', tags: ['t'] })
    expect(out.merged.body).toEqual({ ...ADA, name: 'B' })
    expect(out.form.body).toEqual({
      ...ADA,
      name: 'B',
      version: 4,
      address: { city: 'London', zip: 'N1' },
      metadata: { order: '7' },
    })
  })

  it('a PUT of what is not there is read back, a PATCH of it is the service’s own 404', async () => {
    const { out, problems } = await dry({
      client,
      url: world.url,
      body: `
        await send('PUT', '/v1/contacts/c8', { body: { name: 'New' } })
        await send('PATCH', '/v1/contacts/c9', { body: { name: 'No' } })
        return { put: await send('GET', '/v1/contacts/c8'), patch: await send('GET', '/v1/contacts/c9') }`,
    })
    expect(out.put).toMatchObject({ status: 200, body: { name: 'New' }, headers: { 'x-dry-run': 'overlaid' } })
    expect(out.patch).toMatchObject({ status: 404, body: { error: 'no such thing' } })
    expect(problems).toEqual([expect.stringContaining('there is nothing to change')])
  })

  it('a Location says where the new resource is', async () => {
    const { out } = await dry({
      client,
      url: world.url,
      policy: `rules:
  - {name: put, match: {host: 127.0.0.1, method: POST, path: /v1/orders}, respond: {status: 201, headers: {location: /v1/orders/o-1}}}`,
      body: `await send('POST', '/v1/orders', { body: { total: 3 } }); return await send('GET', '/v1/orders/o-1')`,
    })
    expect(out).toMatchObject({ status: 200, body: { total: 3 } })
    expect(world.log).toEqual([])
  })

  it('an answer that says the write failed changes nothing', async () => {
    const { out } = await dry({
      client,
      url: world.url,
      policy: `rules:
  - {name: fails, match: {host: 127.0.0.1, method: PATCH}, respond: {status: 409, json: {}}}
  - {name: refused, match: {host: 127.0.0.1, method: DELETE}, onBlocked: throw}`,
      body: `await send('PATCH', '${path}', { body: { name: 'x' } })
        await send('DELETE', '${path}')
        return await send('GET', '${path}')`,
    })
    expect(out.body).toEqual(ADA)
    expect(out.headers).not.toHaveProperty('x-dry-run')
  })

  it('runs do not see each other, and live traffic sees neither', async () => {
    const { out } = await dry({
      client,
      url: world.url,
      body: `await send('DELETE', '${path}')
        const other = await outside(() => dryRun({ id: 'other' }, () => send('GET', '${path}')))
        return { mine: await send('GET', '${path}'), other, live: await live('GET', '${path}') }`,
    })
    expect([out.mine.status, out.other.status, out.live.status]).toEqual([404, 200, 200])
    expect(out.other.headers).not.toHaveProperty('x-dry-run')
  })
})

describe('what is not overlaid', () => {
  const client = CLIENTS['node:http'] as string
  const path = '/v1/contacts/c7'
  const patch = `await send('PATCH', '${path}', { body: { name: 'x' } })\n`

  it.each<[string, string, string]>([
    ['a list', `return await send('GET', '/v1/contacts')`, 'it may list what PATCH'],
    ['a search', `return await send('GET', '/v1/contacts/search?q=x&status=200')`, 'it may find what PATCH'],
    ['another query', `return await send('GET', '${path}?region=eu')`, 'another query'],
    [
      'no JSON',
      `await send('PATCH', '${path}?text', { body: {} }); return await send('GET', '${path}?text')`,
      'text/plain',
    ],
    [
      'too large',
      `await send('PATCH', '${path}?large', { body: {} }); return await send('GET', '${path}?large')`,
      'larger than',
    ],
    [
      'an error',
      `await send('PATCH', '${path}?status=500', { body: {} }); return await send('GET', '${path}?status=500')`,
      'the answer was 500',
    ],
    [
      'an unknown patch',
      `await send('PATCH', '${path}', { body: 'a: 1', headers: { 'content-type': 'application/apply-patch+yaml' } }); return await send('GET', '${path}')`,
      'apply-patch+yaml',
    ],
    [
      'a patch that does not apply',
      `await send('PATCH', '${path}', { body: [{ op: 'test', path: '/name', value: 'no' }], headers: { 'content-type': 'application/json-patch+json' } }); return await send('GET', '${path}')`,
      'does not apply',
    ],
    [
      'an action',
      `await send('POST', '/v1/contacts', { body: { a: 1 } }); return await send('GET', '/v1/contacts')`,
      'what is read is a list',
    ],
    [
      'below what is gone',
      `await send('DELETE', '${path}'); return await send('GET', '${path}/notes')`,
      'would delete what it lies in',
    ],
  ])('%s: the real answer, and a problem that says so', async (_name, body, reason) => {
    const { out, problems } = await dry({ client, url: world.url, body: patch + body })
    expect(out.headers).not.toHaveProperty('x-dry-run')
    const get = world.log.filter((line) => line.startsWith('GET'))
    expect(get).toHaveLength(1)
    expect(problems).toEqual([expect.stringMatching(/^not overlaid: GET .* sees the data as it is/)])
    expect(problems[0]).toContain(reason)
    if (reason === 'larger than') expect(out.size).toBeGreaterThan(2 * 1024 * 1024)
  })

  it('what the run has not touched is left alone', async () => {
    world.reset({ '/v1/contacts/c7': ADA, '/v1/contacts/c8': { id: 'c8' }, '/v1/orders': [] })
    const { out, problems } = await dry({
      client,
      url: world.url,
      body: `${patch} return [await send('GET', '/v1/contacts/c8'), await send('GET', '/v1/orders')]`,
    })
    expect(out.map(({ headers }: Answer) => headers['etag'])).toEqual(['"v1"', '"v1"'])
    expect(problems).toEqual([])
  })
})
