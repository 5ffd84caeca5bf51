import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects } from '../support/journal.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

it('a timer and a singleton that outlive their dry run are refused loudly, not simulated for ever', async () => {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: true,
    env: { URL: world.url, DRYTRACE_JOURNAL: journal },
    source: `
      import { AsyncResource } from 'node:async_hooks'
      import { dryRun, isDryRun } from ${JSON.stringify(INDEX_URL)}
      const post = (path) => fetch(process.env.URL + path, { method: 'POST' }).then((r) => r.headers.get('x-dry-run') ?? 'sent', (e) => e.cause?.code ?? e.code)
      let tick, singleton
      await dryRun({ id: 'leaks' }, async () => {
        const emit = AsyncResource.bind(async (path) => post(path))
        singleton = emit
        const timer = setInterval(() => tick?.(), 5)
        setTimeout(() => clearInterval(timer), 2_000)
      })
      // The timer's own context, which is that of the run.
      const inTimer = (work) => new Promise((resolve) => { tick = () => { tick = undefined; resolve(work()) } })
      const soon = [await inTimer(() => post('/timer-soon')), await singleton('/singleton-soon')]
      const real = Date.now
      Date.now = () => real() + 61_000
      const late = [await inTimer(() => post('/timer-late')), await singleton('/singleton-late'), await singleton('/again')]
      const live = await post('/live')
      console.log('OUT ' + JSON.stringify({ soon, late, live, dry: isDryRun() }))
      process.exit()
    `,
  })
  expect(outputOf(finished)).toEqual({
    soon: ['blocked', 'blocked'],
    late: ['DRY_CONTEXT_ENDED', 'DRY_CONTEXT_ENDED', 'DRY_CONTEXT_ENDED'],
    live: 'sent',
    dry: false,
  })
  expect(world.log).toEqual(['POST /live '])
  const late = readEffects(journal).filter(({ rule }) => rule === 'guard.ended')
  expect(late.map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'failed'])
  expect(late[0]?.reason).toMatch(/the dry run leaks ended at .* Make it at start-up instead/)
})

it('a run that goes on working after its entry has returned has not ended', async () => {
  const finished = await runNode({
    register: true,
    env: { URL: world.url },
    source: `
      import { dryRun } from ${JSON.stringify(INDEX_URL)}
      const post = () => fetch(process.env.URL, { method: 'POST' }).then((r) => r.headers.get('x-dry-run'), (e) => e.cause?.code)
      const real = Date.now
      const out = []
      let done
      const background = new Promise((resolve) => { done = resolve })
      await dryRun({}, () => {
        setTimeout(async () => {
          for (let minute = 1; minute <= 4; minute += 1) {
            Date.now = () => real() + minute * 50_000
            out.push(await post())
          }
          done()
        }, 10)
      })
      await background
      console.log('OUT ' + JSON.stringify(out))
    `,
  })
  expect(outputOf(finished)).toEqual(['blocked', 'blocked', 'blocked', 'blocked'])
})
