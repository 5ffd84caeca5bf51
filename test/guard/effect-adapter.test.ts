import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { EffectRecord } from '../../src/journal/record.js'
import { runNode } from '../support/child.js'
import { readEffects } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

const SOURCE = `
  import { writeFileSync } from 'node:fs'
  import { dryRun, effect, DryTraceError } from ${JSON.stringify(INDEX_URL)}
  const calls = []
  const upload = (name) => effect({
    system: 'vault', action: 'create', target: name, summary: 'upload ' + name,
    match: { destination: name, host: 'vault.example' },
    payload: { name, apiKey: 'k-123', size: 3 },
    simulate: () => ({ id: 'made-up', name }),
  }, async () => { calls.push(name); writeFileSync(process.env.FILE + '.' + name, 'x'); return { id: 'real', name } })
  const live = await upload('live')
  const dry = await dryRun({ id: 'adapter' }, async () => ({
    invoice: await upload('invoice'),
    metrics: await upload('metrics'),
    bare: await effect({ system: 'vault', action: 'delete', target: 'bare' }, () => { calls.push('bare') }) ?? null,
    broken: await effect({ system: 'vault', action: 'delete', target: 'broken', simulate() { throw new Error('oops') } }, () => { calls.push('broken') }).catch((e) => [e.code, e instanceof DryTraceError]),
    loud: await effect({ system: 'loud', action: 'send', target: 'x' }, () => { calls.push('loud') }).catch((e) => e.code),
    failing: await effect({ system: 'vault', action: 'create', target: 'metrics' }, () => { throw new TypeError('their own') }).catch((e) => e.constructor.name),
    unserialisable: await effect({ system: 'vault', action: 'create', target: 'big', payload: 10n }, () => { calls.push('big') }).catch((e) => e.code),
  }))
  console.log('OUT ' + JSON.stringify({ live, dry, calls }))
`

const POLICY = `version: 1
rules:
  - {name: metrics, match: {system: vault, destination: metrics}, verdict: allow, owner: growth, reason: append-only, expires: 2999-01-01}
  - {name: loud, match: {system: loud}, onBlocked: throw}
`

describe("the application's own adapter", () => {
  it('runs live, is recorded and simulated dry, and passes by rule', async () => {
    const directory = scratchTree({ 'policy.yaml': POLICY })
    const journal = path.join(directory, 'journal')
    const file = path.join(directory, 'upload')
    const finished = await runNode({
      register: true,
      source: SOURCE,
      env: { FILE: file, DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    })
    expect(outputOf(finished)).toEqual({
      live: { id: 'real', name: 'live' },
      dry: {
        invoice: { id: 'made-up', name: 'invoice' },
        metrics: { id: 'real', name: 'metrics' },
        bare: null,
        broken: ['DRY_GUARD_FAILED', true],
        loud: 'DRY_BLOCKED',
        failing: 'TypeError',
        unserialisable: 'DRY_GUARD_FAILED',
      },
      calls: ['live', 'metrics'],
    })
    expect(['live', 'metrics', 'invoice'].map((name) => existsSync(`${file}.${name}`))).toEqual([true, true, false])

    const byTarget = Object.groupBy(readEffects(journal), ({ target }) => target) as Record<string, EffectRecord[]>
    expect(byTarget['invoice']).toEqual([
      expect.objectContaining({
        system: 'vault',
        action: 'create',
        effect: 'write',
        outcome: 'blocked',
        rule: 'default.write',
        summary: 'upload invoice',
        payload: expect.objectContaining({
          digest: expect.stringMatching(/^[0-9a-f]{64}$/),
          excerpt: { name: 'invoice', apiKey: '[redacted]', size: 3 },
        }),
      }),
    ])
    expect(byTarget['metrics']?.[0]).toMatchObject({
      outcome: 'allowed',
      effect: 'write',
      rule: 'metrics',
      reason: 'append-only (owner: growth)',
    })
    expect(byTarget['loud'] ?? byTarget['x']).toEqual([
      expect.objectContaining({ outcome: 'blocked', rule: 'loud', error: expect.objectContaining({ code: 'DRY_BLOCKED' }) }),
    ])
    expect(byTarget['big']?.[0]).toMatchObject({ outcome: 'failed', error: { code: 'DRY_GUARD_FAILED' } })
    expect(byTarget).not.toHaveProperty('live')
  })
})
