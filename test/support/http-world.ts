import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { World } from './contract.js'

export interface HttpWorld extends World {
  readonly url: string
  /** Every request that reached the server: method, path, body. */
  readonly log: string[]
  /** Path and query of every GET. */
  readonly reads: string[]
  /** Carrier headers of each request. */
  readonly carriers: Record<string, string | undefined>[]
  /** Connections that were opened. */
  connections(): number
}

/** A real HTTP server that keeps what reaches it and answers with JSON. */
export async function startHttpWorld(): Promise<HttpWorld> {
  const log: string[] = []
  const reads: string[] = []
  const carriers: Record<string, string | undefined>[] = []
  let connections = 0
  const server: Server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      if (request.method !== 'GET' && request.method !== 'HEAD') log.push(`${request.method} ${request.url} ${body}`)
      else if (request.method === 'GET') reads.push(request.url ?? '')
      const { baggage, tracestate } = request.headers as Record<string, string | undefined>
      carriers.push({ baggage, tracestate, flag: request.headers['x-dry-run']?.toString() })
      response.setHeader('content-type', 'application/json')
      response.end(request.method === 'GET' ? JSON.stringify({ path: request.url }) : '{}')
    })
  })
  server.on('connection', () => {
    connections += 1
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    env: { URL: url },
    log,
    reads,
    carriers,
    connections: () => connections,
    state: async () => [...log],
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
