import { describeContract } from '../../support/contract.js'
import { startHttpWorld } from '../../support/http-world.js'

const READ_ALL = `
  const read = (request, end = '{"name":"x"}') => new Promise((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (response) => {
      let body = ''
      response.on('data', (chunk) => { body += chunk })
      response.on('end', () => resolve({ status: response.statusCode, raw: body === '' ? 'empty' : 'text', message: response.statusMessage, type: response.headers['content-type'], body: body === '' ? null : JSON.parse(body) }))
      response.on('error', reject)
    })
    if (end !== null) request.end(end); else request.end()
  })
`

describeContract({
  name: 'node:http',
  system: 'http',
  startWorld: startHttpWorld,
  setup: `
    const http = await load('node:http')
    ${READ_ALL}
    const url = env.URL
    const keepAlive = new http.Agent({ keepAlive: true, maxSockets: 1 })
    const json = { 'content-type': 'application/json' }
    class MyAgent extends http.Agent {}
    const duck = { addRequest: (request, options) => http.globalAgent.addRequest(request, options), protocol: 'http:', defaultPort: 80 }
    const net = await load('node:net')
  `,
  reads: {
    get: `read(http.get(url + '/a?b=1'), null)`,
    'get by options': `(() => { const u = new URL(url); return read(http.request({ host: u.hostname, port: u.port, path: '/c' }), null) })()`,
    'keep-alive, one socket, three at once': `Promise.all(['/1', '/2', '/3'].map((path) => read(http.get(url + path, { agent: keepAlive }), null)))`,
    head: `new Promise((resolve, reject) => http.request(url, { method: 'HEAD' }, (r) => { r.resume(); r.on('end', () => resolve(r.statusCode)) }).on('error', reject).end())`,
  },
  writes: {
    'POST by URL': `read(http.request(url + '/p1', { method: 'POST', headers: json }))`,
    'POST by URL object': `read(http.request(new URL(url + '/p2'), { method: 'POST', headers: json }))`,
    'POST by options': `(() => { const u = new URL(url); return read(http.request({ host: u.hostname, port: u.port, path: '/p3', method: 'POST', headers: json })) })()`,
    'POST with callback': `new Promise((resolve, reject) => { const r = http.request(url + '/p4', { method: 'POST' }, (response) => { response.resume(); response.on('end', () => resolve(response.statusCode)) }); r.on('error', reject); r.end('x') })`,
    'lower-case method': `read(http.request(url + '/p5', { method: 'post', headers: json }))`,
    'PUT over keep-alive': `read(http.request(url + '/p6', { method: 'PUT', agent: keepAlive, headers: json }))`,
    'PATCH without agent': `read(http.request(url + '/p7', { method: 'PATCH', agent: false, headers: json }))`,
    'DELETE over an agent subclass': `read(http.request(url + '/p8', { method: 'DELETE', agent: new MyAgent() }), null)`,
    'POST over a duck-typed agent': `read(http.request(url + '/p9', { method: 'POST', agent: duck, headers: json }))`,
    'POST with createConnection': `read(http.request(url + '/p10', { method: 'POST', createConnection: (o) => net.connect(o), headers: json }))`,
    'POST by new ClientRequest': `read(new http.ClientRequest({ host: new URL(url).hostname, port: new URL(url).port, path: '/p11', method: 'POST', headers: json }))`,
    'chunked upload': `(() => { const r = http.request(url + '/p12', { method: 'POST', headers: json }); r.write('{"a":"' + 'x'.repeat(200000)); return read(r, '"}') })()`,
    'expect 100-continue': `new Promise((resolve, reject) => { const r = http.request(url + '/p13', { method: 'POST', headers: { expect: '100-continue', 'content-length': 1 } }, (response) => { response.resume(); response.on('end', () => resolve(response.statusCode)) }); r.on('continue', () => r.end('x')); r.on('error', reject); r.flushHeaders() })`,
    'headers as an array': `read(http.request(url + '/p14', { method: 'POST', headers: ['host', 'h', 'content-type', 'application/json', 'content-length', '12'] }))`,
    'unknown method': `read(http.request(url + '/p15', { method: 'LINK', headers: json }))`,
  },
  teardown: `keepAlive.destroy(); http.globalAgent.destroy()`,
})
