import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { REGISTER, runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { outputOf } from '../support/scratch.js'

const TESTING_URL = `file://${path.join(path.dirname(REGISTER), 'testing.js')}`

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

it('planOf runs a function dry and returns what it would have done, in order, and only that', async () => {
  const finished = await runNode({
    register: true,
    env: { URL: world.url },
    source: `
      import { planOf } from ${JSON.stringify(TESTING_URL)}
      const url = process.env.URL
      const work = async (name) => {
        const seen = await (await fetch(url + '/read/' + name)).json()
        await fetch(url + '/a/' + name, { method: 'POST', body: 'x' })
        await fetch(url + '/b/' + name, { method: 'DELETE' })
        return seen.path
      }
      // Two at once: neither shows up in the other's plan.
      const [one, two] = await Promise.all([planOf(() => work('one'), { id: 'plan-one' }), planOf(() => work('two'))])
      const failed = await planOf(() => { throw new RangeError('their own') }).catch((error) => error.name)
      const shape = ({ runId, result, effects, writes }) => ({
        runId, result, effects: effects.map((e) => e.effect + ' ' + e.target.replace(/^[^/]*/, '')), writes: writes.map((e) => e.action + ' ' + e.outcome),
      })
      console.log('OUT ' + JSON.stringify({ one: shape(one), two: shape(two), failed }))
    `,
  })
  const plan = (name: string) => ({
    result: `/read/${name}`,
    effects: [`read /read/${name}`, `write /a/${name}`, `write /b/${name}`],
    writes: ['create blocked', 'delete blocked'],
  })
  expect(outputOf(finished)).toEqual({
    one: { runId: 'plan-one', ...plan('one') },
    two: { runId: expect.stringMatching(/^dr-/), ...plan('two') },
    failed: 'RangeError',
  })
  expect(world.log).toEqual([])
})
