import { expect, it } from 'vitest'
import { runNode } from '../support/child.js'

// Adapters hand a server requests that never were on a wire: parsed headers, no raw ones, no real socket.
const SOURCE = `
  import http from 'node:http'
  const seen = []
  const server = http.createServer((request, response) => { seen.push(request.url); response.end('ok') })
  const emulate = (url, headers, shape) => {
    const request = Object.assign(new http.IncomingMessage(null), { url, method: 'POST', headers, socket: {} }, shape)
    const response = new http.ServerResponse(request)
    server.emit('request', request, response)
    return response.statusCode
  }
  const live = emulate('/live', { host: 'a' })
  const bare = emulate('/bare', { host: 'a' }, { rawHeaders: undefined })
  const dry = emulate('/dry', { host: 'a', baggage: 'dry_run=true,dry_run.run.id=emulated' })
  console.log(JSON.stringify({ seen, live, bare, dry }))
`

it('an emulated request is served live, and refused where it asks for dry: nothing says who sent it', async () => {
  const { stdout, stderr, code } = await runNode({ register: true, source: SOURCE })
  expect(code, stderr).toBe(0)
  expect(JSON.parse(stdout)).toEqual({ seen: ['/live', '/bare'], live: 200, bare: 200, dry: 403 })
})
