import type { EffectDetail } from '../../guard/effect.js'
import type { Decision, Guard } from '../../guard/guard.js'
import { HEADER_FLAG } from '../../semconv.js'
import { BodyCapture } from '../http/body-capture.js'
import type { GrpcCall } from './grpc-call.js'

/** `Metadata` of the same copy of the library. */
export interface Metadata {
  get(name: string): (string | Buffer)[]
  set(name: string, value: string): void
  remove(name: string): void
  clone(): Metadata
}

export interface StatusObject {
  readonly code: number
  readonly details: string
  readonly metadata: Metadata
}

export interface CallListener {
  onReceiveMetadata(metadata: Metadata): void
  onReceiveMessage(message: Buffer): void
  onReceiveStatus(status: StatusObject): void
}

/** What `Channel.createCall` returns. */
export interface ChannelCall {
  start(metadata: Metadata, listener: CallListener): void
  sendMessageWithContext(context: { callback?: (error?: Error) => void }, message: Buffer): void
  startRead(): void
  halfClose(): void
  cancelWithStatus(code: number, details: string): void
  setCredentials(credentials: unknown): void
  getPeer(): string
  getCallNumber(): number
  getDeadlineInfo(): string[]
  getAuthContext(): unknown
}

const OK = 0
/** Not retried, by the library or by service configs. */
const FAILED_PRECONDITION = 9
/** Messages that are shown in the report. */
const MAX_SHOWN = 20

export interface SimulatedCallOptions {
  readonly guard: Guard
  readonly decision: Decision
  readonly call: GrpcCall
  readonly deadline: number | Date
  readonly newMetadata: () => Metadata
}

/**
 * The call below the library's interceptors, metadata, (de)serialisation and
 * deadlines, which stay genuine. The channel is never asked to connect. The
 * answer is OK with a message of zero bytes, which is every field at its
 * default; a response stream gets no message.
 */
export class SimulatedCall implements ChannelCall {
  readonly #options: SimulatedCallOptions
  readonly #body = new BodyCapture('application/grpc')
  readonly #shown: unknown[] = []
  #listener: CallListener | undefined
  #timer: NodeJS.Timeout | undefined
  #count = 0
  #done = false

  constructor(options: SimulatedCallOptions) {
    this.#options = options
  }

  start(_metadata: Metadata, listener: CallListener): void {
    this.#listener = listener
    const { decision, deadline } = this.#options
    if (decision.error !== undefined) {
      setImmediate(() => this.#finish())
      return
    }
    const left = Number(deadline) - Date.now()
    if (left < 2 ** 31) this.#timer = setTimeout(() => this.cancelWithStatus(4, 'Deadline exceeded'), Math.max(left, 0))
    this.#timer?.unref()
  }

  sendMessageWithContext(context: { callback?: (error?: Error) => void }, message: Buffer): void {
    this.#body.add(message)
    this.#count += 1
    if (this.#shown.length < MAX_SHOWN) this.#shown.push(this.#read(message))
    process.nextTick(() => context.callback?.())
  }

  halfClose(): void {
    // Never inside the caller's own call.
    setImmediate(() => this.#finish())
  }

  cancelWithStatus(code: number, details: string): void {
    if (this.#done) return
    this.#end()
    const { guard, decision, newMetadata } = this.#options
    try {
      guard.record(decision, { ...this.#detail(), note: `the caller gave up before the call was whole: ${details}` })
    } catch (error) {
      guard.fail(decision, error)
    }
    process.nextTick(() => this.#listener?.onReceiveStatus({ code, details, metadata: newMetadata() }))
  }

  startRead(): void {}
  setCredentials(): void {}
  getPeer(): string {
    return 'dry-run'
  }
  getCallNumber(): number {
    return 0
  }
  getDeadlineInfo(): string[] {
    return []
  }
  getAuthContext(): null {
    return null
  }

  #finish(): void {
    if (this.#done) return
    this.#end()
    const { guard, decision } = this.#options
    if (decision.error !== undefined) {
      try {
        guard.record(decision, this.#detail())
        this.#fail(decision.error)
      } catch (error) {
        this.#fail(error as Error)
      }
      return
    }
    let messages: Buffer[]
    try {
      const ids: string[] = []
      messages = this.#messages(ids)
      guard.record(decision, {
        ...this.#detail(),
        fidelity: decision.respond?.json === undefined ? 'empty' : 'plausible',
        syntheticIds: ids,
      })
    } catch (error) {
      this.#fail(guard.fail(decision, error))
      return
    }
    this.#answer(messages, OK, 'OK')
  }

  #fail(error: Error): void {
    const { code } = error as { code?: string }
    this.#answer([], FAILED_PRECONDITION, code === undefined ? error.message : `${code}: ${error.message}`)
  }

  #answer(messages: readonly Buffer[], code: number, details: string): void {
    const { newMetadata } = this.#options
    const metadata = newMetadata()
    metadata.set(HEADER_FLAG, 'blocked')
    this.#listener?.onReceiveMetadata(metadata)
    for (const message of messages) this.#listener?.onReceiveMessage(message)
    this.#listener?.onReceiveStatus({ code, details, metadata: newMetadata() })
  }

  #end(): void {
    this.#done = true
    clearTimeout(this.#timer)
  }

  /** A rule's `json`: the message, or for a response stream the list of messages. */
  #messages(ids: string[]): Buffer[] {
    const { call, decision, guard } = this.#options
    const json = decision.respond?.json
    const one = call.kind === 'unary' || call.kind === 'client-stream'
    if (json === undefined) return one ? [Buffer.alloc(0)] : []
    const serialize = call.definition?.responseSerialize
    if (serialize === undefined) throw new Error(`${call.path} has no definition to make its answer with`)
    const make = () => {
      const id = guard.syntheticId(decision.run, 'string')
      ids.push(id)
      return id
    }
    const list = one || !Array.isArray(json) ? [json] : json
    return list.map((message) => serialize(fill(message, make)))
  }

  #read(message: Buffer): unknown {
    try {
      const read = this.#options.call.definition?.requestDeserialize?.(message)
      return read === undefined ? undefined : JSON.parse(JSON.stringify(read, plain))
    } catch {
      return undefined
    }
  }

  #detail(): EffectDetail {
    const { digest, size } = this.#body.finish()
    const shown = this.#shown.filter((message) => message !== undefined)
    const excerpt = this.#count === 1 ? shown[0] : shown.length > 0 ? shown : undefined
    return {
      preview: { method: 'synthesized', rows: 1, diff: [] },
      payload: {
        digest,
        size,
        contentType: 'application/grpc',
        excerpt: excerpt ?? `[${size} bytes in ${this.#count} messages]`,
      },
    }
  }
}

/** `{{syntheticId}}` in the strings of a rule's answer. */
function fill(value: unknown, id: () => string): unknown {
  if (typeof value === 'string') return value.replace(/\{\{\s*syntheticId\s*\}\}/g, id)
  if (Array.isArray(value)) return value.map((item) => fill(item, id))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, id)]))
}

/** 64-bit integers (`Long`) and bytes as people read them. */
function plain(_name: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const { low, high, unsigned, type, data } = value as Record<string, unknown>
  if (typeof low === 'number' && typeof high === 'number' && typeof unsigned === 'boolean') {
    const bits = (BigInt(high) << 32n) | BigInt(low >>> 0)
    return String(unsigned ? BigInt.asUintN(64, bits) : bits)
  }
  return type === 'Buffer' && Array.isArray(data) ? `[${data.length} bytes]` : value
}
