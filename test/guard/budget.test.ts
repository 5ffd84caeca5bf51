import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { readEffects } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

/** A worker that never gets what it waits for: it loops until something stops it. */
const looping = (target: string, extra = '') => `
  import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
  let rounds = 0
  const loop = () => dryRun({ id: 'loop' }, async () => {
    for (; rounds < 500; rounds += 1) {
      ${extra}
      await effect({ system: 'x', action: 'create', target: ${target} }, () => { throw new Error('left') })
    }
  })
  const error = await loop().catch((error) => error)
  // A later entry of the same run is the same budget.
  const again = await loop().catch((error) => error)
  console.log('OUT ' + JSON.stringify({ rounds, code: error?.code, message: error?.message, again: again?.code }))
`

interface Out {
  readonly rounds: number
  readonly code: string
  readonly message: string
  readonly again: string
}

describe('the budget of a run', () => {
  it('ends a loop over one and the same effect', async () => {
    const { out, journal } = await run('budget: {repeats: 20}', looping("'same'"))
    expect(out).toMatchObject({ rounds: 20, code: 'DRY_BUDGET', again: 'DRY_BUDGET' })
    expect(out.message).toContain('more than 20 repeats of "create same" (budget.repeats in the policy)')
    const effects = readEffects(journal)
    expect(effects).toHaveLength(22)
    expect(effects.at(-1)).toMatchObject({ outcome: 'blocked', rule: 'guard.budget', error: { code: 'DRY_BUDGET' } })
  })

  it('ends a loop over ever new effects', async () => {
    const { out } = await run('budget: {writes: 30, repeats: 5}', looping("'number ' + rounds"))
    expect(out).toMatchObject({ rounds: 30, code: 'DRY_BUDGET' })
    expect(out.message).toContain('more than 30 blocked writes (budget.writes in the policy)')
  })

  it('ends a run that goes on for too long', async () => {
    const { out } = await run(
      'budget: {seconds: 60}',
      looping("'number ' + rounds", 'if (rounds === 3) { const now = Date.now; Date.now = () => now() + 61_000 }'),
    )
    expect(out).toMatchObject({ rounds: 3, code: 'DRY_BUDGET' })
    expect(out.message).toContain('more than 60 seconds (budget.seconds in the policy)')
  })

  it('has no limit that an ordinary run meets', async () => {
    const { out } = await run('', looping("'same'"))
    expect(out.rounds).toBe(500)
    expect(out.code).toBeUndefined()
  })
})

async function run(budget: string, source: string): Promise<{ out: Out; journal: string }> {
  const directory = scratchTree({ 'policy.yaml': `version: 1\n${budget}\n` })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    source,
    env: { DRYTRACE_POLICY: path.join(directory, 'policy.yaml'), DRYTRACE_JOURNAL: journal },
  })
  return { out: outputOf<Out>(finished), journal }
}
