import { type ClientState, stateOf } from './client-state.js'
import type { Dialogue, ForwardOptions } from './dialogue.js'
import {
  type CommandComplete,
  type PgClient,
  type PgConnection,
  type PgQuery,
  type QueryHandlers,
  type RowDescription,
  setActive,
} from './driver.js'
import { fenceBytes } from './fence-bytes.js'
import {
  type Answer,
  answerOf,
  type DatabaseError,
  type Fence,
  NO_FENCE,
  NOTHING,
  type Round,
  type Sink,
  type Step,
} from './round.js'

/**
 * Owns a connection in the place of one query, for as many round trips as it
 * takes. pg's queue stands still meanwhile, because it sees an active query.
 */
export class Conversation implements Dialogue, QueryHandlers {
  readonly client: PgClient
  readonly connection: PgConnection
  readonly state: ClientState
  readonly checks = true
  readonly #query: PgQuery
  #round: Round | undefined
  #lost: Error | undefined
  #gone: () => void = () => undefined
  /** Settles when the connection is lost. */
  readonly gone = new Promise<void>((resolve) => {
    this.#gone = resolve
  })

  constructor(client: PgClient, connection: PgConnection, query: PgQuery) {
    this.client = client
    this.connection = connection
    this.state = stateOf(client) as ClientState
    this.#query = query
  }

  /** pg notes under this name that a statement was parsed; so it may show only while the query's own answer arrives. */
  get name(): string | undefined {
    return this.#main?.sent.name
  }

  get text(): unknown {
    return this.#main?.sent.text
  }

  get status(): string {
    return this.state.status ?? 'I'
  }

  /** True when the connection was lost; the error that said so. */
  get lost(): Error | undefined {
    return this.#lost
  }

  hold(): void {
    this.state.conversing = true
    setActive(this.client, this)
    this.client.readyForQuery = false
  }

  release(): void {
    this.state.conversing = false
    setActive(this.client, null)
    this.client.readyForQuery = true
  }

  /** Sends one statement of ours within its fence, under one Sync. */
  run(step: Step, fence: Fence = NO_FENCE, sink: Sink = {}, checks: readonly Step[] = []): Promise<Answer> {
    return this.#exchange(fence, { sink, checks }, () => {
      this.#put(step)
      this.#finish(fence)
    })
  }

  /**
   * Lets the application's query send itself within the fence, and hears the
   * answer. `text` replaces its own, and with it its parameters and their types.
   */
  forward(fence: Fence, options: ForwardOptions = {}): Promise<Answer> {
    const query = this.#query
    const { sink = {}, retag, copyIn, checks = [] } = options
    return this.#exchange(fence, { sink, forward: query, retag, copyIn, checks }, (view) => {
      const own = { text: query.text, name: query.name, values: query.values, types: query.types }
      if (options.text !== undefined) {
        query.text = options.text
        // The name stands for the text the application knows it by.
        query.name = undefined
      }
      if (options.values !== undefined) query.values = options.values
      // pg has made its result parsers of the caller's types already.
      if (options.types !== undefined) query.types = options.types
      // One statement per message is what the extended protocol guarantees; the simple one would run a whole script.
      const { requiresPreparation } = query
      query.requiresPreparation = () => true
      if (this.#round !== undefined) this.#round.sent = { name: query.name, text: query.text }
      try {
        const refused = query.submit(view)
        if (refused && this.#round !== undefined) {
          this.#round.error = refused
          view.sync()
        }
      } finally {
        query.requiresPreparation = requiresPreparation
        query.text = own.text
        query.name = own.name
        if (options.values !== undefined) query.values = own.values
        if (options.types !== undefined) query.types = own.types
      }
    })
  }

  /** Sends a constant of ours by the simple protocol. */
  simple(text: string): Promise<Answer> {
    return this.#exchange(NO_FENCE, { sink: {}, checks: [] }, () => {
      if (this.#round) this.#round.synced = true
      this.connection.query(text)
    })
  }

  #exchange(
    fence: Fence,
    round: Pick<Round, 'sink'> & {
      forward?: PgQuery
      retag?: Round['retag']
      copyIn?: boolean
      checks: readonly Step[]
    },
    send: (view: PgConnection) => void,
  ): Promise<Answer> {
    const lost = this.#lost
    if (lost !== undefined) return Promise.resolve({ ...NOTHING, error: lost, lost: true })
    this.hold()
    return new Promise((resolve) => {
      const view = this.#view(fence)
      const current: Round = {
        sink: round.sink,
        before: fence.before.length,
        forward: round.forward,
        retag: round.retag,
        view,
        sent: { name: undefined, text: undefined },
        checks: round.checks.length,
        checked: [],
        onParameters: ({ dataTypeIDs }) => {
          if (current.checked.length === current.checks) current.parameterTypes = dataTypeIDs
          else current.checked.push({ parameterTypes: dataTypeIDs, fields: undefined, open: true })
        },
        onNoData: () => {
          const check = current.checked.at(-1)
          if (check !== undefined) check.open = false
        },
        portal: round.forward?.answer !== undefined,
        executing: false,
        copyIn: round.copyIn ?? false,
        completed: 0,
        synced: false,
        mainDone: false,
        fields: undefined,
        parameterTypes: undefined,
        tag: undefined,
        error: undefined,
        failedEarly: false,
        resolve,
      }
      this.#round = current
      const { stream } = this.connection
      stream.cork?.()
      try {
        for (const text of fence.before) this.#putFence(text, fence.keep)
        if (round.checks.length > 0) this.connection.on('noData', current.onNoData)
        for (const check of round.checks) this.#putCheck(check)
        send(view)
      } catch (error) {
        // Half a message sequence is out: the server answers to the Sync, and the fence is left in order.
        current.error = error as DatabaseError
        this.#finish(fence)
      } finally {
        stream.uncork?.()
      }
    })
  }

  #put(step: Step): void {
    const { connection } = this
    const name = this.#parse(step)
    if (step.describe) {
      this.#hearParameters()
      connection.describe({ type: 'S', name })
      return
    }
    connection.bind({ portal: '', statement: name, values: step.values ?? [] })
    connection.describe({ type: 'P', name: '' })
    connection.execute({ portal: '', rows: 0 })
  }

  #putCheck(step: Step): void {
    this.#hearParameters()
    this.connection.describe({ type: 'S', name: this.#parse(step) })
  }

  /** The name the server knows the statement by then. */
  #parse(step: Step): string {
    if (step.keep) return this.state.kept.prepare(this.connection, step)
    this.connection.parse({ text: step.text, name: '', ...(step.types ? { types: step.types } : {}) })
    return ''
  }

  #hearParameters(): void {
    const round = this.#round
    if (round === undefined) return
    this.connection.off('parameterDescription', round.onParameters)
    this.connection.on('parameterDescription', round.onParameters)
  }

  #putFence(text: string, keep = false): void {
    const { connection } = this
    if (!keep) {
      connection.stream.write(fenceBytes(text))
      return
    }
    connection.bind({ portal: '', statement: this.#parse({ text, keep }), values: [] })
    connection.execute({ portal: '', rows: 0 })
  }

  #finish(fence: Fence): void {
    const round = this.#round
    if (round === undefined || round.synced) return
    round.synced = true
    // Closed half way, the portal has no command tag: the next one is the fence's.
    if (round.portal && !round.executing) round.mainDone = true
    // After an error the server skips to the Sync, so what follows it does no harm.
    for (const text of fence.after) this.#putFence(text, fence.keep)
    this.connection.sync()
  }

  /** The connection as the application's query sees it: its Sync closes the fence first. */
  #view(fence: Fence): PgConnection {
    const sync = (): void => this.#finish(fence)
    const execute: PgConnection['execute'] = (message) => {
      if (this.#round !== undefined) this.#round.executing = true
      this.connection.execute(message)
    }
    return new Proxy(this.connection, {
      get(target, key) {
        if (key === 'sync') return sync
        if (key === 'execute') return execute
        const value = Reflect.get(target, key) as unknown
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  get #main(): Round | undefined {
    const round = this.#round
    return round !== undefined && round.completed === round.before && !round.mainDone ? round : undefined
  }

  handleRowDescription(message: RowDescription): void {
    const round = this.#main
    if (round === undefined) return
    const check = round.checked.at(-1)
    if (check?.open) {
      check.open = false
      check.fields = message
      return
    }
    round.fields = message
    if (round.forward && !round.sink.rowDescription) round.forward.handleRowDescription(message)
    else round.sink.rowDescription?.(message, round.checked)
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    const round = this.#main
    if (round === undefined) return
    if (round.sink.refused?.()) return
    if (round.sink.row) round.sink.row(message.fields)
    else round.forward?.handleDataRow(message)
  }

  handleCommandComplete(message: CommandComplete): void {
    const round = this.#round
    if (round === undefined) return
    const main = this.#main
    round.completed++
    if (main === undefined) return
    round.executing = false
    round.mainDone = true
    round.tag = message.text
    if (round.sink.refused?.()) {
      // pg's own query would have closed a portal it reads in parts.
      round.view.sync()
      return
    }
    round.sink.complete?.()
    if (round.retag) message.text = round.retag(message.text)
    round.forward?.handleCommandComplete(message, round.view)
  }

  handlePortalSuspended(): void {
    const round = this.#main
    if (round === undefined) return
    round.executing = false
    if (round.portal && round.synced) round.mainDone = true
    round.forward?.handlePortalSuspended(round.view)
  }

  handleEmptyQuery(): void {
    const round = this.#main
    if (round === undefined) return
    round.completed++
    round.executing = false
    round.mainDone = true
    round.forward?.handleEmptyQuery?.(round.view)
  }

  handleCopyInResponse(connection: PgConnection): void {
    const round = this.#main
    if (round?.copyIn && round.forward) {
      // A Sync that was sent ahead is lost in the copied data: the next error or end is followed by a new one.
      round.synced = false
      round.forward.handleCopyInResponse(connection)
      return
    }
    if (this.#round !== undefined) this.#round.synced = true
    connection.sendCopyFail('drytrace: blocked')
    connection.sync()
  }

  handleCopyData(message: unknown, connection: PgConnection): void {
    const round = this.#main
    if (round === undefined) return
    round.sink.copied?.()
    round.forward?.handleCopyData?.(message, connection)
  }

  handleError(error: DatabaseError): void {
    const round = this.#round
    // Errors of the server carry a severity and are followed by ReadyForQuery, unless it hangs up.
    const fromServer = typeof error.severity === 'string' && error.severity !== 'FATAL' && error.severity !== 'PANIC'
    if (!fromServer) {
      this.#lost ??= round?.error ?? error
      this.#gone()
      this.#end({ error: this.#lost, lost: true })
      return
    }
    // pg takes the failed query off the connection, and forgets that its name was sent.
    setActive(this.client, this)
    if (this.#query.name !== undefined) delete this.connection.submittedNamedStatements?.[this.#query.name]
    if (round === undefined) return
    round.error ??= error
    round.failedEarly = round.before > 0 && round.completed === 0
    if (!round.synced) {
      round.synced = true
      this.connection.sync()
    }
  }

  handleReadyForQuery(): void {
    this.hold()
    this.#end({ lost: false })
  }

  #end(outcome: Pick<Answer, 'lost'> & Partial<Answer>): void {
    const round = this.#round
    if (round === undefined) return
    this.#round = undefined
    this.connection.off('parameterDescription', round.onParameters)
    if (round.checks > 0) this.connection.off('noData', round.onNoData)
    round.resolve({ ...answerOf(round), ...outcome })
  }
}
