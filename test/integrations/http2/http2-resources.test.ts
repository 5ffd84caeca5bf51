import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ResourceWorld, startResourceWorld } from '../../support/resource-world.js'
import { CLIENTS } from '../http/resources/clients.js'
import { dry } from '../http/resources/resource-run.js'

const client = CLIENTS['http2'] as string
const path = '/v1/contacts/c7'
const ADA = { id: 'c7', name: 'Ada', email: 'ada@old.example' }

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld(2)
})
afterAll(() => world.stop())
beforeEach(() => world.reset({ [path]: ADA }))

describe('resources over http2', () => {
  it('a run reads back what it would have written; live traffic on the same session does not', async () => {
    const { out, effects } = await dry({
      client,
      url: world.url,
      policy: `rules:
  - {name: create, match: {host: 127.0.0.1, method: POST}, respond: {status: 201, json: {id: "{{syntheticId}}"}}}`,
      body: `
        const first = await live('GET', '${path}')
        const created = await send('POST', '/v1/contacts', { body: { name: 'Grace' } })
        const get = await send('GET', '/v1/contacts/' + created.body.id)
        await send('PATCH', '${path}', { body: { email: 'new' } })
        const patched = await send('GET', '${path}')
        const head = await send('HEAD', '${path}')
        await send('DELETE', '${path}')
        return { first, created, get, patched, head, deleted: await send('GET', '${path}'), live: await live('GET', '${path}') }`,
    })
    expect(out.get).toMatchObject({ status: 200, body: { ...out.created.body, name: 'Grace' } })
    expect(out.patched).toMatchObject({ status: 200, body: { ...ADA, email: 'new' } })
    expect(out.patched.headers).toMatchObject({ 'x-dry-run': 'overlaid', 'x-real': 'yes' })
    expect(out.head).toMatchObject({ status: 200, size: 0, headers: { 'x-dry-run': 'overlaid' } })
    expect(out.deleted).toMatchObject({ status: 404, headers: { 'x-dry-run': 'overlaid' } })
    for (const answer of [out.first, out.live]) {
      expect(answer.body).toEqual(ADA)
      expect(answer.headers).not.toHaveProperty('x-dry-run')
    }
    expect(world.log).toEqual([`GET ${path}`, `GET ${path}`, `HEAD ${path}`, `GET ${path}`])
    expect(effects.filter(({ outcome }) => outcome === 'blocked')).toHaveLength(3)
  })

  it('preview: get reads once and shows the difference', async () => {
    const { effects } = await dry({
      client,
      url: world.url,
      policy: 'http: {preview: get}',
      body: `await send('PATCH', '${path}', { body: { email: 'new' }, headers: { authorization: 'Bearer t' } })`,
    })
    expect(world.log).toEqual([`GET ${path}`])
    expect(world.headers[0]).toMatchObject({ authorization: 'Bearer t' })
    expect(world.headers[0]).not.toHaveProperty('content-type')
    const [patch] = effects.filter(({ outcome }) => outcome === 'blocked')
    expect(patch?.preview?.notes).toEqual([])
    expect(patch?.preview).toMatchObject({
      method: 'select',
      diff: [{ field: 'email', before: 'ada@old.example', after: 'new' }],
    })
  })
})
