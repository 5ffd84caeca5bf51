import { afterAll, beforeAll, expect, it } from 'vitest'
import { type ResourceWorld, startResourceWorld } from '../../support/resource-world.js'
import { dry } from '../http/resources/resource-run.js'

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld()
  world.reset({ '/export': { id: 'export' } })
})
afterAll(() => world.stop())

it('rules see the query that undici’s own option puts behind the path', async () => {
  const { out, effects } = await dry({
    client: `import { request } from 'undici'
      const send = async (query) => (await request(process.env.URL + '/export', { query })).statusCode`,
    url: world.url,
    policy: `rules:
  - {name: export-writes, match: {system: http, host: 127.0.0.1, method: GET, query: {start: "1"}}, effect: write}`,
    body: `return [await send({ start: 1 }), await send({ start: [2, 3] }), await send({})]`,
  })
  expect(out).toEqual([200, 200, 200])
  expect(effects.map(({ outcome, rule }) => `${outcome} ${rule}`)).toEqual([
    'blocked export-writes',
    'allowed default.read',
    'allowed default.read',
  ])
  expect(world.log).toEqual(['GET /export?start=2&start=3', 'GET /export'])
})
