import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { REGISTER, runNode } from '../support/child.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'

const TESTING_URL = `file://${path.join(path.dirname(REGISTER), 'testing.js')}`

describe('without drytrace/register', () => {
  it('a dry run is refused and its function is not called; live code runs as ever', async () => {
    const finished = await runNode({
      source: `
        import { armed, currentRun, dryRun, effect, isDryRun } from ${JSON.stringify(INDEX_URL)}
        import { planOf } from ${JSON.stringify(TESTING_URL)}
        let called = 0
        const attempt = (promise) => promise.then(() => 'ran', (error) => error.code)
        const out = {
          dryRun: await attempt(dryRun({}, () => { called += 1 })),
          planOf: await attempt(planOf(() => { called += 1 })),
          called,
          effect: await effect({ system: 'x', action: 'send', target: 'y' }, () => 'live'),
          armed: armed(), dry: isDryRun(), run: currentRun() ?? null,
        }
        console.log('OUT ' + JSON.stringify(out))
      `,
    })
    expect(outputOf(finished)).toEqual({
      dryRun: 'DRY_NOT_ARMED',
      planOf: 'DRY_NOT_ARMED',
      called: 0,
      effect: 'live',
      armed: [],
      dry: false,
      run: null,
    })
    expect(finished.stderr).toBe('')
  })

  it('an effect in a context that asks for dry is refused', async () => {
    const finished = await runNode({
      source: `
        import { context, propagation } from '@opentelemetry/api'
        import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
        import { effect } from ${JSON.stringify(INDEX_URL)}
        context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
        const baggage = propagation.createBaggage({ dry_run: { value: 'true' } })
        let called = false
        const code = await context.with(propagation.setBaggage(context.active(), baggage), () =>
          effect({ system: 'x', action: 'send', target: 'y' }, () => { called = true }).catch((error) => error.code))
        console.log('OUT ' + JSON.stringify({ code, called }))
      `,
    })
    expect(outputOf(finished)).toEqual({ code: 'DRY_NOT_ARMED', called: false })
  })

  it('a live process with it leaves no journal', async () => {
    const finished = await runNode({ register: true, source: "console.log('OUT ' + JSON.stringify(process.env.DRYTRACE_JOURNAL))" })
    expect(existsSync(outputOf<string>(finished))).toBe(false)
  })
})
