import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'
import { dryAttributes, readSpans, type SpanLine } from '../support/spans.js'

const PRELOAD = path.join(ROOT, 'test/support/otel-preload.mjs')

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.log.length = 0
})

const source = (type: string) => `
${type === 'module' ? "import http from 'node:http'; import undici from 'undici'" : "const http = require('node:http'); const undici = require('undici')"}
const url = process.env.URL
const byHttp = (path) => new Promise((resolve, reject) => http.request(url + path, { method: 'POST' }, (r) => r.resume().on('end', () => resolve(r.statusCode))).on('error', reject).end('{}'))
const byFetch = (path) => fetch(url + path, { method: 'POST', body: '{}' }).then(async (r) => { await r.text(); return r.status })
const byUndici = (path) => undici.request(url + path, { method: 'POST', body: '{}' }).then(async (r) => { await r.body.text(); return r.statusCode })
async function main() {
  const { dryRun } = await import(${JSON.stringify(INDEX_URL)})
  const all = async (prefix) => [
    await byHttp('/' + prefix + '/http'), await byFetch('/' + prefix + '/fetch'), await byUndici('/' + prefix + '/undici'),
  ]
  const live = await all('live')
  const dry = await dryRun({ id: 'spans' }, async () => [...await all('dry'), ...await all('model')])
  console.log('OUT ' + JSON.stringify({ live, dry }))
}
main()
`

describe.each(['before', 'after'] as const)('instrumentation loaded %s drytrace/register', (order) => {
  it.each(['commonjs', 'module'] as const)('its spans say what became of the call: %s', async (type) => {
    const directory = scratchTree({
      'policy.yaml': `version: 1
rules:
  - {name: model, match: {system: http, host: 127.0.0.1, method: POST, path: /model/*}, effect: read, reason: inference}
`,
    })
    const file = path.join(directory, 'spans.jsonl')
    const journal = path.join(directory, 'journal')
    const finished = await runNode({
      register: true,
      type,
      [order]: [PRELOAD],
      source: source(type),
      env: {
        URL: world.url,
        SPANS_FILE: file,
        DRYTRACE_JOURNAL: journal,
        DRYTRACE_POLICY: path.join(directory, 'policy.yaml'),
      },
    })
    expect(outputOf(finished)).toEqual({ live: [200, 200, 200], dry: Array(6).fill(200) })
    expect(world.log.map((line) => line.split(' ')[1])).toEqual([
      ...['http', 'fetch', 'undici'].map((name) => `/live/${name}`),
      ...['http', 'fetch', 'undici'].map((name) => `/model/${name}`),
    ])

    const spans = readSpans(file)
    const ofLibrary = (prefix: string) =>
      spans.filter(({ scope, attributes }) => {
        return scope?.startsWith('@opentelemetry/instrumentation') && urlOf(attributes).includes(`/${prefix}/`)
      })
    for (const span of ofLibrary('live')) {
      expect(dryAttributes(span)).toEqual([])
      expect(span.attributes['http.response.status_code']).toBe(200)
    }
    expect(ofLibrary('live')).toHaveLength(3)

    expect(ofLibrary('dry')).toHaveLength(3)
    for (const span of ofLibrary('dry')) {
      expect(span.attributes, span.scope).toMatchObject({
        'dry_run.enabled': true,
        'dry_run.run.id': 'spans',
        'dry_run.effect': 'write',
        'dry_run.outcome': 'blocked',
      })
      expect(Object.keys(span.attributes).filter((name) => /^(http\.response\.|network\.peer\.)/.test(name))).toEqual(
        [],
      )
      expect(span.attributes).not.toHaveProperty(['dry_run.hook.name'])
    }
    for (const span of ofLibrary('model')) {
      expect(span.attributes, span.scope).toMatchObject({
        'dry_run.outcome': 'allowed',
        'dry_run.effect': 'read',
        'dry_run.rule': 'model',
        'http.response.status_code': 200,
      })
    }
    expect(ofLibrary('model')).toHaveLength(3)

    // One span of ours for each blocked call, with the ids that the journal has.
    const own = spans.filter(({ attributes }) => 'dry_run.hook.name' in attributes)
    const blocked = readEffects(journal).filter(({ outcome }) => outcome === 'blocked')
    expect(own.map(({ spanId, traceId }) => `${traceId} ${spanId}`).sort()).toEqual(
      blocked.map(({ spanId, traceId }) => `${traceId} ${spanId}`).sort(),
    )
    expect(blocked).toHaveLength(3)
  })
})

function urlOf(attributes: SpanLine['attributes']): string {
  return String(attributes['url.full'] ?? '')
}
