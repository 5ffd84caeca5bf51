import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import type * as Drytrace from '../../src/index.js'
import { ROOT } from '../support/child.js'
import { INDEX_URL, scratchTree } from '../support/scratch.js'

const { loadPolicy } = (await import(/* @vite-ignore */ INDEX_URL)) as typeof Drytrace
const text = readFileSync(path.join(ROOT, 'docs/policy.md'), 'utf8')
const openapi = readFileSync(path.join(ROOT, 'test/policy/fixtures/crm-3.0.openapi.yaml'), 'utf8')

it.each([...text.matchAll(/```(yaml|js)\n(.*?)```/gs)].map(([, type, source]) => [type, source]))(
  'an example of the docs is a valid policy (%s)',
  (type, source) => {
    const name = type === 'js' ? 'drytrace.config.mjs' : 'drytrace.config.yaml'
    const files = { [name]: source ?? '', 'answers/invoice.pdf': '%PDF-1.7', 'crm.openapi.yaml': openapi }
    expect(loadPolicy(path.join(scratchTree(files), name)).rules).toBeGreaterThan(0)
  },
)

it('the docs name every field of the schema', () => {
  const schema = JSON.parse(readFileSync(path.join(ROOT, 'policy.schema.json'), 'utf8')) as object
  const fields = new Set<string>()
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    const { properties } = value as { properties?: object }
    for (const name of Object.keys(properties ?? {})) fields.add(name)
    Object.values(value).forEach(visit)
  }
  visit(schema)
  expect([...fields].filter((name) => !text.includes(`\`${name}\``))).toEqual([])
})
