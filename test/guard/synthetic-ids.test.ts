import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { findSyntheticIds, syntheticId } from '../../src/guard/synthetic-ids.js'
import type { ProblemRecord } from '../../src/journal/record.js'
import { createRun } from '../../src/run/run.js'
import { runNode } from '../support/child.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL, scratchTree } from '../support/scratch.js'

const newRun = () => createRun({ entry: 'test', carriers: [] })

describe('a made-up id', () => {
  it('fits an int4 and lies past what a sequence hands out', () => {
    const run = newRun()
    const ids = Array.from({ length: 1_000 }, () => Number(syntheticId(run, 'integer')))
    expect(Math.min(...ids)).toBeGreaterThanOrEqual(2_000_000_000)
    expect(Math.max(...ids)).toBeLessThanOrEqual(2_147_483_647)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('is a valid UUID that says what it is', () => {
    const run = newRun()
    const ids = Array.from({ length: 1_000 }, () => syntheticId(run, 'uuid'))
    for (const id of ids) expect(id).toMatch(/^d27ace[0-9a-f]{2}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('is a string that says what it is', () => {
    expect(syntheticId(newRun(), 'string')).toMatch(/^dry_[a-z0-9]+_\d+$/)
  })

  it('is found again anywhere in a text, but only by its own run', () => {
    const run = newRun()
    for (const kind of ['integer', 'uuid', 'string'] as const) {
      const id = syntheticId(run, kind)
      expect(findSyntheticIds(run, `{"contact":"${id}","again":${JSON.stringify(id)}}`)).toEqual([id])
      expect(findSyntheticIds(run, `/v1/contacts/${id}/notes`)).toEqual([id])
      expect(findSyntheticIds(run, `x${id}9`)).toEqual([])
      expect(findSyntheticIds(newRun(), id)).toEqual([])
    }
    // Real values of the same shape are not ours.
    expect(findSyntheticIds(run, '2000000000 d27ace00-0000-4000-8000-000000000000 dry_abc_1')).toEqual([])
  })
})

describe('a made-up id used in a later call', () => {
  it('is reported, wherever it shows up', async () => {
    const directory = scratchTree({
      'policy.yaml': `version: 1
rules:
  - {name: crm, match: {system: http, host: crm.example, path: /v1/contacts}, respond: {status: 201, json: {id: "{{syntheticId}}"}}}
`,
    })
    const journal = path.join(directory, 'journal')
    const finished = await runNode({
      register: true,
      env: { DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
      source: `
        import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
        const post = (path, body) => fetch('http://crm.example' + path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
        await dryRun({ id: 'reuse' }, async () => {
          const { id } = await (await post('/v1/contacts', { name: 'x' })).json()
          console.log(id)
          await post('/v1/contacts/' + id + '/notes', {})
          await post('/v1/links', { contact: id })
          await effect({ system: 'fs', action: 'create', target: 'export', payload: { of: id } }, () => {})
          await post('/v1/links', { contact: 'real-1' })
        })
      `,
    })
    const id = finished.stdout.trim()
    expect(id, finished.stderr).toMatch(/^dry_/)
    const effects = readEffects(journal)
    expect(effects.map(({ syntheticUsed }) => syntheticUsed)).toEqual([false, true, true, true, false])
    expect(effects[0]?.syntheticIds).toEqual([id])
    const problems = readRecords(journal).filter(({ type }) => type === 'problem') as ProblemRecord[]
    expect(problems.map(({ kind }) => kind)).toEqual(['synthetic_used', 'synthetic_used', 'synthetic_used'])
    for (const { message } of problems) expect(message).toContain(id)
  })
})
