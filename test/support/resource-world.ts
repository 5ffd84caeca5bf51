import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'

export interface ResourceWorld {
  readonly url: string
  /** What the server holds, by path. */
  readonly resources: Map<string, unknown>
  /** Every request that reached the server: method, URL, body. */
  readonly log: string[]
  readonly headers: IncomingMessage['headers'][]
  /** Forgets what happened, and holds this and nothing else. */
  reset(resources: Record<string, unknown>): void
  stop(): Promise<void>
}

const ENCODERS: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: gzipSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
}

/**
 * A real HTTP server that keeps resources. `?encode=gzip` compresses its
 * answer, `?text` gives no JSON, `?large` two megabytes, `?status=500` fails,
 * `?hang` never answers.
 */
export async function startResourceWorld(version: 1 | 2 = 1): Promise<ResourceWorld> {
  const resources = new Map<string, unknown>()
  const log: string[] = []
  const headers: IncomingMessage['headers'][] = []
  const listener: RequestListener = (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      log.push([request.method, request.url, body].filter((part) => part !== '').join(' '))
      headers.push(request.headers)
      answer(request, response, body, resources)
    })
  }
  const sessions = new Set<http2.Http2Session>()
  // The compatibility layer of http2 has the same shape.
  const server = version === 1 ? createServer(listener) : http2.createServer(listener as never)
  server.on('session', (session: http2.Http2Session) => sessions.add(session))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    resources,
    log,
    headers,
    reset(given) {
      resources.clear()
      for (const [path, value] of Object.entries(given)) resources.set(path, value)
      log.length = 0
      headers.length = 0
    },
    async stop() {
      if ('closeAllConnections' in server) server.closeAllConnections()
      for (const session of sessions) session.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
  resources: Map<string, unknown>,
): void {
  const { pathname, searchParams } = new URL(String(request.url), 'http://x')
  const status = Number(searchParams.get('status') ?? 200)
  if (searchParams.has('hang')) return
  switch (request.method) {
    case 'PUT':
    case 'POST':
      resources.set(pathname, JSON.parse(body))
      break
    case 'PATCH':
      resources.set(pathname, { ...(resources.get(pathname) as object), ...JSON.parse(body) })
      break
    case 'DELETE':
      resources.delete(pathname)
  }
  if (status !== 200) return send(response, status, Buffer.from('{"error":"told to"}'))
  const found = resources.get(pathname)
  if (found === undefined) return send(response, 404, Buffer.from('{"error":"no such thing"}'))
  if (request.headers['if-none-match'] === '"v1"') return void response.writeHead(304, { etag: '"v1"' }).end()
  response.setHeader('etag', '"v1"')
  response.setHeader('cache-control', 'max-age=60')
  response.setHeader('x-real', 'yes')
  if (searchParams.has('text')) return send(response, 200, Buffer.from('plain text'), 'text/plain')
  const text = typeof found === 'string' ? found : JSON.stringify(found)
  const large = searchParams.has('large') ? ' '.repeat(2 * 1024 * 1024) : ''
  const encoding = searchParams.get('encode') ?? ''
  const encode = ENCODERS[encoding]
  if (encode !== undefined) response.setHeader('content-encoding', encoding)
  send(response, 200, encode === undefined ? Buffer.from(text + large) : encode(Buffer.from(text)))
}

function send(response: ServerResponse, status: number, bytes: Buffer, type = 'application/json'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': bytes.length }).end(bytes)
}
