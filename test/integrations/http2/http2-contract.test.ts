import { describeContract } from '../../support/contract.js'
import { startHttp2World } from '../../support/http2-world.js'

describeContract({
  name: 'node:http2',
  system: 'http',
  startWorld: startHttp2World,
  setup: `
    const http2 = await load('node:http2')
    const { promisify } = await load('node:util')
    const { connect } = http2
    const url = env.URL
    const json = { 'content-type': 'application/json' }
    const opened = http2.connect(url)
    await new Promise((resolve, reject) => opened.on('connect', resolve).on('error', reject))
    // Of a program that ends early.
    opened.setTimeout(2_000, () => opened.destroy())
    const fresh = []
    const inside = (made) => { fresh.push(made); return made }
    const read = (stream, end) => new Promise((resolve, reject) => {
      let headers
      let body = ''
      stream.on('response', (h) => { headers = h })
      stream.setEncoding('utf8').on('data', (chunk) => { body += chunk })
      stream.on('end', () => resolve({ status: headers[':status'], type: headers['content-type'], body: body === '' ? null : JSON.parse(body) }))
      stream.on('error', reject)
      if (end !== undefined) stream.end(end)
    })
  `,
  reads: {
    get: `read(opened.request({ ':path': '/a?b=1' }))`,
    'get by defaults': `read(opened.request())`,
    'get over a session of the run': `read(inside(http2.connect(url)).request({ ':path': '/b' }))`,
    'three at once': `Promise.all(['/1', '/2', '/3'].map((path) => read(opened.request({ ':path': path }))))`,
    head: `new Promise((resolve, reject) => opened.request({ ':method': 'HEAD', ':path': '/c' }).on('response', (h) => resolve(h[':status'])).on('error', reject).resume())`,
  },
  writes: {
    POST: `read(opened.request({ ':method': 'POST', ':path': '/p1', ...json }), '{"name":"x"}')`,
    'POST over a session of the run': `read(inside(http2.connect(url)).request({ ':method': 'POST', ':path': '/p2', ...json }), '{}')`,
    'POST over a connect taken out': `read(inside(connect(url, {}, () => {})).request({ ':method': 'POST', ':path': '/p3', ...json }), '{}')`,
    'POST over a promisified connect': `(async () => read(inside(await promisify(http2.connect)(url)).request({ ':method': 'POST', ':path': '/p4', ...json }), '{}'))()`,
    PUT: `read(opened.request({ ':method': 'PUT', ':path': '/p5', ...json }), '{}')`,
    DELETE: `read(opened.request({ ':method': 'DELETE', ':path': '/p6' }))`,
    'large upload': `(() => { const s = opened.request({ ':method': 'PATCH', ':path': '/p7', ...json }); s.write('{"a":"' + 'x'.repeat(200000)); return read(s, '"}') })()`,
    'no body': `read(opened.request({ ':method': 'POST', ':path': '/p8' }, { endStream: true }))`,
    'unknown method': `read(opened.request({ ':method': 'LINK', ':path': '/p9' }), '')`,
    'WebSocket over HTTP/2': `new Promise((resolve, reject) => {
      const s = opened.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/p10' })
      s.on('error', reject)
      s.on('response', (h) => { s.on('data', (chunk) => resolve({ status: h[':status'], close: chunk[0] })); s.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0])) })
      s.on('close', () => reject(new Error('closed')))
    })`,
  },
  teardown: `for (const session of [opened, ...fresh]) session.destroy()`,
})
