import path from 'node:path'
import { expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../support/child.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL } from '../support/scratch.js'

it.each([
  ['no SDK at all', {}],
  ['an SDK that is switched off', { OTEL_SDK_DISABLED: 'true' }],
])('a run is complete on disk with %s, and its effects belong together', async (_, env) => {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: 'OTEL_SDK_DISABLED' in env ? 'otel' : true,
    env: { DRYTRACE_JOURNAL: journal, ...env },
    source: `
      import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
      const write = (target) => effect({ system: 'x', action: 'create', target }, () => { throw new Error('left') })
      await Promise.all(['one', 'two'].map((id) => dryRun({ id }, async () => {
        await write('a')
        await new Promise((resolve) => setTimeout(resolve, 5))
        await fetch('http://192.0.2.1/b', { method: 'POST' })
        await write('c')
      })))
    `,
  })
  expect(finished.code, finished.stderr).toBe(0)
  const effects = readEffects(journal)
  for (const id of ['one', 'two']) {
    const mine = effects.filter(({ runId }) => runId === id)
    expect(mine.map(({ target }) => target.replace(/.*\//, ''))).toEqual(['a', 'b', 'c'])
    expect(new Set(mine.map(({ traceId }) => traceId)).size).toBe(1)
    expect(mine[0]?.traceId).toMatch(/^(?!0{32})[0-9a-f]{32}$/)
    expect(new Set(mine.map(({ spanId }) => spanId)).size).toBe(3)
    for (const { spanId } of mine) expect(spanId).toMatch(/^(?!0{16})[0-9a-f]{16}$/)
  }
  expect(new Set(effects.map(({ traceId }) => traceId)).size).toBe(2)
  expect(readRecords(journal).filter(({ type }) => type === 'run_end')).toHaveLength(2)
})
