import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import http2, { type ClientHttp2Session } from 'node:http2'
import https from 'node:https'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { http2Request } from '../support/http2-client.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL } from '../support/scratch.js'
import { type Service, startService } from '../support/service.js'

/** Writes from everywhere a handler can; how it is served is the `KIND`. */
const SERVICE = `
import http from 'node:http'
import http2 from 'node:http2'
import { readFileSync } from 'node:fs'
import { isDryRun } from ${JSON.stringify(INDEX_URL)}
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
const write = (path) => http.request(process.env.PEER + path, { method: 'POST', agent }, (r) => r.resume()).on('error', (error) => console.error(error.code, error.message)).end('{}')
let handled = 0
const places = (tag, incoming, outgoing) => {
  handled += 1
  write(tag + '/handler')
  incoming.on('end', () => write(tag + '/end'))
  outgoing.on('close', () => write(tag + '/close'))
  setTimeout(() => write(tag + '/timer'), 5)
  Promise.resolve().then(() => write(tag + '/promise'))
  incoming.resume()
}
const api = (request, response) => {
  if (request.url === '/handled') return response.end(String(handled))
  places('/' + request.headers['x-tag'], request, response)
  request.on('end', () => { response.setHeader('content-type', 'application/json'); response.end(JSON.stringify({ dry: isDryRun() })) })
}
const onStream = (stream, headers) => {
  if (headers[':path'] === '/handled') { stream.respond(); return stream.end(String(handled)) }
  places('/' + headers['x-tag'], stream, stream)
  stream.on('end', () => { stream.respond({ ':status': 200 }); stream.end(JSON.stringify({ dry: isDryRun() })) })
}
const kind = process.env.KIND
const tls = () => ({ key: readFileSync(process.env.KEY), cert: readFileSync(process.env.CERT), allowHTTP1: true })
const server = kind.startsWith('secure') ? http2.createSecureServer(tls(), kind === 'secure' ? api : undefined) : http2.createServer(kind === 'plain' ? api : undefined)
if (kind.endsWith('stream')) server.on('stream', onStream)
if (kind === 'session') server.on('session', (session) => session.on('stream', onStream))
server.listen(0, '127.0.0.1', () => console.log('LISTENING ' + server.address().port))
`
const PLACES = ['close', 'end', 'handler', 'promise', 'timer'] as const

let peer: HttpWorld
let certificate: { key: string; cert: string }
const services: Service[] = []
const sessions: ClientHttp2Session[] = []

beforeAll(async () => {
  peer = await startHttpWorld()
  const directory = scratchDirectory()
  certificate = { key: path.join(directory, 'key.pem'), cert: path.join(directory, 'cert.pem') }
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-keyout', certificate.key, '-out', certificate.cert],
    ],
    { stdio: 'ignore' },
  )
})
afterEach(async () => {
  for (const session of sessions.splice(0)) session.destroy()
  await Promise.all(services.splice(0).map((service) => service.stop()))
  peer.log.length = 0
})
afterAll(() => peer.stop())

async function start(kind: string, env: Record<string, string> = {}) {
  const service = await startService({
    source: SERVICE,
    env: { PEER: peer.url, KIND: kind, KEY: certificate.key, CERT: certificate.cert, ...env },
  })
  services.push(service)
  const secure = kind.startsWith('secure')
  const url = `http${secure ? 's' : ''}://localhost:${service.port}`
  const session = http2.connect(url, {
    ca: secure ? readFileSync(certificate.cert) : undefined,
    host: '127.0.0.1',
  } as http2.ClientSessionOptions)
  sessions.push(session)
  return { service, session, url }
}

function effectsOf(service: Service, count: number) {
  return vi.waitFor(
    () => {
      const effects = readEffects(service.journal)
      expect(effects).toHaveLength(count)
      return effects
    },
    { timeout: 10_000 },
  )
}

describe.each(['plain', 'plain-stream', 'session', 'secure', 'secure-stream'])('an HTTP/2 server: %s', (kind) => {
  it('runs a request with the flag dry to its last write, and says so', async () => {
    const { service, session } = await start(kind)
    const answer = await http2Request(session, { ':method': 'POST', 'x-dry-run': '1:h2', 'x-tag': 'd' }, 'body')
    expect(JSON.parse(answer.body)).toEqual({ dry: true })
    expect(answer.headers['x-dry-run']).toBe('1:h2')
    const effects = await effectsOf(service, PLACES.length)
    expect(effects.map(({ target, runId }) => `${runId} ${target.split('/').at(-1)}`).sort()).toEqual(
      PLACES.map((place) => `h2 ${place}`),
    )
    expect(peer.log).toEqual([])
    await vi.waitFor(() => {
      const end = readRecords(service.journal).find(({ type }) => type === 'run_end')
      expect(end).toMatchObject({ runId: 'h2', error: null })
    })
  })

  it('writes as ever without the flag', async () => {
    const { service, session } = await start(kind)
    const answer = await http2Request(session, { ':method': 'POST', 'x-tag': 'l', baggage: 'dry_run=false' }, 'body')
    expect(JSON.parse(answer.body)).toEqual({ dry: false })
    expect(answer.headers['x-dry-run']).toBeUndefined()
    await vi.waitFor(() => expect([...peer.log].sort()).toEqual(PLACES.map((place) => `POST /l/${place} {}`)))
    expect(readRecords(service.journal)).toEqual([])
  })

  it('refuses a flag it cannot trust, and the handler never runs', async () => {
    const { service, session } = await start(kind)
    const answer = await http2Request(
      session,
      { ':method': 'POST', 'x-dry-run': '1:h2', 'x-tag': 'r', 'x-forwarded-for': '203.0.113.9' },
      'body',
    )
    expect(answer.status).toBe(403)
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'x-dry-run': 'refused' })
    expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'DRY_FLAG_REFUSED' } })
    expect((await http2Request(session, { ':path': '/handled' })).body).toBe('0')
    expect(readRecords(service.journal)).toEqual([])
  })
})

describe('with the gate closed', () => {
  const closed = { DRYTRACE_POLICY: '/nowhere/policy.yaml' }

  it('a dry request gets 503 with the reason', async () => {
    const { session } = await start('plain', closed)
    const answer = await http2Request(session, { 'x-dry-run': '1:h2', 'x-tag': 'r' })
    expect(answer.status).toBe(503)
    expect(JSON.parse(answer.body)).toMatchObject({
      error: { code: 'DRY_GATE_CLOSED', gaps: [expect.stringContaining('/nowhere')] },
    })
    expect(JSON.parse((await http2Request(session, { ':method': 'POST', 'x-tag': 'l' }, '')).body)).toEqual({
      dry: false,
    })
  })

  it('a dry gRPC call gets a status that its client understands', async () => {
    const { session } = await start('plain-stream', closed)
    const headers = { ':method': 'POST', ':path': '/a.B/C', 'content-type': 'application/grpc', 'x-dry-run': '1:h2' }
    const answer = await http2Request(session, headers, '')
    expect(answer.headers).toMatchObject({ ':status': 200, 'grpc-status': '14', 'x-dry-run': 'refused' })
    expect(decodeURIComponent(String(answer.headers['grpc-message']))).toContain('DRY_GATE_CLOSED')
  })
})

it('HTTP/1 requests of a secure server with allowHTTP1 are met too', async () => {
  const { service, url } = await start('secure')
  const answer = await new Promise<{ flag: unknown; body: string }>((resolve, reject) => {
    const options = {
      method: 'POST',
      ca: readFileSync(certificate.cert),
      headers: { 'x-dry-run': '1:h1', 'x-tag': 'h1' },
    }
    https
      .request(
        url.replace('localhost', '127.0.0.1'),
        { ...options, servername: 'localhost', agent: false },
        (response) => {
          let body = ''
          response.on('data', (chunk) => {
            body += chunk
          })
          response.on('end', () => resolve({ flag: response.headers['x-dry-run'], body }))
        },
      )
      .on('error', reject)
      .end('x')
  })
  expect(answer).toEqual({ flag: '1:h1', body: '{"dry":true}' })
  await effectsOf(service, PLACES.length)
  expect(peer.log).toEqual([])
})

it.each(['plain', 'plain-stream'])('live and dry requests over one session do not mix: %s', async (kind) => {
  const { service, session } = await start(kind)
  const isDry = (index: number) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][index % 10] === 1
  const indexes = Array.from({ length: 60 }, (_, index) => index)
  const answers = await Promise.all(
    indexes.map((index) =>
      http2Request(
        session,
        {
          ':method': 'POST',
          'x-tag': `${isDry(index)}-${index}`,
          ...(isDry(index) ? { 'x-dry-run': `1:run-${index}` } : {}),
        },
        'x'.repeat(index * 50),
      ),
    ),
  )
  expect(answers.map(({ body }) => JSON.parse(body).dry)).toEqual(indexes.map(isDry))
  const expected = indexes
    .filter((index) => !isDry(index))
    .flatMap((index) => PLACES.map((place) => `POST /false-${index}/${place} {}`))
  await vi.waitFor(() => expect(peer.log.length).toBeGreaterThanOrEqual(expected.length), { timeout: 20_000 })
  const effects = await effectsOf(service, indexes.filter(isDry).length * PLACES.length)
  for (const { runId, target } of effects) expect(target).toContain(`/true-${runId.slice('run-'.length)}/`)
  expect([...peer.log].sort()).toEqual(expected.sort())
})
