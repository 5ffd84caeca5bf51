import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

/** Registers a meter provider; `globalThis.collect()` reads every series as `name{labels}` -> value. */
const METRICS = `
import { metrics } from '@opentelemetry/api'
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
class Reader extends MetricReader {
  async onForceFlush() {}
  async onShutdown() {}
}
const reader = new Reader()
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }))
globalThis.collect = async () => {
  const { resourceMetrics } = await reader.collect()
  return Object.fromEntries(resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics).flatMap(({ descriptor, dataPoints }) =>
    dataPoints.map(({ attributes, value }) => [descriptor.name + JSON.stringify(attributes), value])))
}
`

const SOURCE = `
import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
await new Promise((resolve) => setImmediate(resolve))
const before = await globalThis.collect()
const write = (target) => effect({ system: 'x', action: 'create', target, simulate() { if (target === 'broken') throw new Error('oops') } }, () => {})
await dryRun({ id: 'a-run-id' }, async () => {
  for (const target of ['one', 'two', 'metrics']) await write(target)
  await write('broken').catch(() => {})
  await fetch('http://192.0.2.1/', { method: 'POST' })
}).catch((error) => console.error(error.code))
console.log('OUT ' + JSON.stringify({ before, after: await globalThis.collect() }))
`

const effects = (system: string, outcome: string) =>
  `dry_run.effects${JSON.stringify({ 'dry_run.system': system, 'dry_run.outcome': outcome })}`
const failures = (hook: string) => `dry_run.guard.hook_failures${JSON.stringify({ 'dry_run.hook.name': hook })}`

interface Out {
  readonly before: Record<string, number>
  readonly after: Record<string, number>
}

const policy = `version: 1
rules:
  - {name: m, match: {system: x, destination: metrics}, verdict: allow, owner: o, reason: r, expires: 2999-01-01}
`

describe.each(['before', 'after'] as const)('a meter provider registered %s drytrace/register', (order) => {
  const run = async (text: string) => {
    const directory = scratchTree({ 'metrics.mjs': METRICS, 'app.mjs': SOURCE, 'policy.yaml': text })
    return runNode({
      register: true,
      [order]: [path.join(directory, 'metrics.mjs')],
      file: path.join(directory, 'app.mjs'),
      env: { DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    })
  }

  it('sees every series from 0, so that the first increment alerts', async () => {
    const { before } = outputOf<Out>(await run(policy))
    for (const system of ['http', 'postgresql', 'smtp', 'pg-boss', 'process', 'net']) {
      for (const outcome of ['blocked', 'allowed', 'forwarded', 'failed', 'unblocked']) {
        expect(before[effects(system, outcome)], `${system} ${outcome}`).toBe(0)
      }
    }
    expect(before[failures('http')]).toBe(0)
    expect(before['dry_run.guard.up{}']).toBe(1)
  })

  it('counts outcomes and failures, with no run id in any label', async () => {
    const { after } = outputOf<Out>(await run(policy))
    expect(after[effects('x', 'blocked')]).toBe(3)
    expect(after[effects('x', 'allowed')]).toBe(1)
    expect(after[effects('http', 'blocked')]).toBe(1)
    expect(after[failures('effect')]).toBe(1)
    expect(JSON.stringify(after)).not.toContain('a-run-id')
  })

  it('sees the guard down while the gate is closed', async () => {
    const finished = await run('version: 2')
    const { before, after } = outputOf<Out>(finished)
    expect(before['dry_run.guard.up{}']).toBe(0)
    expect(after[effects('x', 'blocked')]).toBeUndefined()
    expect(finished.stderr).toContain('DRY_GATE_CLOSED')
  })
})
