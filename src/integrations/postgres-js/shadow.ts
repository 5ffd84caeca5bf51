import type { Duplex } from 'node:stream'
import { DryTraceError } from '../../errors.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { Statement } from '../../sql/classify.js'
import { effectOf } from '../pg/effect.js'
import type { Caller } from './caller.js'
import { Executor } from './executor.js'
import { type Backend, Front } from './front.js'
import { assertInstance, type Factory, type Handler, type Instance, type PostgresOptions } from './library.js'
import { ServerConnection } from './server-connection.js'
import { Slots } from './slots.js'
import { openUpstream } from './upstream.js'
import { CANCEL_REQUEST, int32 } from './wire.js'

/** Seconds until a connection that the run has no use for is given back to other runs. */
const IDLE_SECONDS = 1

/** How long the end of a run waits for queries that are still on their way. */
const END_SECONDS = 5

/** What the shadows of one instance of the application's have in common. */
export class ShadowSource {
  readonly original: Instance
  readonly factory: Factory
  readonly guard: Guard
  readonly hook: Hook
  readonly slots: Slots
  /** Copies: what shadows learn of the server's types must not show in the live instance. */
  readonly learnt: Pick<PostgresOptions, 'parsers' | 'serializers' | 'shared'>

  constructor(original: Instance, factory: Factory, guard: Guard, hook: Hook) {
    const { options } = original
    this.original = original
    this.factory = factory
    this.guard = guard
    this.hook = hook
    this.slots = new Slots(Number(options.max))
    this.learnt = {
      parsers: { ...options.parsers },
      serializers: { ...options.serializers },
      shared: { retries: 0, typeArrayMap: { ...options.shared.typeArrayMap } },
    }
  }
}

/**
 * An instance of the library that belongs to one run. It has the original's
 * options, but for a socket it is given a {@link Front}, so that nothing it
 * says reaches a server.
 */
export class Shadow implements Backend {
  readonly sql: Instance
  readonly run: Run
  readonly guard: Guard
  readonly handler: Handler
  readonly canceller: unknown
  readonly #source: ShadowSource
  readonly #fronts = new Map<number, { front: Front; connection?: ServerConnection }>()

  /** @throws DryTraceError `DRY_GUARD_FAILED` when the instance turns out to have a way of its own to the server */
  constructor(source: ShadowSource, run: Run) {
    const { original, factory, guard } = source
    this.#source = source
    this.run = run
    this.guard = guard
    const socket = (): Duplex => this.#newFront()
    const options = {
      ...original.options,
      ...source.learnt,
      parameters: {},
      socket,
      path: false,
      // TLS is between us and the server.
      ssl: false,
      sslnegotiation: null,
      target_session_attrs: null,
      idle_timeout: IDLE_SECONDS,
      connection: { ...original.options.connection, default_transaction_read_only: 'on' },
      onnotice() {},
      onnotify: undefined,
      onclose: undefined,
      onparameter: undefined,
    }
    this.sql = guard.root(() => factory(options))
    const guarded =
      this.sql.options.socket === socket && this.sql.options !== original.options && this.sql.options.ssl === false
    if (!guarded) throw new DryTraceError('DRY_GUARD_FAILED', "dry run: postgres.js did not take the guard's socket")
    assertInstance(this.sql)
    const probe = this.sql.unsafe('')
    this.handler = probe.handler
    this.canceller = probe.canceller
  }

  /** Closes its connections once they have nothing to do. Never rejects. */
  async end(): Promise<void> {
    await this.guard.root(() => this.sql.end({ timeout: END_SECONDS })).catch(() => undefined)
  }

  /** The query is given to one of the shadow's connections. */
  expect(pid: number, caller: Caller): void {
    this.#fronts.get(pid)?.front.expect(caller)
  }

  decide(statement: Statement, culprit?: string): Decision {
    const { guard, hook } = this.#source
    return guard.decide(this.run, hook, () => effectOf(statement, this.#endpoint(), culprit))
  }

  async open(packet: Buffer, front: Front): Promise<Executor> {
    const { slots, original, guard } = this.#source
    const release = await slots.take()
    let stream: Duplex
    try {
      if (front.destroyed) throw new DryTraceError('DRY_GUARD_FAILED', 'dry run: the connection was given up')
      stream = await guard.root(() => openUpstream(original.options, guard, this.run))
    } catch (error) {
      release()
      throw error
    }
    const connection = new ServerConnection(stream)
    const executor = new Executor({
      guard,
      run: this.run,
      endpoint: this.#endpoint(),
      connection,
      decide: (statement, culprit) => guard.within(this.run, () => this.decide(statement, culprit)),
    })
    this.#fronts.set(front.pid, { front, connection })
    let failure: Error | undefined
    stream.on('error', (error: Error) => {
      failure = error
    })
    stream.on('close', () => {
      release()
      connection.lose(failure ?? new DryTraceError('DRY_GUARD_FAILED', 'dry run: the connection was lost'))
      front.destroy(failure)
    })
    front.on('close', () => {
      connection.end()
      // The server answers to the goodbye by closing; a server that does not must not hold the process.
      setTimeout(() => stream.destroy(), 1_000).unref()
    })
    await new Promise<void>((resolve, reject) => {
      stream.on('close', () => reject(failure ?? new DryTraceError('DRY_GUARD_FAILED', 'dry run: no session')))
      const relay = (bytes: Buffer): void => front.relay(bytes, (answer) => connection.authenticate(answer))
      connection.start(packet, { relay, ready: resolve }, executor.client)
    })
    await executor.proveReadOnly()
    return executor
  }

  async cancel(pid: number, secret: number): Promise<void> {
    const { original, guard } = this.#source
    const found = this.#fronts.get(pid)
    const key = found?.front.secret === secret ? found.connection?.key : undefined
    if (key === undefined) return
    const stream = await guard.root(() => openUpstream(original.options, guard, this.run))
    stream.end(Buffer.concat([int32(16), int32(CANCEL_REQUEST), int32(key.pid), int32(key.secret)]))
    await new Promise<void>((resolve) => {
      stream.on('error', () => undefined)
      stream.on('close', () => resolve())
      stream.resume()
    })
  }

  #newFront(): Front {
    return this.guard.root(() => {
      const front = new Front(this)
      this.#fronts.set(front.pid, { front })
      front.on('close', () => this.#fronts.delete(front.pid))
      return front
    })
  }

  #endpoint() {
    const { host, port, path, database, user } = this.#source.original.options
    return { host: path || host[0], port: path ? undefined : Number(port[0]), database, user }
  }
}
