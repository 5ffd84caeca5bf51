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

  const S11 = 'http://schemas.xmlsoap.org/soap/envelope/'
  const envelope = (body: string, header = '', ns = S11) =>
    `<?xml version="1.0"?><s:Envelope xmlns:s="${ns}"><s:Header>${header}</s:Header><s:Body>${body}</s:Body></s:Envelope>`
  const GET = '<m:GetContact xmlns:m="urn:crm"><id>1</id></m:GetContact>'
  const DELETE = '<DeleteContact xmlns="urn:crm"/>'
  const wsa = (action: string) => `<a:Action xmlns:a="http://www.w3.org/2005/08/addressing">${action}</a:Action>`
  const action = (value: string) => ({ soapaction: value, 'content-type': 'text/xml' })
  const soap12 = (value: string) => ({ 'content-type': `application/soap+xml; charset=utf-8; action="${value}"` })

  it.each<[string, string, Asked, string]>([
    ['the header', LETS('soap: "Get*"'), { headers: action('"urn:crm#GetContact"'), body: envelope(GET) }, 'allow r'],
    [
      'the whole action',
      LETS('soap: "urn:crm#GetContact|GetContact"'),
      { headers: action('urn:crm#GetContact'), body: envelope(GET) },
      'allow r',
    ],
    [
      'the content type',
      LETS('soap: "Get*"'),
      { headers: soap12('http://crm/Get'), body: envelope(GET, '', 'http://www.w3.org/2003/05/soap-envelope') },
      'allow r',
    ],
    ['the body alone', LETS('soap: GetContact'), { headers: action('""'), body: envelope(GET) }, 'allow r'],
    ['an empty body of an envelope', LETS('soap: "Get*"'), { headers: action('Get'), body: envelope('') }, 'allow r'],
    [
      'another action',
      LETS('soap: "Get*"'),
      { headers: action('Delete'), body: envelope(DELETE) },
      'block default.write',
    ],
    [
      'a header that says something else',
      LETS('soap: "Get*"'),
      { headers: action('Get'), body: envelope(DELETE) },
      'block default.write',
    ],
    [
      'a body that says something else',
      LETS('soap: "Get*"'),
      { headers: action('Delete'), body: envelope(GET) },
      'block default.write',
    ],
    [
      'an addressing header that says something else',
      LETS('soap: "Get*"'),
      { headers: action('Get'), body: envelope(GET, wsa('urn:Delete')) },
      'block default.write',
    ],
    [
      'an addressing header that says the same',
      LETS('soap: "Get*"'),
      { headers: action('Get'), body: envelope(GET, wsa('<![CDATA[urn:Get]]>')) },
      'allow r',
    ],
    [
      'two elements in the body',
      LETS('soap: "Get*"'),
      { headers: action(''), body: envelope(GET + DELETE) },
      'block default.write',
    ],
    [
      'two headers',
      LETS('soap: "Get*"'),
      { headers: action('"Get", "Delete"'), body: envelope(GET) },
      'block default.write',
    ],
    [
      'two places for an action',
      LETS('soap: "Get*"'),
      { headers: { ...soap12('Get'), soapaction: 'Delete' }, body: envelope(GET) },
      'block default.write',
    ],
    [
      'malformed XML',
      LETS('soap: "Get*"'),
      { headers: action('Get'), body: envelope(GET).slice(0, -3) },
      'block default.write',
    ],
    [
      'a document type',
      LETS('soap: "Get*"'),
      { headers: action('Get'), body: `<!DOCTYPE x [<!ENTITY e "y">]>${envelope(GET).slice(21)}` },
      'block default.write',
    ],
    [
      'another document',
      LETS('soap: "**"'),
      { headers: action('Get'), body: '<Envelope><Body><Get/></Body></Envelope>' },
      'block default.write',
    ],
    [
      'an envelope of no SOAP',
      LETS('soap: "**"'),
      { headers: action('Get'), body: envelope(GET, '', 'urn:other') },
      'block default.write',
    ],
    ['what is no XML', LETS('soap: "**"'), { headers: action('Get'), body: '{"a":1}' }, 'block default.write'],
    ['a body that cannot be read', LETS('soap: "**"'), { headers: action('Get'), body: null }, 'block r'],
    ['block: the header', BLOCKS('soap: "Delete*"'), { headers: action('DeleteContact') }, 'block r'],
    [
      'block: the body, whatever the header says',
      BLOCKS('soap: "Delete*"'),
      { headers: action('Get'), body: envelope(GET + DELETE) },
      'block r',
    ],
    [
      'block: the addressing header',
      BLOCKS('soap: "Delete*"'),
      { body: envelope(GET, wsa('urn:Delete')), type: 'text/xml' },
      'block r',
    ],
    ['block: XML that cannot be read', BLOCKS('soap: "Delete*"'), { body: '<a>', type: 'text/xml' }, 'block r'],
    [
      'block: another action',
      BLOCKS('soap: "Delete*"'),
      { headers: action('Get'), body: envelope(GET) },
      'block default.write',
    ],
    ['block: no SOAP at all', BLOCKS('soap: "Delete*"'), { body: '{}' }, 'block default.write'],
    ['block: a read', BLOCKS('soap: "Delete*"'), { kind: 'read' }, 'allow default.read'],
  ])('SOAP by %s', (_, rule, asked, expected) => {
    const { verdict, rule: by } = decide(rule, asked)
    expect(`${verdict} ${by}`).toBe(expected)
  })

  it('what has not been seen defers the decision, and blocks until it is taken', () => {
    for (const match of ['body: {a: b}', 'jsonrpc: get', 'aws: Get', 'graphql: query', 'soap: Get']) {
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
  [
    'system: smtp, soap: x',
    /p\.yaml:3: rule "r": rules\.0\.match\.soap: soap looks into HTTP requests: system must be http/,
  ],
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

it('host is required, whatever the rule looks at', () => {
  expect(() => parsePolicy('version: 1\nrules:\n  - {name: r, match: {soap: Get}, effect: read}\n', 'p.yaml')).toThrow(
    /p\.yaml:3: rule "r": .*host is required/,
  )
  expect(() =>
    parsePolicy('version: 1\nrules:\n  - {name: r, match: {header: {a: b}}, effect: write}\n', 'p.yaml'),
  ).toThrow(/p\.yaml:3: rule "r": .*host is required/)
})
