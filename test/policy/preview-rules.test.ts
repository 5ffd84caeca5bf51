import { describe, expect, it } from 'vitest'
import { parsePolicy } from '../../src/policy/parse.js'

const rule = (fields: string) => parsePolicy(`version: 1\nrules:\n  - {name: r, ${fields}}\n`, 'p.yaml')

describe('preview in a rule', () => {
  it.each([
    ['match: {system: postgresql}, preview: get', 'preview is for HTTP rules'],
    ['match: {host: a.example}, preview: get, effect: read', 'preview: get is for what is blocked'],
    ['match: {action: update}, preview: get', 'host is required'],
    ['match: {host: a.example}, preview: select', 'preview'],
  ])('%s is refused', (fields, message) => {
    expect(() => rule(fields)).toThrow(message)
  })

  it('is enough for a rule to say, and blocks like no rule', () => {
    const asked = {
      system: 'http',
      kind: 'write',
      match: { host: 'a.example', method: 'PATCH', path: '/c/7' },
    } as const
    expect(rule('match: {host: a.example}, preview: get').decide(asked)).toMatchObject({
      verdict: 'block',
      kind: 'write',
      preview: 'get',
    })
  })
})
