import { describe, expect, it } from 'vitest'
import { DryTraceError } from '../../src/errors.js'
import type { EffectKind } from '../../src/journal/record.js'
import { bodyOf, type RequestFacts } from '../../src/policy/http/request-facts.js'
import { parsePolicy } from '../../src/policy/parse.js'
import type { PolicyQuery } from '../../src/policy/policy.js'

interface Asked {
  readonly kind?: EffectKind
  readonly headers?: Record<string, string>
  readonly final?: boolean
  readonly search?: string
  readonly body?: string | null
  readonly type?: string
}

function query({ kind = 'write', headers = {}, final = true, search = '', body, type = 'application/json' }: Asked) {
  const facts: RequestFacts = {
    headers,
    headersFinal: final,
    query: new URLSearchParams(search),
    ...(body === undefined ? {} : { body: body === null ? null : bodyOf(body, type) }),
  }
  const method = kind === 'read' ? 'GET' : 'POST'
  const asked: PolicyQuery = { system: 'http', kind, match: { host: 'api.x', method, path: '/p' }, request: facts }
  return asked
}

function decide(rule: string, asked: Asked) {
  return parsePolicy(`version: 1\nrules:\n  - {name: r, ${rule}}\n`, 'p.yaml').decide(query(asked))
}

const LETS = (match: string) => `match: {host: api.x, ${match}}, effect: read`
const BLOCKS = (match: string) => `match: {host: api.x, ${match}}, effect: write`

describe('rules that look into the request', () => {
  it.each<[string, string, Asked, string]>([
    ['header', LETS('header: {X-Op: "get*"}'), { headers: { 'x-op': 'GetIt' } }, 'allow r'],
    ['another header', LETS('header: {X-Op: "get*"}'), { headers: { 'x-op': 'put' } }, 'block default.write'],
    ['two headers', LETS('header: {a: "1", b: "2"}'), { headers: { a: '1' } }, 'block default.write'],
    ['query', LETS('query: {op: "get|list"}'), { search: 'op=list' }, 'allow r'],
    ['query of a read', BLOCKS('query: {delete: "1"}'), { kind: 'read', search: 'delete=1' }, 'block r'],
    ['body', LETS('body: {a.0.b: "x"}'), { body: '{"a":[{"b":"x"}]}' }, 'allow r'],
    ['every item', LETS('body: {a.*.b: "x"}'), { body: '{"a":[{"b":"x"},{"b":"y"}]}' }, 'block default.write'],
    ['one item', BLOCKS('body: {a.*.b: "y"}'), { kind: 'read', body: '{"a":[{"b":"x"},{"b":"y"}]}' }, 'block r'],
    ['form', LETS('body: {op: get}'), { body: 'op=get', type: 'application/x-www-form-urlencoded' }, 'allow r'],
    [
      'form field twice',
      LETS('body: {op: get}'),
      { body: 'op=get&op=put', type: 'application/x-www-form-urlencoded' },
      'block default.write',
    ],
    ['own fields only', LETS('body: {constructor.name: "Object"}'), { body: '{}' }, 'block default.write'],
    ['jsonrpc', LETS('jsonrpc: "get*"'), { body: '{"method":"getAll"}' }, 'allow r'],
    ['jsonrpc batch', LETS('jsonrpc: "get*"'), { body: '[{"method":"get"},{"method":"put"}]' }, 'block default.write'],
    ['aws target', LETS('aws: "Get*"'), { headers: { 'x-amz-target': 'S_1.GetItem' } }, 'allow r'],
    ['aws form', LETS('aws: "Get*"'), { body: 'Action=GetX', type: 'application/x-www-form-urlencoded' }, 'allow r'],
    [
      'aws, two actions',
      LETS('aws: "Get*"'),
      { search: 'Action=GetX', body: 'Action=PutX', type: 'application/x-www-form-urlencoded' },
      'block default.write',
    ],
  ])('%s', (_, rule, asked, expected) => {
    const { verdict, rule: by } = decide(rule, asked)
    expect(`${verdict} ${by}`).toBe(expected)
  })

  it('what has not been seen defers the decision, and blocks until it is taken', () => {
    for (const match of ['body: {a: b}', 'jsonrpc: get', 'aws: Get', 'graphql: query']) {
      expect(decide(LETS(match), {}), match).toMatchObject({
        verdict: 'block',
        deferred: true,
        kind: 'unknown',
        rule: 'r',
      })
    }
  })

  it('what cannot be read is unknown', () => {
    for (const asked of [{ body: null }, { body: 'not json' }]) {
      const ruling = decide(LETS('body: {a: b}'), asked)
      expect(ruling).toMatchObject({ verdict: 'block', kind: 'unknown', rule: 'r' })
      expect(ruling.deferred).toBeUndefined()
    }
  })

  it('only rules that fit host, method and path defer', () => {
    const rule = 'match: {host: other.x, body: {a: b}}, effect: read'
    expect(decide(rule, {}).deferred).toBeUndefined()
    expect(decide(rule, {}).rule).toBe('default.write')
  })

  it('a header that may still be set defers a rule that blocks, and does not hold back one that lets pass', () => {
    const final = false
    expect(decide(BLOCKS('header: {x: "1"}'), { kind: 'read', final })).toMatchObject({
      verdict: 'block',
      deferred: true,
    })
    expect(decide(BLOCKS('header: {x: "1"}'), { kind: 'read' })).toMatchObject({ verdict: 'allow' })
    expect(decide(LETS('header: {x: "1"}'), { final })).toMatchObject({ verdict: 'block', rule: 'default.write' })
  })

  it('a client that cannot show its requests is blocked where a rule might', () => {
    const rules = (rule: string) => parsePolicy(`version: 1\nrules:\n  - {name: r, ${rule}}\n`, 'p.yaml')
    const blind: PolicyQuery = { system: 'http', kind: 'read', match: { host: 'api.x', method: 'GET', path: '/' } }
    expect(rules(BLOCKS('header: {x: "1"}')).decide(blind)).toMatchObject({ verdict: 'block', rule: 'r' })
    expect(rules(LETS('header: {x: "1"}')).decide({ ...blind, kind: 'write' })).toMatchObject({ rule: 'default.write' })
    expect(rules(LETS('header: {x: "1"}')).decide(blind)).toMatchObject({ rule: 'default.read' })
  })

  it('a rule corrects what a call does', () => {
    expect(decide('match: {host: api.x, path: /p}, action: send', {})).toMatchObject({
      verdict: 'block',
      action: 'send',
    })
  })
})

it.each([
  ['graphql: quarry', /p\.yaml:3: rule "r": rules\.0\.match\.graphql: query, mutation, subscription or unknown/],
  ['header: x', /p\.yaml:3: rule "r": rules\.0\.match\.header/],
  ['body: {a: 1}', /p\.yaml:3: rule "r": rules\.0\.match\.body\.a/],
  ['system: smtp, jsonrpc: x', /p\.yaml:3: rule "r": rules\.0\.match\.jsonrpc: jsonrpc looks into HTTP requests/],
])('a mistake in %s is named with file, line and rule', (match, expected) => {
  try {
    parsePolicy(`version: 1\nrules:\n  - {name: r, match: {host: api.x, ${match}}, effect: read}\n`, 'p.yaml')
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(DryTraceError)
    expect((error as Error).message).toMatch(expected)
  }
})

it('host is required', () => {
  expect(() =>
    parsePolicy('version: 1\nrules:\n  - {name: r, match: {header: {a: b}}, effect: write}\n', 'p.yaml'),
  ).toThrow(/p\.yaml:3: rule "r": .*host is required/)
})
