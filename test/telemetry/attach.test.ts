import { createRequire } from 'node:module'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT, runNode, scratchDirectory } from '../support/child.js'
import { INDEX_URL } from '../support/scratch.js'
import { dryAttributes, readSpans } from '../support/spans.js'

const PRELOAD = path.join(ROOT, 'test/support/otel-sdk-preload.mjs')

/** 1.x and 2.x are installed under names of their own (package.json), because 3.x is what we ship with. */
const SDKS = [
  ['3.x', '@opentelemetry/sdk-trace'],
  ['2.x', 'otel-sdk-2'],
  ['1.x', 'otel-sdk-1'],
].flatMap(([line, name]) => {
  try {
    return [[line, createRequire(import.meta.url).resolve(name as string)] as const]
  } catch {
    console.warn(`${name} is not installed: attaching to SDK ${line} is not tested`)
    return []
  }
})

const SOURCE = `
  import { context, propagation, trace } from '@opentelemetry/api'
  import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
  if (process.env.SDK_START === 'later') globalThis.startSdk()
  const tracer = trace.getTracer('app')
  const inSpan = (name, fn, of = tracer) => of.startActiveSpan(name, async (span) => { try { return await fn() } finally { span.end() } })
  const work = (kind) => inSpan(kind + ' root', async () => {
    await inSpan(kind + ' child', async () => { await new Promise((resolve) => setTimeout(resolve, 1)) })
    await inSpan(kind + ' early', () => effect({ system: 'x', action: 'create', target: 'y' }, () => {}), globalThis.earlyTracer)
  })
  await work('live')
  await dryRun({ id: 'attached', caseId: 'case-7' }, () => work('dry'))
  await work('live')
  // A dry run inside a trace that was not sampled.
  await inSpan('live outer', () => dryRun({ id: 'inner' }, () => inSpan('inner', async () => {})))
  // Baggage alone, with no run of ours.
  const baggage = propagation.createBaggage({ dry_run: { value: 'true' }, 'dry_run.run.id': { value: 'by-baggage' } })
  await context.with(propagation.setBaggage(context.active(), baggage), () => inSpan('by baggage', async () => {}))
  await work('live')
`

describe.each(SDKS)('a tracer provider on SDK %s', (_, sdk) => {
  describe.each(['before', 'after', 'later'] as const)('registered %s drytrace/register', (when) => {
    const run = async (ratio: number) => {
      const file = path.join(scratchDirectory(), 'spans.jsonl')
      const finished = await runNode({
        register: true,
        [when === 'before' ? 'before' : 'after']: [PRELOAD],
        source: SOURCE,
        env: { SDK_MODULE: sdk, SPANS_FILE: file, RATIO: String(ratio), SDK_START: when },
      })
      expect(finished.code, finished.stderr).toBe(0)
      return readSpans(file)
    }

    it('records every span of a dry run and none of a live one, with the sampler at 0', async () => {
      const spans = await run(0)
      expect(spans.map(({ name }) => name)).toEqual([
        'dry child',
        'blocked create y',
        'dry early',
        'dry root',
        'inner',
        'by baggage',
      ])
    })

    it('marks every span of a dry run and no live one, with the sampler at 1', async () => {
      const spans = await run(1)
      const live = spans.filter(({ name }) => name.startsWith('live'))
      expect(live).toHaveLength(10)
      for (const span of live) {
        expect(dryAttributes(span), span.name).toEqual([])
        expect(span.traceState ?? '').not.toContain('drytrace')
      }
      const dry = spans.filter(({ name }) => !name.startsWith('live'))
      for (const span of dry) {
        const id = span.name === 'inner' ? 'inner' : span.name === 'by baggage' ? 'by-baggage' : 'attached'
        expect(span.attributes).toMatchObject({ 'dry_run.enabled': true, 'dry_run.run.id': id })
        expect(span.traceState).toBe(`drytrace=1:${id}`)
        if (id === 'attached') expect(span.attributes['dry_run.case.id']).toBe('case-7')
      }

      const root = dry.find(({ name }) => name === 'dry root')
      expect(root?.attributes).toMatchObject({
        'dry_run.flag.carriers': ['api'],
        'dry_run.flag.conflict': false,
        'dry_run.guard.gaps': [],
        'dry_run.policy.hash': expect.stringMatching(/^[0-9a-f]{64}$/),
      })
      expect(root?.attributes['dry_run.guard.hooks']).toContain('http')
      const child = dry.find(({ name }) => name === 'dry child')
      expect(child?.attributes).not.toHaveProperty(['dry_run.guard.hooks'])
      expect(child?.traceId).toBe(root?.traceId)
    })
  })
})

describe('a provider that replaces another', () => {
  it.each(['before', 'after'] as const)('is attached to as well, after disable(): first one %s', async (order) => {
    const file = path.join(scratchDirectory(), 'spans.jsonl')
    const finished = await runNode({
      register: true,
      [order]: [PRELOAD],
      env: { SDK_MODULE: SDKS[0]?.[1], SPANS_FILE: file, RATIO: '0' },
      source: `
        import { context, propagation, trace } from '@opentelemetry/api'
        import { dryRun } from ${JSON.stringify(INDEX_URL)}
        for (const api of [trace, propagation, context]) api.disable()
        globalThis.startSdk()
        const headers = {}
        await dryRun({ id: 'second' }, () => trace.getTracer('app').startActiveSpan('dry', (span) => {
          propagation.inject(context.active(), headers)
          span.end()
        }))
        console.log(JSON.stringify(headers))
      `,
    })
    expect(readSpans(file).map(({ name, attributes }) => [name, attributes['dry_run.run.id']])).toEqual([
      ['dry', 'second'],
    ])
    expect(JSON.parse(finished.stdout)).toMatchObject({
      'x-dry-run': '1:second',
      baggage: expect.stringContaining('dry_run.run.id=second'),
    })
  })
})
