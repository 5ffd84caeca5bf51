import { EventEmitter } from 'node:events'

/** Bytes of the server's and the client's message kinds. */
const COPY_DATA = 0x64
const COPY_DONE = 0x63
const COPY_FAIL = 0x66
const COPY_OUT_RESPONSE = 0x48
const HEADER = 5

/** Bytes copied in without letting other work happen in between. */
const MAX_COPIED_AT_ONCE = 256 * 1024
/** Bytes waiting for a slow reader before the server is told to wait. */
const MAX_WAITING = 256 * 1024

/** Who takes what the application copies in. */
export interface CopyTarget {
  data(chunk: Buffer): void
  done(): void
  fail(message: string): void
}

/** What the stream of a connection has to do for data that is copied out. */
export interface CopySource {
  pause(): void
  resume(): void
  /** All data has been read; the command tag is next. */
  drained(): void
  /** False when data that is copied in can be taken on; else calls back once when it can. */
  full(free: () => void): boolean
}

/**
 * Stands for a connection's socket towards a COPY stream, which reads and
 * writes raw messages there. Nothing of it reaches the server by itself.
 */
export class CopyStream extends EventEmitter {
  readonly writable = true
  readonly destroyed = false
  target: CopyTarget | undefined
  readonly #source: CopySource
  #incoming: Buffer = Buffer.alloc(0)
  /** Bytes of the message under way that have not come yet. */
  #missing = 0
  #atOnce = 0
  #outgoing: Buffer[] = []
  #waiting = 0
  #paused = false

  constructor(source: CopySource) {
    super()
    this.#source = source
    // A COPY TO stream takes the parser's place, and hands it back when the data has ended.
    this.on('data', () => this.#source.drained())
  }

  cork(): void {}
  uncork(): void {}
  pause(): this {
    return this
  }
  resume(): this {
    return this
  }

  /** Takes raw messages of the client. False, as of a socket, when the caller should wait for `drain`. */
  write(chunk: Buffer | string, encoding?: unknown, callback?: unknown): boolean {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    this.#parse(bytes)
    const done = typeof encoding === 'function' ? encoding : callback
    if (typeof done === 'function') process.nextTick(done as () => void)
    const free = (): void => void this.emit('drain')
    if (this.#source.full(free)) return false
    this.#atOnce += bytes.length
    if (this.#atOnce < MAX_COPIED_AT_ONCE) return true
    setImmediate(() => {
      this.#atOnce = 0
      free()
    })
    return false
  }

  #parse(bytes: Buffer): void {
    let rest = bytes
    while (rest.length > 0) {
      if (this.#missing > 0) {
        const part = rest.subarray(0, this.#missing)
        this.#missing -= part.length
        rest = rest.subarray(part.length)
        this.target?.data(part)
        continue
      }
      const head = this.#incoming.length === 0 ? rest : Buffer.concat([this.#incoming, rest])
      this.#incoming = Buffer.alloc(0)
      if (head.length < HEADER) {
        this.#incoming = head
        return
      }
      const code = head[0]
      const length = head.readUInt32BE(1) - 4
      if (code === COPY_DATA) {
        this.#missing = length
        rest = head.subarray(HEADER)
      } else if (code === COPY_DONE) {
        rest = head.subarray(HEADER)
        this.target?.done()
      } else if (code === COPY_FAIL) {
        if (head.length < HEADER + length) {
          this.#incoming = head
          return
        }
        rest = head.subarray(HEADER + length)
        this.target?.fail(head.toString('utf8', HEADER, HEADER + length - 1))
      } else {
        throw new TypeError('dry run: a COPY stream wrote something else than data to its connection')
      }
    }
  }

  /** Data of the server on its way out. */
  push(chunk: Buffer): void {
    const header = Buffer.alloc(HEADER)
    header[0] = COPY_DATA
    header.writeUInt32BE(chunk.length + 4, 1)
    this.#put(header, chunk)
    if (this.#waiting > MAX_WAITING && !this.#paused) {
      this.#paused = true
      this.#source.pause()
    }
  }

  /** The server has sent all there is. */
  end(): void {
    this.#put(Buffer.from([COPY_DONE, 0, 0, 0, 4]))
  }

  /** For a COPY that is not executed. */
  empty(): void {
    this.#put(Buffer.from([COPY_OUT_RESPONSE, 0, 0, 0, 7, 0, 0, 0]))
    this.end()
  }

  #put(...chunks: Buffer[]): void {
    for (const chunk of chunks) {
      this.#outgoing.push(chunk)
      this.#waiting += chunk.length
    }
    // As from a socket: never while the reader is inside a call of its own.
    setImmediate(() => this.emit('readable'))
  }

  read(): Buffer | null {
    const chunk = this.#outgoing.shift()
    if (chunk === undefined) return null
    this.#waiting -= chunk.length
    if (this.#paused && this.#waiting < MAX_WAITING / 2) {
      this.#paused = false
      this.#source.resume()
    }
    return chunk
  }
}
