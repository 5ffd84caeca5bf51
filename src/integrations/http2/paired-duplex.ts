import { Duplex } from 'node:stream'

type Callback = (error?: Error | null) => void

/**
 * One end of an in-memory connection. Every chunk crosses by `setImmediate`:
 * with `stream.duplexPair` a whole exchange runs inside one call stack, and the
 * client stream is closed before its 'response' listener can attach a reader.
 */
class PairedDuplex extends Duplex {
  other: PairedDuplex | undefined
  #written: Callback | undefined

  override _read(): void {
    const written = this.#written
    this.#written = undefined
    written?.()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    setImmediate(() => {
      if (this.other === undefined || this.other.destroyed || chunk.length === 0) return callback()
      this.other.#written = callback
      this.other.push(chunk)
    })
  }

  override _final(callback: Callback): void {
    setImmediate(() => {
      this.other?.push(null)
      callback()
    })
  }
}

export function pairedDuplexes(): [Duplex, Duplex] {
  const near = new PairedDuplex()
  const far = new PairedDuplex()
  near.other = far
  far.other = near
  return [near, far]
}
