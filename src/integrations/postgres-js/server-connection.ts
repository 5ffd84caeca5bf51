import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import type { PgClient, PgConnection, QueryHandlers, RowDescription } from '../pg/driver.js'
import { readError } from './server-error.js'
import { cstring, int16, int32, lengthPrefixed, message, Reader, Splitter } from './wire.js'

/** Field of a RowDescription with all the server said of it. */
export interface WireField {
  readonly name: string
  readonly tableID: number
  readonly columnID: number
  readonly dataTypeID: number
  readonly dataTypeSize: number
  readonly dataTypeModifier: number
  readonly format: string
}

/** Answers of the server while the session starts, for whoever started it. */
export interface Startup {
  /** One message, to be handed on as it is. */
  relay(bytes: Buffer): void
  ready(): void
}

/**
 * Our end of a connection to the server. What it can say after the session has
 * started is the methods below and nothing else: no byte of the application's
 * driver is ever passed on. It has the shape of node-postgres's Connection, so
 * that one code works out statements for both drivers.
 */
export class ServerConnection extends EventEmitter implements PgConnection {
  readonly stream: Duplex
  readonly parsedStatements: Record<string, string> = {}
  readonly #splitter = new Splitter(false)
  #client: PgClient | undefined
  #startup: Startup | undefined
  /** Process id and secret that cancel what this connection runs. */
  key: { readonly pid: number; readonly secret: number } | undefined

  constructor(stream: Duplex) {
    super()
    this.stream = stream
    stream.on('data', (chunk: Buffer) => this.#receive(chunk))
  }

  /** Sends a startup packet; what the server answers goes to `startup` until the session is ready. */
  start(packet: Buffer, startup: Startup, client: PgClient): void {
    this.#startup = startup
    this.#client = client
    this.stream.write(packet)
  }

  /** Sends the driver's answer to an authentication request. @throws once the session has started. */
  authenticate(answer: Buffer): void {
    if (this.#startup === undefined || answer[0] !== 0x70) throw new Error('only a password may be sent now')
    this.stream.write(answer)
  }

  parse({ text, name = '', types = [] }: { text: string; name?: string; types?: readonly number[] }): void {
    this.stream.write(message('P', cstring(name), cstring(text), int16(types.length), ...types.map(int32)))
  }

  bind({
    portal = '',
    statement = '',
    values = [],
  }: {
    portal?: string
    statement?: string
    values?: readonly unknown[]
  } = {}): void {
    const parameters = [int16(values.length), ...values.map(lengthPrefixed)]
    this.stream.write(message('B', cstring(portal), cstring(statement), int16(0), ...parameters, int16(0)))
  }

  describe({ type, name = '' }: { type: 'S' | 'P'; name?: string }): void {
    this.stream.write(message('D', Buffer.from(type), cstring(name)))
  }

  execute({ portal = '', rows = 0 }: { portal?: string; rows?: number } = {}): void {
    this.stream.write(message('E', cstring(portal), int32(rows)))
  }

  query(text: string): void {
    this.stream.write(message('Q', cstring(text)))
  }

  flush(): void {
    this.stream.write(message('H'))
  }

  sync(): void {
    this.stream.write(message('S'))
  }

  close({ type, name = '' }: { type: 'S' | 'P'; name?: string }): void {
    this.stream.write(message('C', Buffer.from(type), cstring(name)))
  }

  /** What is copied in is counted and never sent. @throws always. */
  sendCopyFromChunk(): never {
    throw new Error('nothing is copied in over this connection')
  }

  /** @throws always, as {@link sendCopyFromChunk}. */
  endCopyFrom(): never {
    throw new Error('nothing is copied in over this connection')
  }

  sendCopyFail(reason: string): void {
    this.stream.write(message('f', cstring(reason)))
  }

  end(): void {
    if (this.stream.writable) this.stream.end(message('X'))
  }

  /** The connection is gone. */
  lose(error: Error): void {
    this.#active?.handleError(error, this)
    this.emit('end')
  }

  get #active(): QueryHandlers | null | undefined {
    return (this.#client as { _activeQuery?: QueryHandlers | null } | undefined)?._activeQuery
  }

  #receive(chunk: Buffer): void {
    for (const bytes of this.#splitter.feed(chunk)) this.#dispatch(String.fromCharCode(bytes[0] ?? 0), bytes)
  }

  #dispatch(type: string, bytes: Buffer): void {
    if (this.#startup !== undefined && this.#starting(type, bytes, this.#startup)) return
    switch (type) {
      case 'T':
        this.#active?.handleRowDescription(readRowDescription(bytes))
        return
      case 'D':
        this.#active?.handleDataRow({ fields: readRow(bytes) })
        return
      case 'C':
        this.#active?.handleCommandComplete({ name: 'commandComplete', text: new Reader(bytes).string() }, this)
        return
      case 'I':
        this.#active?.handleEmptyQuery(this)
        return
      case 's':
        this.#active?.handlePortalSuspended(this)
        return
      case 'n':
        this.emit('noData')
        return
      case 't':
        this.emit('parameterDescription', { dataTypeIDs: readTypes(bytes) })
        return
      case 'G':
        this.#active?.handleCopyInResponse(this)
        return
      case 'H':
      case 'c':
        this.emit('copyOut', bytes)
        return
      case 'd':
        this.#active?.handleCopyData(bytes, this)
        return
      case 'E':
        this.#active?.handleError(readError(bytes), this)
        return
      case 'Z':
        this.emit('readyForQuery', { status: new Reader(bytes).character() })
        this.#active?.handleReadyForQuery(this)
        return
      case 'S':
        this.#parameter(bytes)
        return
      default:
      // Notices, notifications, and completions of steps that carry nothing.
    }
  }

  /** True when the message was part of the start. */
  #starting(type: string, bytes: Buffer, startup: Startup): boolean {
    switch (type) {
      case 'K': {
        const reader = new Reader(bytes)
        this.key = { pid: reader.int32(), secret: reader.int32() }
        return true
      }
      case 'Z':
        this.#startup = undefined
        this.emit('readyForQuery', { status: 'I' })
        startup.ready()
        return true
      case 'S':
        this.#parameter(bytes)
        startup.relay(bytes)
        return true
      case 'N':
        return true
      default:
        startup.relay(bytes)
        return true
    }
  }

  #parameter(bytes: Buffer): void {
    const reader = new Reader(bytes)
    this.emit('parameterStatus', { parameterName: reader.string(), parameterValue: reader.string() })
  }
}

function readRowDescription(bytes: Buffer): RowDescription {
  const reader = new Reader(bytes)
  const fields: WireField[] = Array.from({ length: reader.int16() }, () => ({
    name: reader.string(),
    tableID: reader.uint32(),
    columnID: reader.int16(),
    dataTypeID: reader.uint32(),
    dataTypeSize: reader.int16(),
    dataTypeModifier: reader.int32(),
    format: reader.int16() === 0 ? 'text' : 'binary',
  }))
  return { fields }
}

function readRow(bytes: Buffer): (string | null)[] {
  const reader = new Reader(bytes)
  return Array.from({ length: reader.int16() }, () => reader.value())
}

function readTypes(bytes: Buffer): number[] {
  const reader = new Reader(bytes)
  return Array.from({ length: reader.int16() }, () => reader.uint32())
}

export function writeRowDescription({ fields }: RowDescription): Buffer {
  const parts = fields.flatMap((field) => {
    const { dataTypeSize = -1, dataTypeModifier = -1 } = field as Partial<WireField>
    return [
      cstring(field.name),
      int32(field.tableID),
      int16(field.columnID),
      int32(field.dataTypeID),
      int16(dataTypeSize),
      int32(dataTypeModifier),
      int16(0),
    ]
  })
  return message('T', int16(fields.length), ...parts)
}

export function writeRow(fields: readonly (string | null)[]): Buffer {
  return message('D', int16(fields.length), ...fields.map(lengthPrefixed))
}

export function writeTypes(types: readonly number[]): Buffer {
  return message('t', int16(types.length), ...types.map(int32))
}
