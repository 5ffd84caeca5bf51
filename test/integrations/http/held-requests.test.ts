import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DIST, ROOT, runNode } from '../../support/child.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { INDEX_URL, scratchTree } from '../../support/scratch.js'

/** Sends by `node:http` and by fetch alike: `send(path, body, headers)` -> {status, headers, body, bytes}. */
const CLIENTS = {
  'node:http': `
    import http from 'node:http'
    const send = (path, body, headers = {}, method = 'POST') => new Promise((resolve, reject) => {
      const request = http.request(process.env.URL + path, { method, headers: { 'content-type': 'application/json', ...headers } }, (response) => {
        let text = '', bytes = 0
        response.on('data', (chunk) => { bytes += chunk.length; if (bytes < 4096) text += chunk })
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: text, bytes }))
        response.on('error', reject)
      })
      request.on('error', reject)
      request.end(body)
    })`,
  fetch: `
    const send = async (path, body, headers = {}, method = 'POST') => {
      const response = await fetch(process.env.URL + path, { method, body, headers: { 'content-type': 'application/json', ...headers } })
      const buffer = Buffer.from(await response.arrayBuffer())
      return { status: response.status, headers: { ...Object.fromEntries(response.headers), 'set-cookie': response.headers.getSetCookie() }, body: buffer.subarray(0, 4096).toString(), bytes: buffer.length }
    }`,
  undici: `
    import { request } from 'undici'
    const send = async (path, body, headers = {}, method = 'POST') => {
      const response = await request(process.env.URL + path, { method, body, headers: { 'content-type': 'application/json', ...headers } })
      const buffer = Buffer.from(await response.body.arrayBuffer())
      return { status: response.statusCode, headers: response.headers, body: buffer.subarray(0, 4096).toString(), bytes: buffer.length }
    }`,
}

interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: Record<string, unknown>
  readonly body: string
  aborted: boolean
}

const LARGE = 8 * 1024 * 1024
let server: Server
let url: string
let seen: Seen[] = []
let connections = 0

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const entry: Seen = {
        method: String(request.method),
        url: String(request.url),
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
        aborted: false,
      }
      seen.push(entry)
      response.on('close', () => {
        entry.aborted = !response.writableFinished
      })
      const { searchParams } = new URL(String(request.url), 'http://x')
      if (searchParams.has('large')) {
        response.writeHead(200, { 'content-type': 'application/octet-stream' })
        response.end(Buffer.alloc(LARGE, 'x'))
      } else if (searchParams.has('hang')) {
        response.writeHead(200, { 'content-type': 'text/plain' })
        response.write('first')
      } else if (searchParams.has('break')) {
        response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' })
        response.write('first')
        setImmediate(() => response.destroy())
      } else {
        response.writeHead(206, { 'content-type': 'application/json', 'set-cookie': ['a=1', 'b=2'], 'x-real': 'yes' })
        response.end(JSON.stringify({ real: true }))
      }
    })
  })
  server.on('connection', () => {
    connections += 1
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})
beforeEach(() => {
  seen = []
  connections = 0
})

interface Options {
  readonly client: string
  readonly body: string
  readonly rules?: string
  readonly env?: Record<string, string>
}

async function dry({ client, body, rules = '', env = {} }: Options) {
  const directory = scratchTree({ 'policy.yaml': `version: 1\nrules:\n${rules || '  []'}\n` })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    env: { URL: url, DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml'), ...env },
    source: `import { dryRun } from ${JSON.stringify(INDEX_URL)}
      ${client}
      const out = await dryRun({ id: 'held' }, async () => { ${body} })
      console.log('OUT ' + JSON.stringify(out ?? null))`,
  })
  const line = finished.stdout.split('\n').find((text) => text.startsWith('OUT '))
  if (line === undefined) throw new Error(finished.stdout + finished.stderr)
  return { out: JSON.parse(line.slice(4)), journal, effects: readEffects(journal) }
}

const RULE = `  - {name: lookup, match: {system: http, host: 127.0.0.1, method: POST, path: /rpc, body: {op.kind: "get*"}}, effect: read}`

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(`a decision that depends on the body: ${name}`, () => {
    it('sends what the rule lets pass as it was, and hands the real answer back', async () => {
      const { out, effects } = await dry({
        client,
        rules: RULE,
        body: `return await send('/rpc?a=1&b=%20', '{"op":{"kind":"getAll"}}', { 'x-mine': 'kept', cookie: 'c=1' })`,
      })
      expect(out).toMatchObject({ status: 206, body: '{"real":true}' })
      expect(out.headers).toMatchObject({ 'set-cookie': ['a=1', 'b=2'], 'x-real': 'yes' })
      expect(out.headers).not.toHaveProperty('x-dry-run')
      expect(seen).toHaveLength(1)
      expect(seen[0]).toMatchObject({ method: 'POST', url: '/rpc?a=1&b=%20', body: '{"op":{"kind":"getAll"}}' })
      expect(seen[0]?.headers).toMatchObject({ 'x-mine': 'kept', cookie: 'c=1', 'content-type': 'application/json' })
      expect(effects.map(({ outcome, effect, rule }) => `${outcome} ${effect} ${rule}`)).toEqual([
        'allowed read lookup',
      ])
    })

    it('blocks what the rule does not match, and no connection is opened', async () => {
      const { out, effects } = await dry({
        client,
        rules: RULE,
        body: `return [
          await send('/rpc', '{"op":{"kind":"put"}}'),
          await send('/rpc', '{}'),
          await send('/rpc', 'not json'),
          await send('/rpc', ''),
        ]`,
      })
      expect(out.map((answer: { status: number }) => answer.status)).toEqual([200, 200, 200, 200])
      expect([seen, connections]).toEqual([[], 0])
      expect(effects.map(({ outcome, rule }) => `${outcome} ${rule}`)).toEqual([
        'blocked default.write',
        'blocked default.write',
        'blocked lookup',
        'blocked default.write',
      ])
      expect(effects[2]?.effect).toBe('unknown')
    })

    it('blocks a body over the cap as unknown, although its beginning matches', async () => {
      const { out, effects } = await dry({
        client,
        rules: RULE,
        body: `return await send('/rpc', JSON.stringify({ op: { kind: 'get' }, filler: 'x'.repeat(1024 * 1024) }))`,
      })
      expect(out.status).toBe(200)
      expect([seen, connections]).toEqual([[], 0])
      expect(effects).toMatchObject([{ outcome: 'blocked', effect: 'unknown', rule: 'lookup' }])
      expect(effects[0]?.reason).toContain('cannot be read')
    })

    it('streams a large answer back, whole', async () => {
      const { out } = await dry({
        client,
        rules: RULE,
        body: `return await send('/rpc?large', '{"op":{"kind":"get"}}')`,
      })
      expect(out).toMatchObject({ status: 200, bytes: LARGE })
    })

    it('an answer that breaks off breaks off for the caller', async () => {
      const { out } = await dry({
        client,
        rules: RULE,
        body: `try { return { got: await send('/rpc?break', '{"op":{"kind":"get"}}') } } catch (error) { return { failed: error.message } }`,
      })
      expect(out).toHaveProperty('failed')
    })

    it('an unreachable server is the caller’s own error', async () => {
      const { out, effects } = await dry({
        client,
        rules: RULE,
        env: { URL: await closedPort() },
        body: `try { return { got: await send('/rpc', '{"op":{"kind":"get"}}') } } catch (error) { return { failed: error.code ?? error.cause?.code } }`,
      })
      expect(out).toEqual({ failed: 'ECONNREFUSED' })
      expect(effects).toHaveLength(1)
    })

    it('goes on record before anything is sent', async () => {
      const { out } = await dry({
        client,
        rules: RULE,
        env: { DRYTRACE_JOURNAL: '/proc/self/nowhere' },
        body: `try { return { got: await send('/rpc', '{"op":{"kind":"get"}}') } } catch (error) { return { failed: error.code ?? error.cause?.code } }`,
      }).catch((error: Error) => ({ out: error.message }))
      expect(JSON.stringify(out)).toContain('DRY_JOURNAL')
      expect([seen, connections]).toEqual([[], 0])
    })

    it('MCP: listing passes, a tool call does not, a batch only when all of it reads', async () => {
      const { out, effects } = await dry({
        client,
        body: `
          const message = (method, id = 1) => ({ jsonrpc: '2.0', id, method })
          const statuses = []
          for (const body of [message('tools/list'), message('tools/call'), [message('ping'), message('resources/read', 2)], [message('ping'), message('tools/call', 2)]])
            statuses.push(await send('/mcp', JSON.stringify(body)))
          return statuses`,
      })
      expect(seen.map(({ body }) => body.match(/(?<="method":")[^"]+/g))).toEqual([
        ['tools/list'],
        ['ping', 'resources/read'],
      ])
      expect(effects.map(({ outcome }) => outcome)).toEqual(['allowed', 'blocked', 'allowed', 'blocked'])
      expect(JSON.parse(out[1].body)).toEqual({ jsonrpc: '2.0', id: 1, result: { content: [] } })
      expect(JSON.parse(out[3].body)).toMatchObject([{ id: 1 }, { id: 2, result: { content: [] } }])
    })

    it('DynamoDB: reads pass by their header, writes do not', async () => {
      const { effects } = await dry({
        client,
        body: `for (const action of ['GetItem', 'Query', 'DescribeTable', 'PutItem', 'BatchWriteItem', 'ExecuteStatement'])
            await send('/', '{}', { 'x-amz-target': 'DynamoDB_20120810.' + action })`,
      })
      expect(seen.map(({ headers }) => headers['x-amz-target'])).toEqual(
        ['GetItem', 'Query', 'DescribeTable'].map((action) => `DynamoDB_20120810.${action}`),
      )
      expect(effects.map(({ outcome }) => outcome)).toEqual([...Array(3).fill('allowed'), ...Array(3).fill('blocked')])
    })

    const modules = path.join(ROOT, 'test/clients/node_modules')
    const own = canResolveGraphql()
    const nodePath = own || !existsSync(path.join(modules, 'graphql')) ? undefined : modules
    it.skipIf(!own && nodePath === undefined)(
      'GraphQL: queries pass, mutations and what cannot be told do not',
      async () => {
        const { effects } = await dry({
          client,
          env: nodePath === undefined ? {} : { NODE_PATH: nodePath },
          body: `
            const one = (query, more) => JSON.stringify({ query, ...more })
            for (const body of [
              one('{ me { id } }'),
              one('query A { me { id } } query B { me { name } }', { operationName: 'B' }),
              one('mutation { remove(id: 1) }'),
              one('# query\\nfragment F on T { id } mutation M { remove { ...F } }'),
              one('query A { me { id } } mutation B { remove }', { operationName: 'A' }),
              '[' + one('{ me { id } }') + ']',
              one(undefined, { extensions: { persistedQuery: { version: 1, sha256Hash: 'x' } } }),
              one('{ me { id } }', { extensions: { persistedQuery: { version: 1, sha256Hash: 'x' } } }),
              one('query {'),
            ]) await send('/graphql', body)
            await send('/graphql?query=' + encodeURIComponent('{ me { id } }'), one('mutation { remove }'))
            await send('/graphql?query=' + encodeURIComponent('mutation { remove }'), undefined, {}, 'GET')
          `,
        })
        expect(seen.map(({ body }) => JSON.parse(body).query)).toEqual([
          '{ me { id } }',
          'query A { me { id } } query B { me { name } }',
        ])
        expect(effects.map(({ rule }) => rule.replace('builtin.graphql.', ''))).toEqual([
          'query',
          'query',
          'mutation',
          'mutation',
          'unknown',
          'unknown',
          'unknown',
          'unknown',
          'unknown',
          'unknown',
          'mutation',
        ])
        expect(effects.map(({ effect }) => effect).slice(2)).toEqual([
          'write',
          'write',
          ...Array(6).fill('unknown'),
          'write',
        ])
      },
    )
  })
}

/** Nobody listens there any more. */
async function closedPort(): Promise<string> {
  const closed = createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const { port } = closed.address() as AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  return `http://127.0.0.1:${port}`
}

function canResolveGraphql(): boolean {
  try {
    createRequire(path.join(DIST, 'index.js')).resolve('graphql')
    return true
  } catch {
    return false
  }
}

it('a compressed body is looked into, and sent as it is', async () => {
  const { out } = await dry({
    client: `${CLIENTS['node:http']}; import { gzipSync } from 'node:zlib'`,
    rules: RULE,
    body: `const packed = (kind) => send('/rpc', gzipSync(JSON.stringify({ op: { kind } })), { 'content-encoding': 'gzip' })
      const bomb = gzipSync(JSON.stringify({ op: { kind: 'get' }, filler: 'x'.repeat(4 * 1024 * 1024) }))
      return [(await packed('get')).status, (await packed('put')).status, (await send('/rpc', bomb, { 'content-encoding': 'gzip' })).status, (await send('/rpc', '{}', { 'content-encoding': 'zstd' })).status]`,
  })
  expect(out).toEqual([206, 200, 200, 200])
  expect(seen.map(({ headers }) => headers['content-encoding'])).toEqual(['gzip'])
})

describe('a caller that gives up', () => {
  it('node:http: the real request is aborted with it', async () => {
    const { out } = await dry({
      client: `import http from 'node:http'`,
      rules: RULE,
      body: `return await new Promise((resolve) => {
        const request = http.request(process.env.URL + '/rpc?hang', { method: 'POST', headers: { 'content-type': 'application/json' } }, (response) => {
          response.once('data', (chunk) => { request.destroy(); response.on('close', () => resolve(String(chunk))) })
          response.on('error', () => {})
        })
        request.on('error', () => {})
        request.end('{"op":{"kind":"get"}}')
      })`,
    })
    expect(out).toBe('first')
    await expect.poll(() => seen.map(({ aborted }) => aborted)).toEqual([true])
  })

  it('fetch: the real request is aborted with it', async () => {
    const { out } = await dry({
      client: '',
      rules: RULE,
      body: `
        const abort = new AbortController()
        const response = await fetch(process.env.URL + '/rpc?hang', { method: 'POST', signal: abort.signal, body: '{"op":{"kind":"get"}}', headers: { 'content-type': 'application/json' } })
        const reader = response.body.getReader()
        const first = Buffer.from((await reader.read()).value).toString()
        abort.abort()
        return [first, await reader.read().catch((error) => error.name)]`,
    })
    expect(out).toEqual(['first', 'AbortError'])
    await expect.poll(() => seen.map(({ aborted }) => aborted)).toEqual([true])
  })

  it('before its request was whole: nothing is sent, and it is on record', async () => {
    const { journal } = await dry({
      client: `import http from 'node:http'`,
      rules: RULE,
      body: `await new Promise((resolve) => {
        const request = http.request(process.env.URL + '/rpc', { method: 'POST', headers: { 'content-type': 'application/json' } })
        request.on('error', () => {}).on('close', resolve)
        request.write('{"op":')
        setTimeout(() => request.destroy(), 50)
      })`,
    })
    expect([seen, connections]).toEqual([[], 0])
    expect(readEffects(journal)).toMatchObject([{ outcome: 'blocked', note: expect.stringContaining('gave up') }])
    expect(readRecords(journal).filter(({ type }) => type === 'problem')).toEqual([])
  })
})
