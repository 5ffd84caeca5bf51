import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { EffectRecord } from '../../../../src/journal/record.js'
import { type ResourceWorld, startResourceWorld } from '../../../support/resource-world.js'
import { CLIENTS } from './clients.js'
import { dry } from './resource-run.js'

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld()
})
afterAll(() => world.stop())

const ADA = {
  id: 'c7',
  name: 'Ada',
  email: 'ada@old.example',
  address: { city: 'London', zip: 'E1' },
  api_token: 'abc',
}
beforeEach(() => world.reset({ '/v1/contacts/c7': ADA, '/v1/contacts': { data: [ADA] } }))

const PREVIEW = 'http: {preview: get}'
const path = '/v1/contacts/c7'

/** `field: before -> after`, with nothing where there is none. */
function diffOf(effect: EffectRecord | undefined): string[] {
  return (effect?.preview?.diff ?? []).map((change) => {
    const [before, after] = [change.before, change.after].map((value) =>
      value === undefined ? '' : JSON.stringify(value),
    )
    return `${change.field}: ${before} -> ${after}`
  })
}

const writesOf = (effects: readonly EffectRecord[]) => effects.filter(({ outcome }) => outcome === 'blocked')

describe.each(Object.entries(CLIENTS).filter(([name]) => name !== 'http2'))('preview: get by %s', (_, client) => {
  it('reads once, in the caller’s name, and shows before and after by field', async () => {
    const { out, effects } = await dry({
      client,
      url: world.url,
      policy: PREVIEW,
      body: `
        const patched = await send('PATCH', '${path}', { body: { email: 'ada@new.example', address: { zip: 'N1' }, api_token: 'xyz' }, headers: { authorization: 'Bearer t', 'if-match': '"v0"', 'idempotency-key': 'k' } })
        await send('DELETE', '${path}')
        return patched`,
    })
    expect(out).toMatchObject({ status: 200, headers: { 'x-dry-run': 'blocked' } })
    expect(out.body).toMatchObject({
      ...ADA,
      email: 'ada@new.example',
      address: { city: 'London', zip: 'N1' },
      api_token: 'xyz',
    })
    expect(world.log).toEqual([`GET ${path}`, `GET ${path}`])
    expect(world.headers[0]).toMatchObject({ authorization: 'Bearer t' })
    for (const name of ['content-type', 'content-length', 'if-match', 'idempotency-key'])
      expect(world.headers[0]).not.toHaveProperty(name)
    const [patch, deletion] = writesOf(effects)
    expect(patch?.preview).toMatchObject({ method: 'select', rows: 1 })
    expect(diffOf(patch)).toEqual([
      'email: "ada@old.example" -> "ada@new.example"',
      'address.zip: "E1" -> "N1"',
      'api_token: "[redacted]" -> "[redacted]"',
    ])
    // Over what the PATCH would have changed.
    expect(diffOf(deletion)).toEqual([
      'id: "c7" -> ',
      'name: "Ada" -> ',
      'email: "ada@new.example" -> ',
      'address.city: "London" -> ',
      'address.zip: "N1" -> ',
      'api_token: "[redacted]" -> ',
    ])
    const reads = effects.filter(({ effect }) => effect === 'read')
    expect(reads.map(({ outcome, hook, note }) => [outcome, hook.name, note])).toEqual([
      ['allowed', 'preview', expect.stringContaining('read by drytrace, for the diff of PATCH')],
      ['allowed', 'preview', expect.stringContaining('read by drytrace, for the diff of DELETE')],
    ])
    expect(world.resources.get(path)).toEqual(ADA)
  })
})

describe('the diff of a blocked request', () => {
  const client = CLIENTS['node:http'] as string

  it('PUT, and a form POST to an item', async () => {
    const { effects } = await dry({
      client,
      url: world.url,
      policy: PREVIEW,
      body: `
        await send('POST', '${path}', { body: 'name=Countess&metadata[k]=v', headers: { 'content-type': 'application/x-www-form-urlencoded' } })
        await send('PUT', '${path}', { body: { name: 'Ada', email: 'x@y.example' } })
        await send('PUT', '/v1/contacts/c8', { body: { name: 'New' } })
        await send('POST', '/v1/contacts', { body: { name: 'Other' } })`,
    })
    const [post, put, created, another] = writesOf(effects)
    expect(diffOf(post)).toEqual(['name: "Ada" -> "Countess"', 'metadata.k:  -> "v"'])
    expect(diffOf(put)).toEqual([
      'name: "Countess" -> "Ada"',
      'email: "ada@old.example" -> "x@y.example"',
      'address.city: "London" -> ',
      'address.zip: "E1" -> ',
      'api_token: "[redacted]" -> ',
      'metadata.k: "v" -> ',
    ])
    expect(put?.preview?.notes).toEqual([expect.stringContaining('a PUT replaces')])
    expect(diffOf(created)).toEqual(['name:  -> "New"'])
    expect(another?.preview).toMatchObject({ method: 'synthesized', diff: [] })
    expect(world.log).toEqual([`GET ${path}`, `GET ${path}`, 'GET /v1/contacts/c8'])
  })

  it('of what only this run knows needs no call and no permission', async () => {
    const { effects } = await dry({
      client,
      url: world.url,
      policy: `rules:
  - {name: create, match: {host: 127.0.0.1, method: POST}, respond: {status: 201, json: {id: "{{syntheticId}}"}}}`,
      body: `const { body } = await send('POST', '/v1/contacts', { body: { name: 'A' } })
        await send('PATCH', '/v1/contacts/' + body.id, { body: { name: 'B' } })`,
    })
    expect(diffOf(writesOf(effects)[1])).toEqual(['name: "A" -> "B"'])
    expect(world.log).toEqual([])
  })

  it('is not asked for unless the policy says so; a rule decides for what it matches', async () => {
    const body = `await send('PATCH', '${path}', { body: { name: 'B' } }); await send('DELETE', '${path}')`
    await dry({ client, url: world.url, body })
    expect(world.log).toEqual([])
    const rule = (preview: string) => `{name: r, match: {host: 127.0.0.1, method: PATCH}, preview: ${preview}}`
    await dry({ client, url: world.url, body, policy: `rules:\n  - ${rule('get')}` })
    expect(world.log).toEqual([`GET ${path}`])
    await dry({ client, url: world.url, body, policy: `${PREVIEW}\nrules:\n  - ${rule('none')}` })
    expect(world.log).toEqual([`GET ${path}`, `GET ${path}`])
  })

  it.each([
    ['the GET is a write by rule', 'effect: write'],
    ['the GET is unknown by rule', 'effect: unknown'],
  ])('never where %s', async (_, verdict) => {
    const { effects } = await dry({
      client,
      url: world.url,
      policy: `${PREVIEW}\nrules:\n  - {name: costly, match: {host: 127.0.0.1, method: GET}, ${verdict}}`,
      body: `await send('PATCH', '${path}', { body: { name: 'B' } })`,
    })
    expect(world.log).toEqual([])
    expect(effects).toHaveLength(1)
    expect(effects[0]?.preview?.notes).toEqual([expect.stringContaining('does not take GET')])
  })

  it.each([
    ['fails', '?status=500', 'answered 500'],
    ['is no JSON', '?text', 'text/plain'],
    ['is too large', '?large', 'larger than'],
    ['takes too long', '?hang', 'no whole answer in'],
  ])('is left out with a note when the GET %s', async (_name, query, reason) => {
    const { out, effects } = await dry({
      client,
      url: world.url,
      policy: PREVIEW,
      body: `return await send('PATCH', '${path}${query}', { body: { name: 'B' } })`,
    })
    expect(out.status).toBe(200)
    const [patch] = writesOf(effects)
    expect(patch?.preview).toMatchObject({ method: 'synthesized', diff: [] })
    expect(patch?.preview?.notes?.join()).toContain(reason)
    expect(patch?.payload?.excerpt).toEqual({ name: 'B' })
  })

  it('a caller that gives up meanwhile leaves the write on record, whole', async () => {
    const { out, effects } = await dry({
      client: `import http from 'node:http'
        const send = (method, path, { body }) => new Promise((resolve) => {
          const request = http.request(process.env.URL + path, { method, headers: type(body), timeout: 100 })
          request.on('timeout', () => request.destroy(new Error('timed out')))
          request.on('error', (error) => setTimeout(resolve, 100, error.message))
          request.end(text(body))
        })`,
      url: world.url,
      policy: PREVIEW,
      body: `return await send('PATCH', '${path}?hang', { body: { name: 'B' } })`,
    })
    expect(out).toBe('timed out')
    const [patch] = writesOf(effects)
    expect(patch?.payload?.excerpt).toEqual({ name: 'B' })
    expect(patch?.note).toContain('gave up before it was answered')
  })
})
