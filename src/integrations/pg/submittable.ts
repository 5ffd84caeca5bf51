import { EventEmitter } from 'node:events'
import { DryTraceError } from '../../errors.js'
import { CopyStream, type CopyTarget } from './copy-stream.js'
import type { CommandComplete, PgConnection, PgQuery, RowDescription, WireResult } from './driver.js'

/** Events of a connection that answer what this query itself has sent. */
const OWN_EVENTS = new Set(['noData', 'rowDescription', 'readyForQuery'])
const LISTENING = new Set(['on', 'once', 'off', 'addListener', 'removeListener', 'prependListener'])
const SENDING = /^(_send|startup|password|requestSsl|cancel|send[A-Z].*|connect|upgradeToSSL)$/

interface Portal {
  readonly name: string
  readonly binary: boolean
}

interface Bind {
  readonly portal?: string
  readonly statement?: string
  readonly binary?: boolean
}

interface Simulated {
  readonly fields: RowDescription | undefined
  readonly rows: (string | null)[][]
  readonly tag: string
  /** The row to be read next. */
  next: number
}

/** What is to be known of the target beforehand. */
export interface SubmittableShape {
  readonly copiesIn: boolean
  readonly copiesOut: boolean
}

/**
 * A cursor, query stream or COPY stream as the rest of the integration sees
 * it: like a query of pg's own. Towards the object it plays the connection:
 * what it sends waits until it is known who answers, the server behind a
 * fence or a simulated result, which is then read in portions as a portal is.
 */
export class Submittable implements PgQuery {
  text: unknown
  values: unknown
  types: unknown
  readonly name = undefined
  readonly shape: SubmittableShape
  readonly #target: PgQuery
  readonly #originalSubmit: PgQuery['submit']
  readonly #inCaller: <T>(fn: () => T) => T
  readonly #events = new EventEmitter()
  readonly #stream: CopyStream
  #real: PgConnection | undefined
  #virtual: PgConnection | undefined
  /** Where messages go while the server answers. */
  #view: PgConnection | undefined
  #parsed: string | undefined
  #portal: Portal | undefined
  #describe: 'no' | 'asked' | 'answered' = 'no'
  /** Rows asked for by an Execute that has no answer yet; 0 is all. */
  #wanted: number | undefined
  #closed = false
  #synced = false
  #tag: CommandComplete | undefined
  #result: Simulated | undefined
  #pumping = false
  #settle: () => void = () => undefined
  readonly #settled = new Promise<void>((resolve) => {
    this.#settle = resolve
  })

  constructor(target: PgQuery, submit: PgQuery['submit'], inCaller: <T>(fn: () => T) => T) {
    this.#target = target
    this.#originalSubmit = submit
    this.#inCaller = inCaller
    this.shape = shapeOf(target)
    const told = sayOf(target)
    this.text = told.text
    this.values = told.values
    this.#stream = new CopyStream({
      pause: () => this.#real?.stream.pause(),
      resume: () => this.#real?.stream.resume(),
      drained: () => this.#copiedOut(),
      full: (free) => {
        const full = this.#view !== undefined && this.#real?.stream.writableNeedDrain === true
        if (full) this.#real?.stream.once('drain', free)
        return full
      },
    })
    this.#events.setMaxListeners(0)
  }

  /** Why it cannot be guarded, if it cannot. */
  whyRefused(): string | undefined {
    const name = this.#target.constructor.name
    if (typeof this.text !== 'string') return `${name} does not say which statement it sends`
    if (this.shape.copiesIn && this.shape.copiesOut) return `${name} (COPY in both directions) is not supported`
    return undefined
  }

  /** Several statements cannot be sent by a portal. */
  requiresPreparation(): boolean {
    return true
  }

  /** Lets the object send itself; nothing leaves yet. The error, if it refuses. */
  begin(connection: PgConnection): Error | undefined {
    this.#real = connection
    this.#virtual = this.#connection(connection)
    const virtual = this.#virtual
    const refused = this.#inCaller(() => this.#originalSubmit.call(this.#target, virtual))
    if (refused) return refused
    if (this.#parsed === undefined)
      return new DryTraceError('DRY_BLOCKED', 'dry run: it sent no statement when it was to')
    return undefined
  }

  /** Sends on, over a fenced connection, what has waited so far, and then what comes. */
  submit(view: PgConnection): null {
    this.#view = view
    const name = this.#portal?.name ?? ''
    view.parse({ text: String(this.text), name: '', ...(Array.isArray(this.types) ? { types: this.types } : {}) })
    view.bind({
      portal: name,
      statement: '',
      values: (this.values as unknown[] | undefined) ?? [],
      ...(this.#portal?.binary ? { binary: true } : {}),
    })
    this.#real?.off('noData', this.#noData).on('noData', this.#noData)
    if (this.#describe === 'asked') view.describe({ type: 'P', name })
    if (this.#wanted !== undefined) view.execute({ portal: name, rows: this.#wanted })
    if (this.#synced) this.#sync()
    else view.flush()
    return null
  }

  readonly #noData = (): void => {
    if (this.#describe !== 'asked') return
    this.#describe = 'answered'
    this.#inCaller(() => this.#events.emit('noData'))
  }

  #sync(): void {
    if (this.#closed) this.#view?.close({ type: 'P', name: this.#portal?.name ?? '' })
    this.#view?.sync()
  }

  /** The server does not answer any more: this does. */
  answer({ fields, rows, tag }: WireResult): void {
    this.#view = undefined
    this.#result = { fields, rows: (rows ?? []).map((row) => [...row]), next: 0, tag }
    this.#pump()
  }

  /** Until the object has read what is there for it as far as it wants to, or the connection is lost. */
  async settled(gone: Promise<void>): Promise<void> {
    // The server's rows have all gone before its ReadyForQuery; data that is copied out waits for its reader.
    const waits = this.#result !== undefined || (this.shape.copiesOut && this.#tag !== undefined)
    if (waits) await Promise.race([this.#settled, gone])
  }

  /** Takes what the application copies in, up to its end, its failure (the message), or the loss of the connection. */
  async receive(onData: (chunk: Buffer) => boolean, gone: Promise<void>): Promise<{ failed?: string }> {
    return await new Promise((resolve) => {
      void gone.then(() => resolve({}))
      this.#stream.target = {
        data: (chunk) => {
          if (onData(chunk)) return
          this.#stream.target = undefined
          resolve({})
        },
        done: () => resolve({}),
        fail: (failed) => resolve({ failed }),
      }
      const virtual = this.#virtual
      if (virtual !== undefined) this.#inCaller(() => this.#target.handleCopyInResponse(virtual))
    })
  }

  #pump(): void {
    if (this.#pumping || this.#result === undefined) return
    this.#pumping = true
    // As from a socket: never while the object is inside a call of its own.
    setImmediate(() => {
      this.#pumping = false
      if (this.#step()) this.#pump()
    })
  }

  /** Answers one message. False when there is none to answer. */
  #step(): boolean {
    const result = this.#result
    if (result === undefined) return false
    if (this.shape.copiesOut) {
      this.#tag = { name: 'commandComplete', text: result.tag }
      this.#stream.empty()
      return false
    }
    if (this.#describe === 'asked') {
      if (result.fields === undefined) this.#noData()
      else this.handleRowDescription(result.fields)
      return true
    }
    if (this.#wanted !== undefined) {
      this.#deliverRows(result, this.#wanted)
      return true
    }
    if (this.#synced) this.#settle()
    return false
  }

  #deliverRows(result: Simulated, wanted: number): void {
    const end = wanted > 0 ? result.next + wanted : result.rows.length
    const rows = result.rows.slice(result.next, end)
    result.next += rows.length
    for (const fields of rows) this.handleDataRow({ fields })
    // A portal that has given as many rows as it was asked for does not know yet whether there are more.
    if (wanted > 0 && rows.length === wanted) this.handlePortalSuspended()
    else this.handleCommandComplete({ name: 'commandComplete', text: result.tag })
  }

  #copiedOut(): void {
    const tag = this.#tag
    if (tag === undefined) return
    this.#tag = undefined
    this.#call((target, connection) => target.handleCommandComplete(tag, connection))
    this.#settle()
  }

  #call(fn: (target: PgQuery, connection: PgConnection) => void): void {
    const virtual = this.#virtual
    if (virtual !== undefined) this.#inCaller(() => fn(this.#target, virtual))
  }

  handleRowDescription(message: RowDescription): void {
    this.#describe = 'answered'
    this.#call((target) => target.handleRowDescription?.(message))
    this.#inCaller(() => this.#events.emit('rowDescription', message))
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    this.#call((target) => target.handleDataRow?.(message))
  }

  handlePortalSuspended(): void {
    this.#wanted = undefined
    this.#call((target, connection) => target.handlePortalSuspended?.(connection))
  }

  handleEmptyQuery(): void {
    this.#wanted = undefined
    this.#call((target, connection) => target.handleEmptyQuery?.(connection))
  }

  handleCommandComplete(message: CommandComplete): void {
    this.#wanted = undefined
    if (this.shape.copiesOut) {
      this.#tag = message
      this.#stream.end()
      return
    }
    this.#call((target, connection) => target.handleCommandComplete?.(message, connection))
  }

  /** Only where a policy rule lets the COPY happen: its data goes to the server. */
  handleCopyInResponse(): void {
    const view = this.#view
    if (view === undefined) return
    this.#stream.target = {
      data: (chunk) => view.sendCopyFromChunk(chunk),
      done: () => {
        view.endCopyFrom()
        view.sync()
      },
      fail: (message) => {
        view.sendCopyFail(message)
        view.sync()
      },
    }
    this.#call((target, connection) => target.handleCopyInResponse(connection))
  }

  handleCopyData(message: { chunk?: Buffer }): void {
    if (!this.shape.copiesOut) {
      this.#call((target, connection) => target.handleCopyData?.(message, connection))
      return
    }
    // The parser's buffer is reused.
    if (message.chunk !== undefined) this.#stream.push(Buffer.from(message.chunk))
  }

  handleError(error: Error): void {
    this.#finish((target, connection) => target.handleError(error, connection))
  }

  handleReadyForQuery(): void {
    this.#finish((target, connection) => target.handleReadyForQuery?.(connection))
  }

  #finish(fn: (target: PgQuery, connection: PgConnection) => void): void {
    this.#real?.off('noData', this.#noData)
    this.#view = undefined
    this.#call(fn)
    this.#inCaller(() => this.#events.emit('readyForQuery'))
  }

  #parse(text: string): void {
    if (this.#parsed !== undefined) throw new DryTraceError('DRY_BLOCKED', 'dry run: only one statement can be sent')
    if (text !== this.text) throw new DryTraceError('DRY_BLOCKED', 'dry run: it sends another text than it says')
    this.#parsed = text
  }

  #bind({ portal = '', statement, binary = false }: Bind): void {
    if (statement || this.#portal !== undefined) {
      throw new DryTraceError('DRY_BLOCKED', 'dry run: only its own statement can be bound, once')
    }
    this.#portal = { name: portal, binary }
  }

  #connection(real: PgConnection): PgConnection {
    const own: Record<string, unknown> = {
      stream: this.#stream,
      parse: ({ text }: { text: string }) => this.#parse(text),
      bind: (message: Bind) => this.#bind(message),
      describe: (message: { type: 'S' | 'P'; name?: string }) => {
        this.#describe = 'asked'
        this.#view?.describe(message)
        this.#pump()
      },
      execute: (message: { rows?: number }) => {
        this.#wanted = message.rows ?? 0
        this.#view?.execute({ portal: this.#portal?.name ?? '', rows: this.#wanted })
        this.#pump()
      },
      flush: () => this.#view?.flush(),
      close: () => {
        this.#closed = true
      },
      sync: () => {
        if (this.#synced) return
        this.#synced = true
        this.#sync()
        this.#pump()
      },
      query: (text: string) => {
        this.#parse(text)
        this.#describe = 'asked'
        this.#wanted = 0
        // Within copied data a Sync would be lost.
        this.#synced = !this.shape.copiesIn
      },
      sendCopyFromChunk: (chunk: Buffer) => (this.#stream.target as CopyTarget | undefined)?.data(chunk),
      endCopyFrom: () => this.#stream.target?.done(),
      sendCopyFail: (message: string) => this.#stream.target?.fail(message),
    }
    const events = this.#events
    return new Proxy(real, {
      get(target, key, receiver) {
        const name = String(key)
        if (Object.hasOwn(own, name)) return own[name]
        if (SENDING.test(name)) {
          return () => {
            throw new DryTraceError('DRY_BLOCKED', `dry run: ${name} is not supported`)
          }
        }
        const value = Reflect.get(target, key) as unknown
        if (typeof value !== 'function') return value
        if (!LISTENING.has(name)) return value.bind(target)
        return (event: string, listener: () => void) => {
          const emitter = OWN_EVENTS.has(event) ? events : target
          Reflect.apply(Reflect.get(emitter, key) as () => void, emitter, [event, listener])
          return receiver
        }
      },
    })
  }
}

function shapeOf(target: PgQuery): SubmittableShape {
  const { _read, _write, _attach } = target as { _read?: unknown; _write?: unknown; _attach?: unknown }
  return {
    copiesIn: typeof _write === 'function' && typeof target.handleCopyInResponse === 'function',
    // It reads the data off the socket itself.
    copiesOut: typeof _read === 'function' && typeof _attach === 'function',
  }
}

/** The statement, as far as the object says it before it is sent. A query stream has a cursor that does. */
function sayOf(target: PgQuery): { text: unknown; values: unknown } {
  const { cursor } = target as { cursor?: { text?: unknown; values?: unknown } }
  const holder = typeof target.text === 'string' ? target : (cursor ?? target)
  return { text: holder.text, values: holder.values ?? undefined }
}
