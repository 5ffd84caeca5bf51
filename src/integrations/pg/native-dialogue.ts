import { messageOf } from '../../errors.js'
import { type ClientState, followConnection, type TransactionStatus, whyUnreadable } from './client-state.js'
import type { Dialogue, ForwardOptions } from './dialogue.js'
import type { Field, PgClient, PgConnection, RowDescription } from './driver.js'
import { asDecided } from './native-binding.js'
import {
  type Libpq,
  type NativeClient,
  type NativeConnection,
  type NativeLibrary,
  serverError,
} from './native-driver.js'
import type { NativeAdapter } from './native-query.js'
import { type Answer, type DatabaseError, type Fence, NO_FENCE, NOTHING, type Sink, type Step } from './round.js'

/** Values as the server sends them. */
const RAW = { getTypeParser: () => (value: string) => value }
const TYPED = 'drytrace_typed'

/** Connections on which the server still knows a statement of ours, because it failed in a transaction. */
const leftovers = new WeakSet<NativeConnection>()

interface Outcome {
  readonly error?: DatabaseError
  readonly fields?: RowDescription
  readonly parameterTypes?: readonly number[]
  readonly rows: (string | null)[][]
  readonly tag: string
}

/**
 * A dialogue over libpq's binding. It has no pipeline, so a fence takes round
 * trips of its own; every statement still goes by the extended protocol, which
 * takes one statement only.
 */
export class NativeDialogue implements Dialogue {
  readonly client: PgClient
  readonly connection: PgConnection
  readonly state: ClientState
  readonly checks = false
  readonly #native: NativeConnection
  readonly #query: NativeAdapter
  readonly #library: NativeLibrary
  #lost: Error | undefined
  #gone: () => void = () => undefined
  readonly gone = new Promise<void>((resolve) => {
    this.#gone = resolve
  })

  constructor(client: NativeClient, query: NativeAdapter, library: NativeLibrary) {
    this.client = client as unknown as PgClient
    this.connection = {} as PgConnection
    this.state = followConnection(this.client)
    this.#native = client.native
    this.#query = query
    this.#library = library
    this.#followStatus()
  }

  get status(): string {
    return this.state.status ?? 'I'
  }

  get lost(): Error | undefined {
    return this.#lost
  }

  /** The queue waits as long as the query is not at its end. */
  hold(): void {}
  release(): void {}

  /** Reads what the wire protocol would have told of the connection. */
  async readSettings(): Promise<void> {
    const { settings } = this.state
    if (this.status === 'E') return
    // SHOW needs no snapshot, so that the transaction's modes can still be set after it.
    for (const name of ['standard_conforming_strings', 'client_encoding', 'DateStyle', 'IntervalStyle']) {
      const { rows } = await this.#exec(`SHOW ${name}`, [])
      settings.set(name, rows[0]?.[0] ?? '')
    }
    this.state.unreadable = whyUnreadable(settings)
  }

  async run(step: Step, fence: Fence = NO_FENCE, sink: Sink = {}): Promise<Answer> {
    return await this.#fenced(fence, async () => {
      const outcome = step.describe
        ? await this.#describe(step.text)
        : await this.#send(step.text, step.values ?? [], step.types)
      if (outcome.error === undefined) {
        if (outcome.fields) sink.rowDescription?.(outcome.fields, [])
        for (const row of outcome.rows) sink.row?.(row)
        sink.complete?.()
      }
      return outcome
    })
  }

  async forward(fence: Fence, { text, values, types, sink = {}, retag }: ForwardOptions = {}): Promise<Answer> {
    const query = this.#query
    return await this.#fenced(fence, async () => {
      let own: readonly unknown[]
      try {
        own = ((values ?? query.values ?? []) as unknown[]).map((value) => this.#library.prepareValue(value))
      } catch (error) {
        return { error: error as DatabaseError, rows: [], tag: '' }
      }
      const replaced = text !== undefined && values === undefined
      const outcome = await this.#send(text ?? String(query.text), replaced ? [] : own, types)
      if (outcome.error !== undefined || sink.refused?.()) return outcome
      if (outcome.fields) {
        if (sink.rowDescription) sink.rowDescription(outcome.fields, [])
        else query.handleRowDescription(outcome.fields)
      }
      for (const fields of outcome.rows) {
        if (sink.row) sink.row(fields)
        else query.handleDataRow({ fields })
      }
      sink.complete?.()
      query.handleCommandComplete({ name: 'commandComplete', text: retag ? retag(outcome.tag) : outcome.tag })
      return outcome
    })
  }

  async simple(text: string): Promise<Answer> {
    const outcome = await this.#exec(text, undefined)
    await this.#forgetLeftover()
    return this.#answer(outcome, false)
  }

  async #fenced(fence: Fence, main: () => Promise<Outcome>): Promise<Answer> {
    if (this.#lost !== undefined) return { ...NOTHING, error: this.#lost, lost: true }
    for (const [index, text] of fence.before.entries()) {
      const outcome = await this.#exec(text, [])
      if (outcome.error !== undefined) return this.#answer(outcome, index === 0)
    }
    const outcome = await main()
    // As after an error within one Sync: what would have closed the fence is left to whoever leaves it.
    if (outcome.error === undefined) for (const text of fence.after) await this.#exec(text, [])
    return this.#answer(outcome, false)
  }

  #answer({ error, fields, parameterTypes, tag }: Outcome, failedEarly: boolean): Answer {
    if (this.#lost !== undefined) return { ...NOTHING, error: this.#lost, lost: true }
    return { fields, parameterTypes, checks: [], tag, error, failedEarly, lost: false }
  }

  /** The binding has no way to give types with a query: a statement is prepared with them in SQL. */
  async #send(text: string, values: readonly unknown[], types: readonly number[] | undefined): Promise<Outcome> {
    if (types === undefined || types.length === 0) return await this.#exec(text, values)
    await this.#forgetLeftover()
    const list = types.map((type) => `format_type(${Number(type)}, NULL)`).join(', ')
    const named = await this.#exec(`SELECT ${list}`, [])
    if (named.error !== undefined) return named
    const prepared = await this.#exec(`PREPARE ${TYPED} (${named.rows[0]?.join(', ')}) AS ${text}`, [])
    if (prepared.error !== undefined) return prepared
    leftovers.add(this.#native)
    const outcome = await this.#call((callback) => this.#native.execute(TYPED, values, callback))
    await this.#forgetLeftover()
    return outcome
  }

  async #forgetLeftover(): Promise<void> {
    if (!leftovers.has(this.#native) || this.status === 'E' || this.#lost !== undefined) return
    leftovers.delete(this.#native)
    await this.#exec(`DEALLOCATE ${TYPED}`, [])
  }

  async #describe(text: string): Promise<Outcome> {
    const prepared = await this.#call((callback) => this.#native.prepare('', text, 0, callback))
    if (prepared.error !== undefined) return prepared
    const { pq } = this.#native
    this.#native._stopReading()
    pq.describePrepared('')
    const parameterTypes = Array.from({ length: pq.nparams() }, (_, index) => pq.paramtype(index))
    return { ...prepared, parameterTypes, ...described(pq) }
  }

  /** Without an array of values the simple protocol is used. */
  #exec(text: string, values: readonly unknown[] | undefined): Promise<Outcome> {
    return this.#call((callback) =>
      values === undefined ? this.#native.query(text, callback) : this.#native.query(text, values, callback),
    )
  }

  #call(send: (callback: (error: Error | null | undefined) => void) => void): Promise<Outcome> {
    const native = this.#native
    const { pq } = native
    return new Promise((resolve) => {
      const types = native._types
      native._types = RAW
      const end = (outcome: Outcome): void => {
        native._types = types
        native.off('error', lose)
        resolve(outcome)
      }
      const lose = (error: Error): void => {
        this.#lost ??= error
        this.#gone()
        end({ error: error as DatabaseError, rows: [], tag: '' })
      }
      native.on('error', lose)
      try {
        asDecided(() =>
          send((failed) => {
            this.#followStatus()
            if (failed) {
              const error = serverError(pq)
              if (error === undefined || this.state.status === undefined) lose(error ?? failed)
              else end({ error: error as DatabaseError, rows: [], tag: '' })
            } else end({ ...described(pq), rows: rowsOf(pq), tag: pq.cmdStatus() })
          }),
        )
      } catch (error) {
        end({
          error: (error instanceof Error ? error : new Error(messageOf(error))) as DatabaseError,
          rows: [],
          tag: '',
        })
      }
    })
  }

  #followStatus(): void {
    const status = this.#native.getTransactionStatus?.()
    this.state.status = status === 'I' || status === 'T' || status === 'E' ? (status as TransactionStatus) : undefined
  }
}

function described(pq: Libpq): { fields?: RowDescription } {
  const count = pq.nfields()
  if (count === 0) return {}
  const fields: Field[] = Array.from({ length: count }, (_, column) => ({
    name: pq.fname(column),
    tableID: pq.ftable(column),
    columnID: pq.ftablecol(column),
    dataTypeID: pq.ftype(column),
  }))
  return { fields: { fields } }
}

function rowsOf(pq: Libpq): (string | null)[][] {
  const width = pq.nfields()
  return Array.from({ length: pq.ntuples() }, (_, row) =>
    Array.from({ length: width }, (__, column) => (pq.getisnull(row, column) ? null : pq.getvalue(row, column))),
  )
}
