import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'

/** RFC 6455, 4.2.2. */
export function acceptKey(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
}

const OPCODE_CLOSE = 8
const OPCODE_PING = 9

/** A WebSocket peer that swallows data frames and answers ping and close (RFC 6455, 5.5). */
export class WebSocketPeer {
  readonly #send: (bytes: Buffer | null) => void
  #buffer: Buffer = Buffer.alloc(0)

  constructor(send: (bytes: Buffer | null) => void) {
    this.#send = send
  }

  feed(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk])
    while (this.#frame());
  }

  #frame(): boolean {
    const bytes = this.#buffer
    if (bytes.length < 2) return false
    const short = (bytes[1] as number) & 0x7f
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0
    if (bytes.length < 2 + extended) return false
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
    const masked = ((bytes[1] as number) & 0x80) !== 0
    const start = 2 + extended + (masked ? 4 : 0)
    if (bytes.length < start + length) return false
    const data = Buffer.from(bytes.subarray(start, start + length))
    if (masked)
      for (let i = 0; i < length; i += 1) data[i] = (data[i] as number) ^ (bytes[2 + extended + (i & 3)] as number)
    const opcode = (bytes[0] as number) & 0x0f
    this.#buffer = bytes.subarray(start + length)
    if (opcode === OPCODE_CLOSE) {
      this.#send(Buffer.concat([Buffer.from([0x88, data.length]), data]))
      this.#send(null)
    } else if (opcode === OPCODE_PING) this.#send(Buffer.concat([Buffer.from([0x8a, data.length]), data]))
    return true
  }
}
