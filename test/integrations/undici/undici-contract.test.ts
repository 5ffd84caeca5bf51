import { describeContract } from '../../support/contract.js'
import { startHttpWorld } from '../../support/http-world.js'

describeContract({
  name: 'global fetch',
  system: 'http',
  startWorld: startHttpWorld,
  setup: `
    const url = env.URL
    const json = { 'content-type': 'application/json' }
    const answer = async (promise) => { const r = await promise; return { status: r.status, ok: r.ok, type: r.headers.get('content-type'), url: typeof r.url, body: await r.json() } }
  `,
  reads: {
    get: `answer(fetch(url + '/a?b=1'))`,
    'get by Request': `answer(fetch(new Request(url + '/r', { headers: { accept: 'application/json' } })))`,
    'five at once': `Promise.all([1, 2, 3, 4, 5].map((n) => answer(fetch(url + '/' + n))))`,
  },
  writes: {
    'POST string': `answer(fetch(url + '/p1', { method: 'POST', headers: json, body: '{"a":1}' }))`,
    'POST bytes': `answer(fetch(url + '/p2', { method: 'POST', body: new Uint8Array([1, 2, 3]) }))`,
    'POST form': `answer(fetch(url + '/p3', { method: 'POST', body: new URLSearchParams({ a: '1' }) }))`,
    'POST multipart': `(() => { const f = new FormData(); f.set('file', new Blob(['x']), 'a.txt'); return answer(fetch(url + '/p4', { method: 'POST', body: f })) })()`,
    'POST stream': `answer(fetch(url + '/p5', { method: 'POST', duplex: 'half', body: new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('x')); c.close() } }) }))`,
    'POST by Request': `answer(fetch(new Request(url + '/p6', { method: 'POST', body: 'x' })))`,
    PUT: `answer(fetch(url + '/p7', { method: 'PUT', body: 'x' }))`,
    PATCH: `answer(fetch(url + '/p8', { method: 'PATCH', body: 'x' }))`,
    DELETE: `answer(fetch(url + '/p9', { method: 'DELETE' }))`,
  },
})

describeContract({
  name: 'undici',
  system: 'http',
  startWorld: startHttpWorld,
  setup: `
    const undici = await load('undici')
    const url = env.URL
    const client = new undici.Client(url), pool = new undici.Pool(url, { connections: 1 }), agent = new undici.Agent()
    const retry = new undici.RetryAgent(new undici.Agent())
    const composed = new undici.Agent().compose(undici.interceptors.redirect())
    const answer = async (promise) => { const r = await promise; return { status: r.statusCode, type: r.headers['content-type'], body: await r.body.json() } }
    const { PassThrough, pipeline } = await load('node:stream')
  `,
  reads: {
    request: `answer(undici.request(url + '/a'))`,
    fetch: `undici.fetch(url + '/f').then((r) => r.json())`,
    'pool of one, three at once': `Promise.all([1, 2, 3].map((n) => answer(pool.request({ method: 'GET', path: '/' + n }))))`,
  },
  writes: {
    request: `answer(undici.request(url + '/p1', { method: 'POST', body: 'x' }))`,
    fetch: `undici.fetch(url + '/p2', { method: 'POST', body: 'x' }).then((r) => r.json())`,
    Client: `answer(client.request({ method: 'POST', path: '/p3', body: 'x' }))`,
    'Pool of one, three at once': `Promise.all([1, 2, 3].map((n) => answer(pool.request({ method: 'PUT', path: '/p4' + n, body: 'x' }))))`,
    Agent: `answer(agent.request({ origin: url, method: 'POST', path: '/p5', body: 'x' }))`,
    RetryAgent: `answer(retry.request({ origin: url, method: 'POST', path: '/p6', body: 'x' }))`,
    composed: `answer(composed.request({ origin: url, method: 'POST', path: '/p7', body: 'x' }))`,
    stream: `new Promise((resolve, reject) => undici.stream(url + '/p9', { method: 'POST', body: 'x' }, ({ statusCode }) => { resolve(statusCode); return new PassThrough().resume() }).catch(reject))`,
    'options used twice': `(async () => { const options = { origin: url, method: 'POST', path: '/p10', body: 'x' }; return [await answer(agent.request(options)), await answer(agent.request(options))] })()`,
  },
  effectsPerWrite: { 'Pool of one, three at once': 3, 'options used twice': 2 },
  teardown: `await Promise.all([client.close(), pool.close(), agent.close(), retry.close(), composed.close()])`,
})
