import http2, { type Http2Session } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { World } from './contract.js'

export interface Http2World extends World {
  readonly url: string
  /** Every request that reached the server and is no read: method, path, body. */
  readonly log: string[]
  /** Reads that reached the server. */
  readonly reads: string[]
  /** Carrier headers of each request. */
  readonly carriers: Record<string, string | undefined>[]
  connections(): number
}

/** A real HTTP/2 server (no TLS) that keeps what reaches it and answers with JSON. */
export async function startHttp2World(): Promise<Http2World> {
  const log: string[] = []
  const reads: string[] = []
  const carriers: Record<string, string | undefined>[] = []
  const sessions = new Set<Http2Session>()
  let connections = 0
  const server = http2.createServer({ settings: { enableConnectProtocol: true } })
  server.on('session', (session) => {
    connections += 1
    sessions.add(session)
    session.on('close', () => sessions.delete(session))
    session.on('error', () => {})
  })
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    let body = ''
    const method = headers[':method']
    const line = `${method} ${headers[':path']}`
    const { baggage, tracestate } = headers as Record<string, string | undefined>
    carriers.push({ baggage, tracestate, flag: headers['x-dry-run']?.toString() })
    if (headers[':protocol'] !== undefined) {
      log.push(`${line} ${headers[':protocol']}`)
      stream.respond({ ':status': 200 })
      stream.on('data', (chunk: Buffer) => {
        log.push(`frame ${chunk.length}`)
        stream.end(Buffer.from([0x88, 0]))
      })
      return
    }
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    stream.on('end', () => {
      if (method === 'GET' || method === 'HEAD') reads.push(line)
      else log.push(`${line} ${body}`)
      if (stream.destroyed) return
      stream.respond({ ':status': 200, 'content-type': 'application/json' }, { endStream: method === 'HEAD' })
      if (method !== 'HEAD') stream.end(method === 'GET' ? JSON.stringify({ path: headers[':path'] }) : '{}')
    })
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
      for (const session of sessions) session.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
