// One live workload; prints microseconds per operation on stdout.
import { Agent, createServer, request } from 'node:http'

const COUNT = 4_000
const CONCURRENCY = 16

async function drive(operation, count = COUNT) {
  for (let i = 0; i < 400; i += 1) await operation()
  let left = count
  const started = process.hrtime.bigint()
  const worker = async () => {
    while (left-- > 0) await operation()
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  return Number(process.hrtime.bigint() - started) / 1000 / count
}

function startServer() {
  const server = createServer((incoming, response) => {
    incoming.resume()
    incoming.on('end', () => response.end('{}'))
  })
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ server, port: server.address().port })))
}

const post = (port, agent) => () =>
  new Promise((resolve, reject) => {
    const outgoing = request(
      { host: '127.0.0.1', port, method: 'POST', agent, headers: { 'content-length': 2 } },
      (response) => {
        response.resume()
        response.on('end', resolve)
      },
    )
    outgoing.on('error', reject)
    outgoing.end('{}')
  })

const workloads = {
  'start-up': async () => 0,
  async http() {
    const { port } = await startServer()
    return drive(post(port, new Agent({ keepAlive: true })))
  },
  // The same exchange; what differs is measured on both ends, the server's share is the smaller.
  async 'http-server'() {
    const { port } = await startServer()
    return drive(post(port, new Agent({ keepAlive: true, maxSockets: 2 })))
  },
  async fetch() {
    const { port } = await startServer()
    return drive(async () => (await fetch(`http://127.0.0.1:${port}`, { method: 'POST', body: '{}' })).text(), 2_000)
  },
  async pg() {
    const { default: pg } = await import('pg')
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 })
    return drive(() => pool.query('select $1::int as n', [1]))
  },
}

const result = await workloads[process.argv[2]]()
console.log(String(result))
process.exit(0)
