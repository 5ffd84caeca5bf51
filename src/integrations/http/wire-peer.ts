import { Buffer } from 'node:buffer'
import { BodyCapture, type CapturedBody } from './body-capture.js'
import { acceptKey, WebSocketPeer } from './websocket-peer.js'

// Not imported: see http.ts.
const { STATUS_CODES } = process.getBuiltinModule('node:http')

/** One request as it came over the simulated wire. */
export interface Exchange {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly upgrade: boolean
  readonly body: CapturedBody
}

/** What the caller gets to see. A body that is an async iterable is streamed, with backpressure. */
export interface SimulatedResponse {
  readonly status: number
  /** Several values of one name are several lines. */
  readonly headers?: Readonly<Record<string, string | string[]>>
  /** The reason phrase; the registered one when left out. */
  readonly reason?: string
  readonly body?: string | Uint8Array | AsyncIterable<string | Uint8Array>
  readonly trailers?: Readonly<Record<string, string>>
}

/** Called once the request is whole. A rejection destroys the socket with its error. */
export type Responder = (exchange: Exchange) => SimulatedResponse | Promise<SimulatedResponse>

/** The peer's end of the socket. */
export interface PeerSocket {
  /** `null` ends the stream. */
  send(bytes: Buffer | null): void
  /** Resolves when the client has read everything sent so far. */
  drained(): Promise<void>
  destroy(error: Error): void
}

const EMPTY = Buffer.alloc(0)
type State = 'head' | 'fixed' | 'chunk-size' | 'chunk-data' | 'trailers' | 'upgraded'

interface Head {
  readonly method: string
  readonly path: string
  readonly headers: Record<string, string>
}

/** A small HTTP/1.1 server over bytes: heads, fixed and chunked bodies, trailers, 100-continue, keep-alive, upgrade. */
export class WirePeer {
  readonly #socket: PeerSocket
  readonly #responder: Responder
  #buffer: Buffer = EMPTY
  #state: State = 'head'
  #head: Head | undefined
  #body = new BodyCapture()
  #left = 0
  /** A request is being answered; a pipelined one waits. */
  #busy = false
  #closed = false
  #websocket: WebSocketPeer | undefined

  constructor(socket: PeerSocket, responder: Responder) {
    this.#socket = socket
    this.#responder = responder
  }

  close(): void {
    this.#closed = true
  }

  feed(chunk: Buffer): void {
    if (this.#closed) return
    if (this.#websocket !== undefined) {
      this.#websocket.feed(chunk)
      return
    }
    this.#buffer = this.#buffer.length > 0 ? Buffer.concat([this.#buffer, chunk]) : chunk
    this.#advance()
  }

  #advance(): void {
    while (!this.#closed && !this.#busy && this.#buffer.length > 0 && this.#step());
  }

  /** False when more bytes are needed. */
  #step(): boolean {
    switch (this.#state) {
      case 'head':
        return this.#readHead()
      case 'fixed': {
        this.#take(Math.min(this.#left, this.#buffer.length))
        if (this.#left === 0) this.#respond()
        return true
      }
      case 'chunk-size': {
        const line = this.#line()
        if (line === undefined) return false
        this.#left = Number.parseInt(line, 16)
        this.#state = this.#left === 0 ? 'trailers' : 'chunk-data'
        return true
      }
      case 'chunk-data': {
        if (this.#left > 0) {
          this.#take(Math.min(this.#left, this.#buffer.length))
          return true
        }
        if (this.#buffer.length < 2) return false
        this.#buffer = this.#buffer.subarray(2)
        this.#state = 'chunk-size'
        return true
      }
      case 'trailers': {
        const line = this.#line()
        if (line === undefined) return false
        if (line === '') this.#respond()
        return true
      }
      case 'upgraded':
        return false
    }
  }

  #line(): string | undefined {
    const end = this.#buffer.indexOf('\r\n')
    if (end < 0) return undefined
    const line = this.#buffer.toString('latin1', 0, end)
    this.#buffer = this.#buffer.subarray(end + 2)
    return line
  }

  #take(length: number): void {
    this.#body.add(this.#buffer.subarray(0, length))
    this.#buffer = this.#buffer.subarray(length)
    this.#left -= length
  }

  #readHead(): boolean {
    const end = this.#buffer.indexOf('\r\n\r\n')
    if (end < 0) return false
    const [start = '', ...lines] = this.#buffer.toString('latin1', 0, end).split('\r\n')
    this.#buffer = this.#buffer.subarray(end + 4)
    const [method = '', path = ''] = start.split(' ')
    const headers: Record<string, string> = Object.create(null)
    for (const line of lines) {
      const at = line.indexOf(':')
      const name = line.slice(0, at).toLowerCase()
      const value = line.slice(at + 1).trim()
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value
    }
    this.#head = { method, path, headers }
    this.#body = new BodyCapture(headers['content-type'], headers['content-encoding'])
    if (headers['upgrade'] !== undefined && /\bupgrade\b/i.test(headers['connection'] ?? '')) {
      this.#respond()
      return false
    }
    if (/^100-continue$/i.test(headers['expect'] ?? '')) this.#socket.send(Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'))
    const length = Number(headers['content-length'] ?? 0)
    if (/chunked/i.test(headers['transfer-encoding'] ?? '')) this.#state = 'chunk-size'
    else if (length > 0) {
      this.#left = length
      this.#state = 'fixed'
    } else this.#respond()
    return true
  }

  #respond(): void {
    const head = this.#head as Head
    const upgrade = head.headers['upgrade'] !== undefined && /\bupgrade\b/i.test(head.headers['connection'] ?? '')
    this.#busy = true
    this.#state = 'head'
    this.#answer({ ...head, upgrade, body: this.#body.finish() }).then(
      () => {
        this.#busy = false
        this.#advance()
      },
      (error: Error) => this.#socket.destroy(error),
    )
  }

  async #answer(exchange: Exchange): Promise<void> {
    const response = await this.#responder(exchange)
    if (this.#closed) return
    if (response.status === 101) this.#upgrade(exchange, response)
    else await this.#write(exchange, response)
  }

  async #write(exchange: Exchange, response: SimulatedResponse): Promise<void> {
    const headers: Record<string, string | string[]> = {}
    for (const [name, value] of Object.entries(response.headers ?? {})) headers[name.toLowerCase()] = value
    const bodiless = exchange.method === 'HEAD' || response.status === 204 || response.status === 304
    const close = /\bclose\b/i.test(`${exchange.headers['connection'] ?? ''} ${headers['connection'] ?? ''}`)
    headers['date'] ??= new Date().toUTCString()
    headers['connection'] ??= close ? 'close' : 'keep-alive'
    const { body } = response
    const streamed = isStream(body) ? body : undefined
    const bytes = typeof body === 'string' || body instanceof Uint8Array ? Buffer.from(body as string) : EMPTY
    // A relayed answer says itself how long it is.
    const sized = streamed !== undefined && headers['content-length'] !== undefined
    const chunked = !bodiless && !sized && (streamed !== undefined || response.trailers !== undefined)
    if (chunked) {
      headers['transfer-encoding'] = 'chunked'
      if (response.trailers !== undefined) headers['trailer'] = Object.keys(response.trailers).join(', ')
    } else if (!bodiless && !sized) headers['content-length'] ??= String(bytes.length)
    this.#socket.send(head(response.status, headers, response.reason))
    if (chunked) await this.#writeChunks(streamed ?? [bytes], response.trailers ?? {})
    else if (!bodiless && sized && streamed !== undefined) await this.#writePlain(streamed)
    else if (!bodiless && bytes.length > 0) this.#socket.send(bytes)
    if (close) this.#socket.send(null)
  }

  async #writePlain(chunks: AsyncIterable<string | Uint8Array>): Promise<void> {
    for await (const chunk of chunks) {
      if (this.#closed) return
      this.#socket.send(Buffer.from(chunk as string))
      await this.#socket.drained()
    }
  }

  async #writeChunks(
    chunks: AsyncIterable<string | Uint8Array> | Iterable<Uint8Array>,
    trailers: Readonly<Record<string, string>>,
  ): Promise<void> {
    for await (const chunk of chunks) {
      if (this.#closed) return
      const bytes = Buffer.from(chunk as string)
      if (bytes.length === 0) continue
      this.#socket.send(Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]))
      await this.#socket.drained()
    }
    const lines = Object.entries(trailers).map(([name, value]) => `${name}: ${value}\r\n`)
    this.#socket.send(Buffer.from(`0\r\n${lines.join('')}\r\n`, 'latin1'))
  }

  #upgrade(exchange: Exchange, response: SimulatedResponse): void {
    const protocol = exchange.headers['sec-websocket-protocol']
    this.#socket.send(
      head(101, {
        upgrade: exchange.headers['upgrade'] ?? 'websocket',
        connection: 'Upgrade',
        'sec-websocket-accept': acceptKey(exchange.headers['sec-websocket-key'] ?? ''),
        ...(protocol === undefined ? {} : { 'sec-websocket-protocol': (protocol.split(',')[0] ?? '').trim() }),
        ...response.headers,
      }),
    )
    this.#state = 'upgraded'
    this.#websocket = new WebSocketPeer((bytes) => this.#socket.send(bytes))
    if (this.#buffer.length > 0) this.#websocket.feed(this.#buffer)
    this.#buffer = EMPTY
  }
}

function isStream(body: SimulatedResponse['body']): body is AsyncIterable<string | Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}

function head(
  status: number,
  headers: Readonly<Record<string, string | string[]>>,
  reason = STATUS_CODES[status] ?? '',
): Buffer {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    (typeof value === 'string' ? [value] : value).map((each) => `${name}: ${each}\r\n`),
  )
  return Buffer.from(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n`, 'latin1')
}
