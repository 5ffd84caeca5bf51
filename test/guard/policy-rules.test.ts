import { describe, expect, it } from 'vitest'
import { parsePolicy } from '../../src/policy/parse.js'
import type { PolicyQuery } from '../../src/policy/policy.js'

const policyOf = (rules: string, rest = '') => parsePolicy(`version: 1\n${rest}\nrules:\n${rules}`, 'policy.yaml')
const http = (host: string, method = 'POST', path = '/', port = '443'): PolicyQuery => ({
  system: 'http',
  kind: method === 'GET' ? 'read' : 'write',
  ...(method === 'GET' ? {} : { action: 'create' as const }),
  match: { host, method, path, port },
})
const sql = (relation: string): PolicyQuery => ({
  system: 'postgresql',
  kind: 'write',
  action: 'update',
  match: { relation, operation: 'UPDATE' },
})

describe('without rules', () => {
  const policy = parsePolicy('version: 1', 'policy.yaml')

  it('reads pass, writes and what cannot be told apart from one are blocked', () => {
    expect(policy.decide(http('x', 'GET'))).toMatchObject({ verdict: 'allow', rule: 'default.read' })
    expect(policy.decide(http('x'))).toMatchObject({ verdict: 'block', rule: 'default.write', onBlocked: 'simulate' })
    expect(policy.decide({ ...http('x'), kind: 'unknown' })).toMatchObject({
      verdict: 'block',
      rule: 'default.unknown',
    })
    expect(policy.decide({ system: 'net', kind: 'unknown', match: {} })).toMatchObject({
      verdict: 'block',
      rule: 'fence',
    })
  })

  it('model inference passes by a built-in rule that can be switched off', () => {
    const call = http('api.openai.com', 'POST', '/v1/responses')
    expect(policy.decide(call)).toMatchObject({ kind: 'read', verdict: 'allow', rule: 'builtin.llm.openai.responses' })
    expect(policy.decide(http('api.openai.com', 'POST', '/v1/files'))).toMatchObject({ verdict: 'block' })
    expect(policy.decide(http('api.openai.com.evil.example', 'POST', '/v1/responses'))).toMatchObject({
      verdict: 'block',
    })
    const without = parsePolicy('version: 1\ndisable: [llm.openai.responses]', 'policy.yaml')
    expect(without.decide(call)).toMatchObject({ verdict: 'block', rule: 'default.write' })
  })
})

describe('rules', () => {
  it('the first match wins, and comes before the built-in ones', () => {
    const policy = policyOf(`
  - {name: one, match: {system: http, host: a.example, path: /special}, onBlocked: throw}
  - {name: two, match: {system: http, host: "*.example"}, effect: read, reason: r}
  - {name: three, match: {system: http, host: a.example}, verdict: block}
  - {name: no-llm, match: {system: http, host: api.openai.com}, verdict: block}
`)
    expect(policy.decide(http('a.example', 'POST', '/special'))).toMatchObject({
      rule: 'one',
      verdict: 'block',
      onBlocked: 'throw',
    })
    expect(policy.decide(http('a.example'))).toMatchObject({ rule: 'two', verdict: 'allow', kind: 'read' })
    expect(policy.decide(http('api.openai.com', 'POST', '/v1/responses'))).toMatchObject({
      rule: 'no-llm',
      verdict: 'block',
    })
  })

  it('an allow rule holds to the end of its last day, then falls through to the next', () => {
    const policy = policyOf(`
  - {name: until, match: {relation: app.views}, verdict: allow, owner: growth, reason: counter, expires: 2027-01-31}
  - {name: after, match: {relation: app.views}, onBlocked: throw}
`)
    expect(policy.decide(sql('app.views'), Date.parse('2027-01-31T23:59:59Z'))).toMatchObject({
      verdict: 'allow',
      rule: 'until',
      reason: 'counter (owner: growth)',
    })
    expect(policy.decide(sql('app.views'), Date.parse('2027-02-01T00:00:00Z'))).toMatchObject({
      verdict: 'block',
      rule: 'after',
    })
  })

  it('an expired allow rule is named where the default decides', () => {
    const policy = policyOf(
      '  - {name: until, match: {relation: app.views}, verdict: allow, owner: o, reason: r, expires: 2020-01-31}',
    )
    const ruling = policy.decide(sql('app.views'))
    expect(ruling).toMatchObject({ verdict: 'block', rule: 'default.write' })
    expect(ruling.reason).toContain('rule until matched but expired on 2020-01-31')
  })

  it('a read can be made a write, and then is blocked', () => {
    const policy = policyOf(
      '  - {name: export, match: {system: http, host: crm.example, path: /export/**}, effect: write}',
    )
    expect(policy.decide(http('crm.example', 'GET', '/export/a/b'))).toMatchObject({ kind: 'write', verdict: 'block' })
    expect(policy.decide(http('crm.example', 'GET', '/other'))).toMatchObject({ verdict: 'allow' })
  })

  it.each(['forward', 'shadow'])(
    '%s needs a peer that proved it runs dry: blocked until then, reads pass',
    (verdict) => {
      const policy = policyOf(`  - {name: internal, match: {system: http, host: "*.internal"}, verdict: ${verdict}}`)
      expect(policy.decide(http('a.internal'))).toMatchObject({ verdict: 'block', rule: 'internal' })
      expect(policy.decide(http('a.internal', 'GET'))).toMatchObject({ verdict: 'allow' })
      expect(policy.forwards('a.internal')).toBe(verdict === 'forward')
      expect(policy.forwards('a.elsewhere')).toBe(false)
    },
  )

  it('a rule with no action in it matches an effect without one; a rule with one does not', () => {
    const policy = policyOf('  - {name: ddl, match: {system: postgresql, action: ddl}, onBlocked: throw}')
    expect(policy.decide({ system: 'postgresql', kind: 'unknown', match: {} }).rule).toBe('default.unknown')
    expect(policy.decide({ system: 'postgresql', kind: 'write', action: 'ddl', match: {} }).rule).toBe('ddl')
  })
})

describe('a host is not asked of rules that cannot let an HTTP call through', () => {
  it.each([
    '{name: a, match: {action: charge}, onBlocked: throw}',
    '{name: a, match: {system: "*"}, onBlocked: throw}',
    '{name: a, match: {relation: views}, effect: read}',
    '{name: a, match: {system: smtp, action: send}, effect: read}',
  ])('%s', (rule) => {
    expect(() => policyOf(`  - ${rule}`)).not.toThrow()
  })
})

describe('patterns', () => {
  it.each<[string, PolicyQuery, boolean]>([
    ['{system: http, host: crm.example}', http('crm.example'), true],
    ['{system: http, host: crm.example}', http('CRM.Example'), true],
    ['{system: http, host: crm.example}', http('crmxexample'), false],
    ['{system: http, host: crm.example}', http('evil-crm.example'), false],
    ['{system: http, host: crm.example}', http('crm.example.evil'), false],
    ['{system: http, host: "*.example"}', http('a.example'), true],
    ['{system: http, host: "*.example"}', http('a.b.example'), false],
    ['{system: http, host: "**.example"}', http('a.b.example'), true],
    ['{system: http, host: "a.example|b.example"}', http('b.example'), true],
    ['{system: http, host: "a.example|b.example"}', http('a.example|b.example'), false],
    ['{system: http, host: "crm.example:8443"}', http('crm.example', 'POST', '/', '8443'), true],
    ['{system: http, host: "crm.example:8443"}', http('crm.example', 'POST', '/', '443'), false],
    ['{system: http, host: crm.example}', http('crm.example', 'POST', '/', '8443'), true],
    ['{system: http, host: x, method: "PUT|PATCH"}', http('x', 'PATCH'), true],
    ['{system: http, host: x, method: "PUT|PATCH"}', http('x', 'POST'), false],
    ['{system: http, host: x, path: /v1/*}', http('x', 'POST', '/v1/a'), true],
    ['{system: http, host: x, path: /v1/*}', http('x', 'POST', '/v1/a/b'), false],
    ['{system: http, host: x, path: /v1/**}', http('x', 'POST', '/v1/a/b'), true],
    ['{system: http, host: x, path: /v1/**}', http('x', 'POST', '/v1'), false],
    ['{system: http, host: x, path: "/a.b+(c)"}', http('x', 'POST', '/a.b+(c)'), true],
    ['{system: http, host: x, path: "/a.b+(c)"}', http('x', 'POST', '/aXb+(c)'), false],
    ['{system: http, host: x, path: /v1/a}', http('x', 'POST', '/v1/a\n/b'), false],
    ['{relation: app.views}', sql('app.views'), true],
    ['{relation: views}', sql('app.views'), true],
    ['{relation: views}', sql('other.views'), true],
    ['{relation: app.views}', sql('views'), false],
    ['{relation: "app.*"}', sql('app.views'), true],
    ['{relation: iews}', sql('app.views'), false],
    ['{destination: followups}', { system: 'pg-boss', kind: 'write', match: {} }, false],
    [
      '{system: "pg*", destination: "follow*"}',
      { system: 'pg-boss', kind: 'write', match: { destination: 'followups' } },
      true,
    ],
  ])('%s on %o', (match, query, matches) => {
    const policy = policyOf(`  - {name: it, match: ${match}, onBlocked: throw}`)
    expect(policy.decide(query).rule === 'it').toBe(matches)
  })
})
