/** Building blocks of PostgreSQL's wire protocol, version 3.0. */

export const PROTOCOL_3 = 196_608
export const CANCEL_REQUEST = 80_877_102
export const SSL_REQUEST = 80_877_103

/** One message: a type byte, its length, its parts. The startup packet has no type. */
export function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

export function int16(value: number): Buffer {
  const buffer = Buffer.allocUnsafe(2)
  buffer.writeInt16BE(value > 0x7fff ? value - 0x10000 : value)
  return buffer
}

export function int32(value: number): Buffer {
  const buffer = Buffer.allocUnsafe(4)
  buffer.writeInt32BE(value | 0)
  return buffer
}

/** @throws when the text has a NUL, which would end it early and make the rest something else. */
export function cstring(text: string): Buffer {
  if (text.includes('\0')) throw new TypeError('a text with a NUL character cannot be sent to PostgreSQL')
  return Buffer.from(`${text}\0`)
}

/** A value with its length in front; -1 stands for NULL. */
export function lengthPrefixed(value: unknown): Buffer {
  if (value === null || value === undefined) return int32(-1)
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(String(value))
  return Buffer.concat([int32(bytes.length), bytes])
}

/** Reads the fields of one whole message. */
export class Reader {
  readonly #buffer: Buffer
  #at: number

  constructor(buffer: Buffer, at = 5) {
    this.#buffer = buffer
    this.#at = at
  }

  get done(): boolean {
    return this.#at >= this.#buffer.length
  }

  int16(): number {
    const value = this.#buffer.readUInt16BE(this.#at)
    this.#at += 2
    return value
  }

  int32(): number {
    const value = this.#buffer.readInt32BE(this.#at)
    this.#at += 4
    return value
  }

  uint32(): number {
    return this.int32() >>> 0
  }

  character(): string {
    return String.fromCharCode(this.#buffer.readUInt8(this.#at++))
  }

  string(): string {
    const end = this.#buffer.indexOf(0, this.#at)
    if (end < 0) throw new RangeError('a text without its end')
    const text = this.#buffer.toString('utf8', this.#at, end)
    this.#at = end + 1
    return text
  }

  /** A text with its length in front. */
  value(): string | null {
    const length = this.int32()
    if (length < 0) return null
    if (this.#at + length > this.#buffer.length) throw new RangeError('a value longer than its message')
    const text = this.#buffer.toString('utf8', this.#at, this.#at + length)
    this.#at += length
    return text
  }
}

/** Cuts a stream of bytes into messages. */
export class Splitter {
  #chunks: Buffer[] = []
  #length = 0
  #untyped: boolean

  /** @param untyped the first message is a startup packet, which has no type byte */
  constructor(untyped: boolean) {
    this.#untyped = untyped
  }

  feed(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const found: Buffer[] = []
    for (;;) {
      const header = this.#untyped ? 4 : 5
      if (this.#length < header) return found
      const first = this.#first(header)
      const size = first.readUInt32BE(header - 4) + header - 4
      if (this.#length < size) return found
      const whole = this.#first(size)
      found.push(whole.subarray(0, size))
      this.#chunks = whole.length > size ? [whole.subarray(size)] : this.#chunks.slice(1)
      this.#length -= size
      this.#untyped = false
    }
  }

  /** The first chunk, grown to hold this many bytes. */
  #first(size: number): Buffer {
    const [first] = this.#chunks
    if (first !== undefined && first.length >= size) return first
    const all = Buffer.concat(this.#chunks)
    this.#chunks = [all]
    return all
  }
}
