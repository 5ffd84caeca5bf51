import { Buffer } from 'node:buffer'
import net from 'node:net'
import { type Responder, WirePeer } from './wire-peer.js'

/** Where the connection would have gone. */
export interface Endpoint {
  readonly host: string
  readonly servername?: string
}

type WriteCallback = (error?: Error | null) => void

interface SocketInternals {
  connecting: boolean
  _unrefTimer(): void
}

/**
 * A genuine `net.Socket` that was never connected and has no handle; its peer
 * is an HTTP/1.1 responder in this process. Node's own client code runs on it
 * unchanged, so callers get genuine requests, responses, streams, timeouts
 * and aborts. Not an `http.Server`: server instrumentation would see it.
 */
export class SimulatedSocket extends net.Socket {
  readonly #peer: WirePeer
  #outgoing: (Buffer | null)[] = []
  #wantsRead = false
  #scheduled = false
  #drained: (() => void) | undefined

  constructor(responder: Responder) {
    super({ allowHalfOpen: false })
    this.#internals.connecting = true
    this.#peer = new WirePeer(
      {
        send: (bytes) => this.#send(bytes),
        drained: () => this.#whenDrained(),
        destroy: (error) => this.destroy(error),
      },
      responder,
    )
    // 'socket' listeners must still see `connecting`, and 'connect' must come after them.
    setImmediate(() => this.#connected())
  }

  get #internals(): SocketInternals {
    return this as unknown as SocketInternals
  }

  #connected(): void {
    if (this.destroyed) return
    this.#internals.connecting = false
    this.emit('connect')
    this.emit('ready')
    this.afterConnect()
    this.read(0)
    this.#schedule()
  }

  /** TLS goes on from here. */
  protected afterConnect(): void {}

  /** True while a write has to wait for the (simulated) handshake. */
  protected isConnecting(): boolean {
    return this.connecting
  }

  protected readyEvent(): string {
    return 'connect'
  }

  override address(): net.AddressInfo {
    return { address: '127.0.0.1', family: 'IPv4', port: 0 }
  }
  override connect(): this {
    return this
  }
  override ref(): this {
    return this
  }
  override unref(): this {
    return this
  }

  override _read(): void {
    this.#wantsRead = true
    this.#schedule()
  }

  /** Bytes never arrive inside the caller's own write(): a real socket is never re-entrant. */
  #schedule(): void {
    if (this.#scheduled || this.connecting || !(this.#outgoing.length > 0 || this.#drained !== undefined)) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#pump()
    })
  }

  #pump(): void {
    while (this.#wantsRead && this.#outgoing.length > 0) {
      const chunk = this.#outgoing.shift() ?? null
      if (!this.push(chunk)) this.#wantsRead = false
      if (chunk === null) return
      this.#internals._unrefTimer()
    }
    if (this.#drained !== undefined && this.#outgoing.length === 0) {
      const drained = this.#drained
      this.#drained = undefined
      drained()
    }
  }

  #send(bytes: Buffer | null): void {
    if (this.destroyed) return
    this.#outgoing.push(bytes)
    this.#schedule()
  }

  #whenDrained(): Promise<void> {
    if (this.#outgoing.length === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#drained = resolve
    })
  }

  /** What `net.Socket` writes through, for single chunks and for corked ones. */
  _writeGeneric(writev: boolean, data: unknown, encoding: BufferEncoding, callback: WriteCallback): void {
    if (this.isConnecting()) {
      const closed = () => callback(new Error('Socket closed before the connection was established'))
      this.once(this.readyEvent(), () => {
        this.off('close', closed)
        this._writeGeneric(writev, data, encoding, callback)
      })
      this.once('close', closed)
      return
    }
    this.#internals._unrefTimer()
    if (writev) {
      for (const { chunk, encoding: each } of data as { chunk: string | Buffer; encoding: BufferEncoding }[]) {
        this.#peer.feed(typeof chunk === 'string' ? Buffer.from(chunk, each) : chunk)
      }
    } else {
      this.#peer.feed(typeof data === 'string' ? Buffer.from(data, encoding) : (data as Buffer))
    }
    callback()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#peer.close()
    super._destroy(error, callback)
  }
}

// Accessors of net.Socket that its types call properties. No peer answered, so none is named:
// instrumentation would report it as `network.peer.address`.
Object.defineProperties(SimulatedSocket.prototype, {
  pending: {
    configurable: true,
    get(this: SimulatedSocket) {
      return this.connecting
    },
  },
  remoteAddress: { configurable: true, get: () => undefined },
  remoteFamily: { configurable: true, get: () => undefined },
  remotePort: { configurable: true, get: () => undefined },
  localAddress: { configurable: true, get: () => '127.0.0.1' },
  localPort: { configurable: true, get: () => 0 },
})

/** The same over TLS: clients look at these facts before they send. */
export class SimulatedTlsSocket extends SimulatedSocket {
  readonly encrypted = true
  readonly authorized = true
  readonly authorizationError = null
  readonly alpnProtocol = false
  readonly servername: string
  secureConnecting = true

  constructor(endpoint: Endpoint, responder: Responder) {
    super(responder)
    this.servername = endpoint.servername ?? endpoint.host
  }

  protected override afterConnect(): void {
    this.secureConnecting = false
    this.emit('secure')
    this.emit('secureConnect')
  }
  protected override isConnecting(): boolean {
    return this.connecting || this.secureConnecting
  }
  protected override readyEvent(): string {
    return 'secureConnect'
  }

  getPeerCertificate(): object {
    return {}
  }
  getCertificate(): object {
    return {}
  }
  getCipher(): object {
    return { name: 'TLS_AES_256_GCM_SHA384', standardName: 'TLS_AES_256_GCM_SHA384', version: 'TLSv1.3' }
  }
  getProtocol(): string {
    return 'TLSv1.3'
  }
  getEphemeralKeyInfo(): object {
    return {}
  }
  getSharedSigalgs(): string[] {
    return []
  }
  getPeerX509Certificate(): undefined {}
  getX509Certificate(): undefined {}
  getSession(): undefined {}
  getTLSTicket(): undefined {}
  getFinished(): undefined {}
  getPeerFinished(): undefined {}
  isSessionReused(): boolean {
    return false
  }
  renegotiate(_options: unknown, callback?: (error: Error | null) => void): boolean {
    if (callback !== undefined) process.nextTick(callback, null)
    return true
  }
  setMaxSendFragment(): boolean {
    return true
  }
  setServername(): void {}
  setSession(): void {}
  setKeyCert(): void {}
  disableRenegotiation(): void {}
  enableTrace(): void {}
  exportKeyingMaterial(): Buffer {
    return Buffer.alloc(0)
  }
}
