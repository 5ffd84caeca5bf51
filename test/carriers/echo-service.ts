import { REGISTER } from '../support/child.js'

const INDEX = REGISTER.replace('register.js', 'index.js')

/**
 * A service that writes (POST to PEER) from everywhere a handler can: at once, in `req.on('end')`,
 * `res.on('finish')`, a timer, a promise. The path of each write is the request's `x-tag` and the place.
 */
export const ECHO_SERVICE = `
import http from 'node:http'
import { currentRun, isDryRun } from ${JSON.stringify(`file://${INDEX}`)}

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
const write = (path) => new Promise((resolve, reject) => {
  http.request(process.env.PEER + path, { method: 'POST', agent }, (response) => {
    response.resume().on('end', resolve)
  }).on('error', reject).end('{}')
})
let handled = 0
const server = http.createServer(async (request, response) => {
  handled += 1
  if (request.url === '/handled') return response.end(String(handled - 1))
  const tag = '/' + request.headers['x-tag']
  const quietly = (promise) => promise.catch((error) => console.error(error.code, error.message))
  quietly(write(tag + '/handler'))
  request.on('end', () => quietly(write(tag + '/end')))
  response.on('finish', () => quietly(write(tag + '/finish')))
  setTimeout(() => quietly(write(tag + '/timer')), 5)
  quietly(Promise.resolve().then(() => write(tag + '/promise')))
  request.resume()
  await new Promise((resolve) => setImmediate(resolve))
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ dry: isDryRun(), run: currentRun() ?? null }))
})
server.on('upgrade', (request, socket) => {
  handled += 1
  const tag = '/' + request.headers['x-tag']
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nupgrade: echo\\r\\nconnection: upgrade\\r\\n\\r\\n')
  write(tag + '/upgrade')
  socket.on('data', async (chunk) => {
    await write(tag + '/data')
    socket.write('dry=' + isDryRun() + ' ' + chunk)
  })
  socket.on('end', () => socket.end())
})
server.listen(0, '127.0.0.1', () => console.log('LISTENING ' + server.address().port))
`

/** Places of one request to {@link ECHO_SERVICE} that write. */
export const PLACES = ['end', 'finish', 'handler', 'promise', 'timer'] as const
