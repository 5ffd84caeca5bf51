import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

describe('a CommonJS library in an ES module', () => {
  it('is guarded by every name it is known under, builtins too', async () => {
    const finished = await runNode({
      register: true,
      env: { URL: world.url },
      source: `
        import undici, { Client, request } from 'undici'
        import * as namespace from 'undici'
        import http, { request as httpRequest } from 'node:http'
        import { request as bare } from 'http'
        import { createRequire } from 'node:module'
        import { dryRun } from ${JSON.stringify(INDEX_URL)}
        const url = process.env.URL
        const post = { method: 'POST', body: 'x' }
        const required = createRequire(import.meta.url)('undici')
        const read = (outgoing) => new Promise((resolve, reject) =>
          outgoing.on('response', (r) => resolve(r.resume().statusCode)).on('error', reject).end('x'))
        const client = new Client(url)
        const out = await dryRun({}, async () => ({
          named: (await request(url + '/1', post)).statusCode,
          default: (await undici.request(url + '/2', post)).statusCode,
          namespace: (await namespace.request(url + '/3', post)).statusCode,
          required: (await required.request(url + '/4', post)).statusCode,
          class: (await client.request({ path: '/5', ...post })).statusCode,
          imported: (await (await import('undici')).request(url + '/6', post)).statusCode,
          http: await read(http.request(url + '/7', { method: 'POST' })),
          httpRequest: await read(httpRequest(url + '/8', { method: 'POST' })),
          bare: await read(bare(url + '/9', { method: 'POST' })),
        }))
        await client.close()
        console.log('OUT ' + JSON.stringify({ out, same: required.request === request }))
      `,
    })
    const { out, same } = outputOf<{ out: Record<string, number>; same: boolean }>(finished)
    expect(new Set(Object.values(out))).toEqual(new Set([200]))
    expect(Object.keys(out)).toHaveLength(9)
    expect(same).toBe(true)
    expect(world.log).toEqual([])
  })
})
