import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CLIENTS } from '../integrations/http/resources/clients.js'
import { dry } from '../integrations/http/resources/resource-run.js'
import { ROOT, scratchDirectory } from '../support/child.js'
import { type ResourceWorld, startResourceWorld } from '../support/resource-world.js'
import { readSpans } from '../support/spans.js'

let world: ResourceWorld
beforeAll(async () => {
  world = await startResourceWorld()
})
afterAll(() => world.stop())
beforeEach(() => world.reset({ '/c/7': { id: '7', name: 'Ada' } }))

describe.each(['node:http', 'fetch'] as const)('spans of reads that are overlaid: %s', (name) => {
  it('say by which writes; one that was not sent claims no answer of a peer', async () => {
    const file = path.join(scratchDirectory(), 'spans.jsonl')
    const { effects } = await dry({
      client: CLIENTS[name] as string,
      url: world.url,
      env: { SPANS_FILE: file },
      before: [path.join(ROOT, 'test/support/otel-preload.mjs')],
      policy: 'http: {preview: get}',
      body: `
        await send('GET', '/c/7')
        await send('PATCH', '/c/7', { body: { name: 'B' } })
        await send('GET', '/c/7')
        await send('DELETE', '/c/7')
        await send('GET', '/c/7')
        await new Promise((resolve) => setTimeout(resolve, 50))`,
    })
    const spans = readSpans(file)
    const ours = spans.filter(({ scope }) => scope === 'drytrace')
    const reads = ours.filter(({ attributes }) => attributes['dry_run.effect'] === 'read')
    expect(
      reads.map(({ attributes }) => [attributes['dry_run.hook.name'], attributes['dry_run.overlay.writes']]),
    ).toEqual([
      ['preview', undefined],
      [name === 'fetch' ? 'undici' : 'http', [expect.stringMatching(/^PATCH /)]],
      ['preview', undefined],
      [name === 'fetch' ? 'undici' : 'http', [expect.stringMatching(/^PATCH /), expect.stringMatching(/^DELETE /)]],
    ])
    const last = spans
      .filter(({ scope, attributes }) => scope !== 'drytrace' && attributes['http.request.method'] === 'GET')
      .at(-1)
    expect(last?.attributes).toMatchObject({ 'dry_run.effect': 'read', 'dry_run.outcome': 'allowed' })
    expect(last?.attributes).not.toHaveProperty('http.response.status_code')
    // The record of a read is that span.
    for (const { overlaidBy, spanId } of effects.filter((effect) => effect.overlaidBy !== undefined)) {
      expect(ours.map((span) => span.spanId)).toContain(spanId)
      for (const write of overlaidBy ?? []) expect(ours.map((span) => span.spanId)).toContain(write.spanId)
    }
  })
})
