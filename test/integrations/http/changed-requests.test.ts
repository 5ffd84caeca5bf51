import { createServer, type Server } from 'node:http'
import http2, { type Http2Server } from 'node:http2'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

/** Requests that reached a server, each with the method it was asked to take instead. */
let seen: string[] = []
let server: Server
let server2: Http2Server
const env: Record<string, string> = {}

beforeAll(async () => {
  server = createServer((request, response) => {
    const override = request.headers['x-http-method-override']
    seen.push(`${request.method} ${request.url}${override === undefined ? '' : ` as ${override}`}`)
    request.resume().on('end', () => response.end('real'))
  })
  server2 = http2.createServer((request, response) => {
    seen.push(`${request.method} ${request.url} as ${request.headers['x-http-method-override']}`)
    response.end('real')
  })
  for (const [name, each] of [
    ['URL', server],
    ['URL2', server2],
  ] as const) {
    await new Promise<void>((resolve) => each.listen(0, '127.0.0.1', resolve))
    env[name] = `http://127.0.0.1:${(each.address() as AddressInfo).port}`
  }
})
afterAll(async () => {
  server.closeAllConnections()
  await Promise.all([server, server2].map((each) => new Promise((resolve) => each.close(resolve))))
})
beforeEach(() => {
  seen = []
})

const POLICY = `version: 1
rules:
  - {name: export, match: {system: http, host: 127.0.0.1, method: GET, path: /export/**}, effect: write}
  - {name: persist, match: {system: http, host: 127.0.0.1, method: POST, path: /infer, header: {x-store: "true"}}, effect: write}
  - {name: infer, match: {system: http, host: 127.0.0.1, method: POST, path: /infer}, effect: read}
  - {name: lookup, match: {system: http, host: 127.0.0.1, method: POST, path: /rpc, body: {op: "get*"}}, effect: read}
`

const PROGRAM = `
import http from 'node:http'
import http2 from 'node:http2'
import { once } from 'node:events'
import { dryRun } from ${JSON.stringify(INDEX_URL)}
const { URL: url, URL2: url2 } = process.env
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
const read = async (request) => {
  const [response] = await once(request, 'response')
  let text = ''
  for await (const chunk of response) text += chunk
  return text
}
const change = { method: (r) => { r.method = 'DELETE' }, override: (r) => r.setHeader('X-HTTP-Method-Override', 'PATCH'), path: (r) => { r.path = '/export/1' }, upgrade: (r) => { r.setHeader('connection', 'upgrade'); r.setHeader('upgrade', 'x') } }
const connected = async (request) => {
  const [socket] = await once(request, 'socket')
  if (socket.connecting) await once(socket, 'connect')
  return request
}
const attempt = async (name, call) => { try { out[name] = await call() } catch (error) { out[name] = 'error ' + (error.code ?? error.cause?.code) } }
const out = {}
`

async function run(body: string, dry = true) {
  const directory = scratchTree({ 'policy.yaml': POLICY })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    env: { ...env, DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    source: `${PROGRAM}
      const body = async () => { ${body} }
      ${dry ? `await dryRun({ id: 'changed' }, body)` : 'await body()'}
      agent.destroy()
      console.log('OUT ' + JSON.stringify(out))
      process.exit(0)`,
  })
  const effects = readEffects(journal).map(({ outcome, effect, summary }) => `${outcome} ${effect} ${summary}`)
  return { out: outputOf<Record<string, string>>(finished), effects: effects.map((text) => text.replace(/:\d+/, '')) }
}

describe('a read that is made a write before its head is written', () => {
  const CHANGES = {
    method: 'blocked write DELETE 127.0.0.1/a',
    override: 'blocked write GET as PATCH 127.0.0.1/a',
    path: 'blocked write GET 127.0.0.1/export/1',
    upgrade: 'blocked write upgrade 127.0.0.1/a',
  }

  it.each(Object.entries(CHANGES))('is destroyed, on a new connection or a warm one: %s', async (change, effect) => {
    const { out, effects } = await run(`
      const request = () => http.request(url + '/a', { agent })
      await attempt('at once', () => { const r = request(); change.${change}(r); r.end(); return read(r) })
      await attempt('once connected', async () => { const r = await connected(request()); change.${change}(r); r.end(); return read(r) })
      await attempt('warm', async () => { await read(http.get(url + '/warm', { agent })); const r = request(); change.${change}(r); r.flushHeaders(); return read(r) })
      await attempt('after', () => read(http.get(url + '/after', { agent })))
    `)
    expect(out).toEqual({
      'at once': 'error DRY_BLOCKED',
      'once connected': 'error DRY_BLOCKED',
      warm: 'error DRY_BLOCKED',
      after: 'real',
    })
    expect(seen).toEqual(['GET /warm', 'GET /after'])
    expect(effects.filter((text) => text === effect)).toHaveLength(3)
  })

  it('is destroyed too when a rule had let it pass', async () => {
    const { out, effects } = await run(`
      const post = (change) => { const r = http.request(url + '/infer', { method: 'POST' }); change(r); r.end('{}'); return read(r) }
      await attempt('as it was', () => post(() => {}))
      await attempt('method', () => post((r) => { r.method = 'PUT' }))
      await attempt('header', () => post((r) => r.setHeader('x-store', 'true')))
    `)
    expect(out).toEqual({ 'as it was': 'real', method: 'error DRY_BLOCKED', header: 'error DRY_BLOCKED' })
    expect(seen).toEqual(['POST /infer'])
    expect(effects.filter((text) => text.startsWith('blocked'))).toEqual([
      'blocked write PUT 127.0.0.1/infer',
      'blocked write POST 127.0.0.1/infer',
    ])
  })
})

it('a call that is held is decided on as it is when it is whole', async () => {
  const { out, effects } = await run(`
    const post = (path, change, body) => { const r = http.request(url + path, { method: 'POST', headers: { 'content-type': 'application/json' } }); change(r); r.end(body); return read(r) }
    await attempt('as it was', () => post('/rpc', () => {}, '{"op":"getAll"}'))
    await attempt('method', () => post('/rpc', change.method, '{"op":"getAll"}'))
    await attempt('path', () => post('/rpc', (r) => { r.path = '/other' }, '{"op":"getAll"}'))
    await attempt('override', () => post('/rpc', change.override, '{"op":"getAll"}'))
  `)
  expect(out).toEqual({
    'as it was': 'real',
    method: '{}',
    path: '{}',
    override: '{}',
  })
  expect(seen).toEqual(['POST /rpc'])
  expect(effects).toEqual([
    'allowed read POST 127.0.0.1/rpc',
    'blocked write DELETE 127.0.0.1/rpc',
    'blocked write POST 127.0.0.1/other',
    'blocked write POST as PATCH 127.0.0.1/rpc',
  ])
})

it('a header that asks for another method makes a read a write, whichever client sends it', async () => {
  const { out, effects } = await run(`
    const headers = { 'X-HTTP-Method-Override': 'DELETE' }
    const { request } = await import('undici')
    await attempt('http', () => read(http.get(url + '/a', { headers })))
    await attempt('raw headers', () => read(http.get(url + '/a', { headers: ['Host', 'x', 'x-http-method', 'merge'] })))
    await attempt('fetch', async () => (await fetch(url + '/a', { headers })).text())
    await attempt('undici', async () => (await request(url + '/a', { headers })).body.text())
    await attempt('http2', async () => {
      const session = http2.connect(url2)
      let text = ''
      for await (const chunk of session.request({ ':path': '/a', ...headers })) text += chunk
      session.close()
      return text
    })
    await attempt('POST as GET', async () => (await fetch(url + '/a', { method: 'POST', body: '{}', headers: { 'X-HTTP-Method-Override': 'GET' } })).text())
    await attempt('GET as HEAD', async () => (await fetch(url + '/a', { headers: { 'X-HTTP-Method-Override': 'HEAD' } })).text())
  `)
  expect(out).toEqual({
    http: '{}',
    'raw headers': '{}',
    fetch: '{}',
    undici: '{}',
    http2: '{}',
    'POST as GET': '{}',
    'GET as HEAD': 'real',
  })
  expect(seen).toEqual(['GET /a as HEAD'])
  expect(effects).toEqual([
    'blocked write GET as DELETE 127.0.0.1/a',
    'blocked unknown GET as MERGE 127.0.0.1/a',
    ...Array(3).fill('blocked write GET as DELETE 127.0.0.1/a'),
    'blocked write POST 127.0.0.1/a',
    'allowed read GET 127.0.0.1/a',
  ])
})

it('a read that stays one goes out as the caller left it, and is on record as it went out', async () => {
  const { out, effects } = await run(`
    await attempt('header', () => { const r = http.request(url + '/a', { agent }); r.setHeader('x-mine', '1'); r.end(); return read(r) })
    await attempt('path', () => { const r = http.request(url + '/a', { agent }); r.path = '/b'; r.end(); return read(r) })
  `)
  expect(out).toEqual({ header: 'real', path: 'real' })
  expect(seen).toEqual(['GET /a', 'GET /b'])
  expect(effects).toEqual([
    'allowed read GET 127.0.0.1/a',
    'allowed read GET 127.0.0.1/a',
    'allowed read GET 127.0.0.1/b',
  ])
})

it('live, a request is what its caller makes of it', async () => {
  const { out } = await run(
    `
    await attempt('method', () => { const r = http.request(url + '/a', { agent }); r.method = 'DELETE'; r.end(); return read(r) })
    await attempt('override', () => { const r = http.request(url + '/a', { agent }); change.override(r); r.end(); return read(r) })
  `,
    false,
  )
  expect(out).toEqual({ method: 'real', override: 'real' })
  expect(seen).toEqual(['DELETE /a', 'GET /a as PATCH'])
})
