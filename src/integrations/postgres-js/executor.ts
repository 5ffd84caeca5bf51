import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { classify, type Statement, unparsedStatement } from '../../sql/classify.js'
import { loadGrammar } from '../../sql/grammar.js'
import { type ClientState, followConnection } from '../pg/client-state.js'
import { Conversation } from '../pg/conversation.js'
import type { PgLibrary } from '../pg/deliver.js'
import type { PgClient } from '../pg/driver.js'
import { type Endpoint, isLetThrough, isRead } from '../pg/effect.js'
import { ReadOnly } from '../pg/read-only.js'
import { tellNoRollback } from '../pg/rollback/rollback.js'
import type { Answer } from '../pg/round.js'
import { runScript } from '../pg/script.js'
import type { Planned, Session } from '../pg/session.js'
import type { Caller, Prepared } from './caller.js'
import { isTypesQuery } from './internal-queries.js'
import type { ServerConnection } from './server-connection.js'
import { ServerError } from './server-error.js'
import { type Answers, WireQuery } from './wire-query.js'

/** SQLSTATE of a write in a READ ONLY transaction. */
const READ_ONLY_VIOLATION = '25006'

/** Values come in wire form already. */
const LIBRARY: PgLibrary = { prepareValue: (value) => value, DatabaseError: ServerError }

const NOWHERE: Answers = { push: () => true }

export interface ExecutorOptions {
  readonly guard: Guard
  readonly run: Run
  readonly endpoint: Endpoint & { readonly user: string }
  readonly connection: ServerConnection
  /** Decides for a statement whose query is not known, in no context but the run's. */
  decide(statement: Statement, culprit?: string): Decision
}

/** Works out what the library asks for, one after the other, on a connection of the run's own. */
export class Executor {
  readonly client: PgClient
  readonly stranger: Caller
  readonly #options: ExecutorOptions
  readonly #state: ClientState

  constructor(options: ExecutorOptions) {
    this.#options = options
    const { host, port, database, user } = options.endpoint
    this.client = {
      host,
      port,
      database,
      user,
      // Where it is not the server's own, a pooler is in between.
      get processID() {
        return options.connection.key?.pid
      },
      connection: options.connection,
      readyForQuery: false,
      _activeQuery: null,
      _pulseQueryQueue() {},
    } as unknown as PgClient
    this.#state = followConnection(this.client)
    this.stranger = { query: {}, decide: options.decide }
  }

  get status(): string {
    return this.#state.status ?? 'I'
  }

  /**
   * Asks the server for a write, to see that it refuses it.
   * @throws DryTraceError `DRY_GUARD_FAILED` when it does not
   */
  async proveReadOnly(): Promise<void> {
    const conversation = this.#conversation()
    const probe = await conversation.simple('BEGIN; CREATE TEMP TABLE drytrace_probe ()')
    await conversation.simple('ROLLBACK')
    if (conversation.lost !== undefined) throw conversation.lost
    if (probe.error?.code !== READ_ONLY_VIOLATION) {
      throw new DryTraceError('DRY_GUARD_FAILED', 'dry run: the server does not keep the session READ ONLY')
    }
  }

  /** What the server says of a statement: its parameters and columns, or the error that it fails with. */
  async describe({ text, types }: Prepared, caller: Caller): Promise<Answer> {
    const answer = await this.reader().describe(text, types.length > 0 ? types : undefined, this.status !== 'T')
    if (answer.error === undefined || answer.lost || caller.query.onlyDescribe === true) return answer
    // It is not going to be executed; the way it fails goes on record as if it were.
    const { error } = await this.run({ text, types, simple: false }, caller, NOWHERE)
    return { ...answer, error: error ?? answer.error }
  }

  /** Carries out one text of the library's: blocked, previewed, or read. Its answer goes to `answers`. */
  async run(
    request: { text: string; values?: readonly unknown[]; types?: readonly number[]; simple: boolean },
    caller: Caller,
    answers: Answers,
  ): Promise<WireQuery> {
    const { guard } = this.#options
    const query = new WireQuery(this.#throttled(answers), request)
    const session = this.session(query, caller)
    if (isTypesQuery(request.text)) {
      await this.#runInternal(session, query)
      return query
    }
    const unfollow = query.followCopy(this.#options.connection)
    try {
      const plan = await this.#plan(session, request.text)
      const writes = typeof plan !== 'function' && plan.some(isAllowedWrite) && this.status === 'I'
      if (writes) await this.#setReadOnly('off')
      tellNoRollback(session, 'postgres')
      await guard.root(() => runScript(session, typeof plan === 'function' ? plan : () => plan))
      if (writes) await this.#setReadOnly('on')
    } finally {
      unfollow()
    }
    return query
  }

  /** What working on one query takes. */
  session(query: WireQuery, caller: Caller): Session {
    const { guard, run } = this.#options
    const conversation = this.#conversation(query)
    return {
      guard,
      run,
      library: LIBRARY,
      conversation,
      reader: new ReadOnly(conversation),
      query,
      decide: caller.decide,
      current: undefined,
      plain: true,
      setupSkipped: false,
    }
  }

  reader(): ReadOnly {
    return new ReadOnly(this.#conversation())
  }

  resume(): void {
    this.#options.connection.stream.resume()
  }

  end(): void {
    this.#options.connection.end()
  }

  #conversation(query = new WireQuery(NOWHERE, { text: '', simple: true })): Conversation {
    return new Conversation(this.client, this.#options.connection, query)
  }

  #throttled(answers: Answers): Answers {
    return {
      push: (bytes) => {
        const more = answers.push(bytes)
        if (!more) this.#options.connection.stream.pause()
        return more
      },
    }
  }

  /** The statements with their decisions, or a function that throws why there are none. */
  async #plan(session: Session, text: string): Promise<readonly Planned[] | (() => never)> {
    try {
      await loadGrammar()
      const statements = this.#judge(text)
      return statements.map((statement) => ({
        statement,
        decision: statement.kind === 'tx' ? undefined : session.decide(statement),
        several: statements.length > 1,
      }))
    } catch (error) {
      return () => {
        throw error
      }
    }
  }

  #judge(text: string): readonly Statement[] {
    const { unreadable } = this.#state
    if (unreadable !== undefined)
      return [unparsedStatement(text, `SQL on this connection cannot be judged: ${unreadable}`)]
    try {
      return classify(text)
    } catch (error) {
      return [unparsedStatement(text, messageOf(error))]
    }
  }

  /** A query of the library itself, which only reads the catalog. */
  async #runInternal(session: Session, query: WireQuery): Promise<void> {
    const answer = await session.reader.query(
      { text: query.text, values: query.values },
      {
        rowDescription: (fields) => query.handleRowDescription(fields),
        row: (fields) => query.handleDataRow({ fields }),
      },
    )
    if (answer.error !== undefined) query.handleError(answer.error)
    else query.handleCommandComplete({ name: 'commandComplete', text: answer.tag ?? 'SELECT 0' })
  }

  /** A write that a policy rule allows must pass the second lock. */
  async #setReadOnly(value: 'on' | 'off'): Promise<void> {
    // Who was lost on the way took the setting along.
    if (this.#options.connection.stream.destroyed) return
    const answer = await this.#conversation().simple(`SET SESSION default_transaction_read_only = ${value}`)
    if (answer.error !== undefined) throw answer.error
  }
}

function isAllowedWrite({ statement, decision }: Planned): boolean {
  if (decision?.verdict !== 'allow' || decision.error !== undefined) return false
  return !isRead(statement) || isLetThrough(statement, decision)
}
