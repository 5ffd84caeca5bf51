import { Duplex } from 'node:stream'
import { DryTraceError, messageOf } from '../../errors.js'
import type { Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { Caller, Prepared } from './caller.js'
import { CopyIn } from './copy-in.js'
import type { Executor } from './executor.js'
import { Portal } from './portal.js'
import { writeRowDescription, writeTypes } from './server-connection.js'
import { writeError } from './server-error.js'
import { CANCEL_REQUEST, int32, message, PROTOCOL_3, Reader, Splitter } from './wire.js'

/** What stands behind a front. */
export interface Backend {
  readonly guard: Guard
  readonly run: Run
  /** Opens the run's own connection and starts a session on it with this packet. */
  open(packet: Buffer, front: Front): Promise<Executor>
  /** Asks the server to stop what the front of this process id is running. */
  cancel(pid: number, secret: number): Promise<void>
}

/** Process ids as the library sees them: they tell fronts apart. */
let lastPid = 0

/**
 * What a run's own postgres.js instance takes for its socket to the server.
 * It speaks the server's side of the protocol and ends it here: what the
 * library asks for is worked out by us on a connection of our own, and nothing
 * but a startup packet and passwords is handed on.
 */
export class Front extends Duplex {
  readonly pid = ++lastPid
  readonly secret = Math.trunc(Math.random() * 0x7fffffff)
  readonly #backend: Backend
  readonly #splitter = new Splitter(true)
  readonly #inbox: Buffer[] = []
  readonly #prepared = new Map<string, Prepared>()
  readonly #portals = new Map<string, Portal>()
  readonly #callers: Caller[] = []
  #caller: Caller | undefined
  #executor: Executor | undefined
  #opening = false
  #answer: ((bytes: Buffer) => void) | undefined
  #working = false
  /** After an error the rest of the batch does not count. */
  #skipping = false
  #copy: CopyIn | undefined
  #copying: Caller | undefined

  constructor(backend: Backend) {
    super({ allowHalfOpen: false })
    this.#backend = backend
  }

  /** The library looks at this before it says goodbye. */
  get readyState(): 'open' | 'closed' {
    return this.destroyed ? 'closed' : 'open'
  }

  /** The library is about to send this query. */
  expect(caller: Caller): void {
    this.#callers.push(caller)
  }

  /** Hands the library what the server said while the session starts. */
  relay(bytes: Buffer, answer: (bytes: Buffer) => void): void {
    this.#answer = answer
    this.push(bytes)
  }

  /** What the library calls of the application's (parsers, transforms, `debug`) belongs to the run. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    const { guard, run } = this.#backend
    return guard.within(run, () => super.emit(event, ...args))
  }

  override _read(): void {
    this.#executor?.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    // Whoever flushes the library's buffer is not whoever asked for what is in it.
    this.#backend.guard.root(() => {
      try {
        this.#inbox.push(...this.#splitter.feed(chunk))
      } catch (error) {
        this.destroy(error as Error)
      }
      callback()
      // The library forgets what it writes while it is inside of `write`: no answer may come before that returns.
      queueMicrotask(() => void this.#work())
    })
  }

  override _final(callback: (error?: Error | null) => void): void {
    callback()
    this.destroy()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#backend.guard.root(() => {
      this.#executor?.end()
      callback(error)
    })
  }

  async #work(): Promise<void> {
    if (this.#working) return
    this.#working = true
    try {
      for (let next = this.#inbox.shift(); next !== undefined && !this.destroyed; next = this.#inbox.shift()) {
        if (this.#executor !== undefined) await this.#handle(this.#executor, next)
        else if (!this.#opening) await this.#begin(next)
        else this.#duringStart(next)
      }
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(messageOf(error)))
    } finally {
      this.#working = false
    }
  }

  async #begin(packet: Buffer): Promise<void> {
    const reader = new Reader(packet, 4)
    const code = reader.int32()
    if (code === CANCEL_REQUEST) {
      await this.#backend.cancel(reader.int32(), reader.int32())
      this.destroy()
      return
    }
    if (code !== PROTOCOL_3) throw refused('this is no start of a session')
    assertReadOnly(reader)
    this.#opening = true
    this.#open(packet).catch((error: unknown) => this.destroy(error as Error))
  }

  async #open(packet: Buffer): Promise<void> {
    const executor = await this.#backend.open(packet, this)
    if (this.destroyed) {
      executor.end()
      return
    }
    this.#executor = executor
    this.push(message('K', int32(this.pid), int32(this.secret)))
    this.#ready()
    void this.#work()
  }

  #duringStart(bytes: Buffer): void {
    if (bytes[0] !== 0x70 || this.#answer === undefined) throw refused('only a password may be sent now')
    this.#answer(bytes)
  }

  async #handle(executor: Executor, bytes: Buffer): Promise<void> {
    const type = String.fromCharCode(bytes[0] ?? 0)
    if (this.#skipping && type !== 'S' && type !== 'X') return
    const reader = new Reader(bytes)
    switch (type) {
      case 'P': {
        const name = reader.string()
        const text = reader.string()
        const types = Array.from({ length: reader.int16() }, () => reader.uint32())
        this.#caller = this.#callerOf(executor, text)
        this.#prepared.set(name, { text, types })
        this.push(message('1'))
        return
      }
      case 'D':
        if (reader.character() !== 'S') throw refused('a portal was to be described')
        await this.#describe(executor, this.#statement(reader.string()))
        return
      case 'B':
        this.#bind(executor, reader)
        return
      case 'E': {
        const portal = this.#portals.get(reader.string())
        if (portal === undefined) throw refused('a portal that was not bound')
        const failed = await portal.execute(reader.int32())
        if (failed) this.#skipping = true
        return
      }
      case 'C':
        if (reader.character() === 'P') await this.#portals.get(reader.string())?.close()
        this.push(message('3'))
        return
      case 'H':
        return
      case 'S':
        for (const portal of this.#portals.values()) await portal.close()
        this.#portals.clear()
        this.#skipping = false
        this.#caller = undefined
        this.#ready()
        return
      case 'Q':
        await this.#simple(executor, reader.string())
        return
      case 'd':
      case 'c':
      case 'f':
        await this.#copied(type, bytes)
        return
      case 'X':
        this.destroy()
        return
      default:
        throw refused(`a message of type ${JSON.stringify(type)}`)
    }
  }

  async #describe(executor: Executor, statement: Prepared): Promise<void> {
    const caller = this.#caller ?? executor.stranger
    const answer = await executor.describe(statement, caller)
    if (answer.error !== undefined) {
      this.push(writeError(answer.error))
      this.#skipping = true
      return
    }
    statement.types = answer.parameterTypes ?? statement.types
    this.push(writeTypes(statement.types))
    this.push(answer.fields === undefined ? message('n') : writeRowDescription(answer.fields))
  }

  #bind(executor: Executor, reader: Reader): void {
    const name = reader.string()
    const statement = this.#statement(reader.string())
    const formats = Array.from({ length: reader.int16() }, () => reader.int16())
    if (formats.some((format) => format !== 0)) throw refused('a binary parameter')
    const values = Array.from({ length: reader.int16() }, () => reader.value())
    this.#caller ??= this.#callerOf(executor, statement.text)
    this.#portals.set(name, new Portal(this, executor, this.#caller, statement, values))
    this.push(message('2'))
  }

  async #simple(executor: Executor, text: string): Promise<void> {
    const caller = this.#callerOf(executor, text)
    const copy = await CopyIn.begin(executor, caller, text)
    if (copy instanceof Error) this.push(writeError(copy))
    else if (copy !== undefined) {
      this.#copy = copy
      this.#copying = caller
      this.push(copy.response)
      return
    } else await executor.run({ text, simple: true }, caller, this)
    this.#ready()
  }

  async #copied(type: 'd' | 'c' | 'f', bytes: Buffer): Promise<void> {
    const copy = this.#copy
    // What comes after a COPY was refused is dropped, as the server does.
    if (copy === undefined) return
    if (type === 'd') {
      copy.add(bytes.subarray(5))
      return
    }
    this.#copy = undefined
    const answer = type === 'c' ? await copy.finish(this.#copying) : copy.cancel(new Reader(bytes).string())
    this.push(answer)
    this.#ready()
  }

  #statement(name: string): Prepared {
    const statement = this.#prepared.get(name)
    if (statement === undefined) throw refused('a statement that was not prepared')
    return statement
  }

  /** The query that a text belongs to. What was expected before it was never sent. */
  #callerOf(executor: Executor, text: string): Caller {
    for (let next = this.#callers.shift(); next !== undefined; next = this.#callers.shift()) {
      if (next.query.string === text) return next
    }
    return executor.stranger
  }

  #ready(): void {
    this.push(message('Z', Buffer.from(this.#executor?.status ?? 'I')))
  }
}

function refused(what: string): Error {
  return new DryTraceError('DRY_GUARD_FAILED', `dry run: postgres.js sent what is not known: ${what}`)
}

/** The second lock: the server itself refuses writes outside of an explicit READ WRITE transaction. */
function assertReadOnly(reader: Reader): void {
  const parameters = new Map<string, string>()
  while (!reader.done) {
    const name = reader.string()
    if (name === '') break
    parameters.set(name, reader.string())
  }
  if (parameters.get('default_transaction_read_only') !== 'on' || parameters.has('replication')) {
    throw refused('a session that is not READ ONLY')
  }
}
