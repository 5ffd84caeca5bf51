import http from 'node:http'
import http2 from 'node:http2'
import { http2Request } from '../../support/http2-client.js'
import { request } from '../../support/service.js'

export interface Reply {
  readonly status: number
  readonly flag: unknown
  readonly body: string
}

/** One connection to a service: a keep-alive socket that is never idle, or a session. */
export interface Connection {
  post(path: string, headers: Readonly<Record<string, string>>, body?: string): Promise<Reply>
  /** Sockets it has used. */
  sockets(): number
  close(): void
}

export function connectTo(url: string, protocol: 'http1' | 'http2'): Connection {
  return protocol === 'http1' ? overKeepAlive(url) : overSession(url)
}

function overKeepAlive(url: string): Connection {
  const sockets = new Set<unknown>()
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  agent.on('free', (socket) => sockets.add(socket))
  return {
    async post(path, headers, body) {
      const answer = await request(url + path, {
        method: 'POST',
        headers,
        agent,
        ...(body === undefined ? {} : { body }),
      })
      return { status: answer.status, flag: answer.headers['x-dry-run'], body: answer.body }
    },
    sockets: () => sockets.size,
    close: () => agent.destroy(),
  }
}

function overSession(url: string): Connection {
  const session = http2.connect(url)
  session.on('error', () => {})
  return {
    async post(path, headers, body) {
      const answer = await http2Request(session, { ':method': 'POST', ':path': path, ...headers }, body)
      return { status: answer.status, flag: answer.headers['x-dry-run'], body: answer.body }
    },
    sockets: () => 1,
    close: () => session.destroy(),
  }
}
