import { readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../../support/child.js'
import { dryHttp, type Posted } from '../../support/dry-http.js'
import { type HttpWorld, startHttpWorld } from '../../support/http-world.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

const rule = (respond: string, path = '/**') =>
  `{name: r, match: {system: http, host: crm.example, path: "${path}"}, respond: ${respond}}`
const policy = (...rules: string[]) => `version: 1\nrules:\n${rules.map((each) => `  - ${each}\n`).join('')}`

describe('a rule answers', () => {
  it('with a template, in the body and in headers, and its ids are on record', async () => {
    const respond =
      '{status: 201, headers: {Location: "/c/{{request.name}}"}, json: {id: "{{syntheticId}}", uuid: "{{syntheticId.uuid}}", n: "{{syntheticId.integer}}", name: "{{request.contact.name}}", hello: "hi {{ request.name }}", none: "{{request.nothing}}"}}'
    const { out, effects } = await dryHttp<Posted>(
      { 'policy.yaml': policy(rule(respond)) },
      `return post('https://crm.example/c', { name: 'ada\\r\\nx-evil: 1', contact: { name: ['A'] } })`,
    )
    const body = JSON.parse(out.body) as Record<string, unknown>
    expect(body).toEqual({
      id: expect.stringMatching(/^dry_/),
      uuid: expect.stringMatching(/^d27ace/),
      n: expect.any(Number),
      name: ['A'],
      hello: 'hi ada\r\nx-evil: 1',
      none: null,
    })
    expect(out).toMatchObject({ status: 201, headers: { location: '/c/adax-evil: 1', 'x-dry-run': 'blocked' } })
    expect(out.headers).not.toHaveProperty('x-evil')
    expect(effects).toMatchObject([{ syntheticIds: [body['id'], body['uuid'], String(body['n'])], outcome: 'blocked' }])
  })

  it('with a file, whose type goes by its name unless the rule says otherwise', async () => {
    const bytes = '{"id": "{{syntheticId}}"}\n'
    const { out, effects } = await dryHttp<Posted[]>(
      {
        'policy.yaml': policy(
          rule('{file: answers/c.json, status: 201}', '/json').replace('name: r', 'name: a'),
          rule('{file: answers/c.json, headers: {Content-Type: application/vnd.crm+json}}', '/own').replace(
            'name: r',
            'name: b',
          ),
          rule('{file: answers/c.blob}', '/blob').replace('name: r', 'name: c'),
        ),
        'answers/c.json': bytes,
        'answers/c.blob': bytes,
      },
      `return [await post('https://crm.example/json', {}), await post('https://crm.example/own', {}), await post('https://crm.example/blob', {})]`,
    )
    expect(out.map(({ status, headers, body }) => [status, headers['content-type'], body])).toEqual([
      [201, 'application/json', bytes],
      [200, 'application/vnd.crm+json', bytes],
      [200, 'application/octet-stream', bytes],
    ])
    expect(effects.map(({ outcome, syntheticIds }) => [outcome, syntheticIds])).toEqual(Array(3).fill(['blocked', []]))
  })
})

it('an OpenAPI document answers, its ids are recognised later, and what it does not know is answered by default', async () => {
  const document = readFileSync(path.join(ROOT, 'test/policy/fixtures/crm-3.0.openapi.yaml'), 'utf8')
  const { out, effects } = await dryHttp<[Posted, Posted, Posted]>(
    { 'policy.yaml': policy(rule('{openapi: api/crm.yaml}')), 'api/crm.yaml': document },
    `const made = await post('https://crm.example/api/v1/contacts', { name: 'Ada' })
     const changed = await post('https://crm.example/api/v1/contacts/' + JSON.parse(made.body).id, { name: 'Bob' }, undefined, 'PATCH')
     return [made, changed, await post('https://crm.example/api/v1/nowhere', {})]`,
  )
  const [made, changed, unknown] = out
  const contact = JSON.parse(made.body) as Record<string, unknown>
  expect([made.status, made.headers['x-dry-run'], contact['name'], contact['id']]).toEqual([
    201,
    'blocked',
    'Ada',
    expect.stringMatching(/^dry_/),
  ])
  expect(JSON.parse(changed.body)).toMatchObject({ id: contact['id'], name: 'Bob' })
  expect([unknown.status, unknown.body, unknown.headers['x-dry-run']]).toEqual([200, '{}', 'blocked'])
  const parent = contact['parent'] as { id: number }
  expect(effects[0]?.syntheticIds).toEqual([
    contact['id'],
    String(contact['accountId']),
    contact['ref'],
    String(parent.id),
  ])
  expect(effects.map(({ outcome, fidelity, note, syntheticUsed }) => [outcome, fidelity, note, syntheticUsed])).toEqual(
    [
      ['blocked', 'plausible', null, false],
      ['blocked', 'plausible', null, true],
      ['blocked', 'empty', 'the OpenAPI document has no operation POST /api/v1/nowhere: answered by default', false],
    ],
  )
})

const module = (respond: string) => `import http from 'node:http'
export default {
  version: 1,
  rules: [
    { name: 'fn', match: { system: 'http', host: 'crm.example' }, respond: ${respond} },
  ],
}
`

describe('a responder function', () => {
  it('sees the request and answers it, sync or async, over http, fetch and http2', async () => {
    const { out, effects } = await dryHttp<[Posted, Posted, Posted, unknown, unknown]>(
      {
        'policy.mjs': module(
          `async (request, ids) => request.json === undefined
            ? { text: request.method + ' ' + request.url + ' ' + request.text + ' ' + request.headers['x-a'] }
            : { status: 201, headers: { 'x-own': '1' }, json: { id: ids.string(), got: request.json } }`,
        ),
      },
      `const json = await post('https://crm.example/c?x=1', { name: 'ada' })
       const text = await post('https://crm.example:8443/c?x=%20y', 'hello', { 'x-a': 'b' })
       const large = await post('https://crm.example/c', 'x'.repeat(2_000_000), { 'x-a': 'b' })
       const byHttp = await new Promise((resolve, reject) => http.request('http://crm.example/h', { method: 'PUT' }, async (response) => {
         let body = ''
         for await (const chunk of response) body += chunk
         resolve([response.statusCode, body])
       }).on('error', reject).end('{"a":1}'))
       const session = http2.connect('http://crm.example', { createConnection: () => new Duplex({ read() {}, write: (_, __, done) => done() }) })
       session.on('error', () => {})
       const stream = session.request({ ':method': 'POST', ':path': '/h2', 'content-type': 'application/json' })
       stream.end('{"b":2}')
       const byHttp2 = await new Promise((resolve, reject) => stream.on('error', reject).once('response', async (headers) => {
         let body = ''
         for await (const chunk of stream) body += chunk
         resolve([headers[':status'], body])
       }))
       session.destroy()
       return [json, text, large, byHttp, byHttp2]`,
    )
    const [json, text, large, byHttp, byHttp2] = out
    const { id, got } = JSON.parse(json.body) as { id: string; got: unknown }
    expect([json.status, json.headers['x-own'], json.headers['x-dry-run'], got]).toEqual([
      201,
      '1',
      'blocked',
      { name: 'ada' },
    ])
    expect(text.body).toBe('POST https://crm.example:8443/c?x=%20y hello b')
    expect(large.body).toBe('POST https://crm.example/c null b')
    expect(byHttp).toEqual([201, expect.stringContaining('"got":{"a":1}')])
    expect(byHttp2).toEqual([201, expect.stringContaining('"got":{"b":2}')])
    expect(effects.map(({ outcome, rule, fidelity }) => `${outcome} ${rule} ${fidelity}`)).toEqual(
      Array(5).fill('blocked fn plausible'),
    )
    expect(effects[0]?.syntheticIds).toEqual([id])
  })

  it.each([
    ['throws', '() => { throw new Error("no idea") }', 'no idea'],
    ['rejects', 'async () => { throw new Error("no idea") }', 'no idea'],
    ['returns nothing', '() => {}', 'returned undefined; return {status, headers, json}'],
    ['returns text', '() => "ok"', 'returned "ok"'],
    ['misspells a field', '() => ({ satus: 200 })', 'returned an unknown field "satus"'],
    ['returns a status that is none', '() => ({ status: 101 })', 'returned status 101'],
    ['returns a header with a line break', '() => ({ headers: { a: "b\\r\\nc: d" } })', 'returned the header "a"'],
    ['returns what is no JSON', '() => ({ json: 1n })', 'returned json that cannot be written as JSON'],
    [
      'returns its own framing',
      '() => ({ headers: { "Content-Length": "1" }, text: "abc" })',
      'returned the header "Content-Length"',
    ],
    ['hangs', '() => new Promise(() => {})', 'did not answer within 5 seconds'],
  ])('that %s: blocked, failed, one final error', async (_, respond, words) => {
    const before = world.connections()
    const { out, effects, finished } = await dryHttp<[Posted, Posted, number]>(
      { 'policy.mjs': module(respond) },
      `const failing = post('https://crm.example/c', { a: 1 })
       const other = await post('https://other.example/c', {})
       return [await failing, other, (await fetch(url)).status]`,
      world.env,
    )
    const [failing, other, read] = out
    expect(failing.status).toBe(451)
    expect(JSON.parse(failing.body)).toEqual({
      error: {
        code: 'DRY_GUARD_FAILED',
        message: expect.stringContaining(`POST crm.example/c was blocked; the responder of rule "fn" failed: ${words}`),
        rule: 'fn',
        target: 'crm.example/c',
      },
    })
    expect([other.status, other.body, read]).toEqual([200, '{}', 200])
    const [failed] = effects.filter(({ target }) => target === 'crm.example/c')
    expect(failed).toMatchObject({
      outcome: 'failed',
      rule: 'fn',
      error: { code: 'DRY_GUARD_FAILED' },
      payload: { excerpt: { a: 1 } },
    })
    expect(effects.filter(({ target }) => target === 'crm.example/c')).toHaveLength(1)
    expect([finished.code, world.log, world.connections() - before]).toEqual([0, [], 1])
  })

  it('is inside the dry run: its reads are read, its writes are blocked, and it does not answer itself', async () => {
    const before = world.connections()
    const { out, effects } = await dryHttp<Posted>(
      {
        'policy.mjs': module(`async () => {
          const read = await fetch(process.env.URL + '/source').then((response) => response.json())
          const written = await fetch(process.env.URL + '/side', { method: 'POST', body: 'x' }).then((response) => response.text())
          const self = await fetch('https://crm.example/again', { method: 'POST', body: 'x' }).then((response) => response.text())
          const raw = await new Promise((resolve) => http.request(process.env.URL + '/raw', { method: 'PUT' }, (response) => resolve(response.headers['x-dry-run'])).end('x'))
          return { json: { read, written, self, raw } }
        }`),
      },
      `return post('https://crm.example/c', {})`,
      world.env,
    )
    expect(JSON.parse(out.body)).toEqual({ read: { path: '/source' }, written: '{}', self: '{}', raw: 'blocked' })
    const host = new URL(world.url).host
    expect(effects.map(({ summary, outcome }) => `${outcome} ${summary}`)).toEqual([
      `allowed GET ${host}/source`,
      `blocked POST ${host}/side`,
      'blocked POST crm.example/again',
      `blocked PUT ${host}/raw`,
      'blocked POST crm.example/c',
    ])
    expect(effects[2]?.note).toBe('called by a responder function, so answered without one')
    expect([world.log, world.connections() - before]).toEqual([[], 1])
  })
})
