import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { shared } from '../../run/store.js'
import { classify, type Statement, unparsedStatement } from '../../sql/classify.js'
import { grammarLoaded, loadGrammar } from '../../sql/grammar.js'
import { type ClientState, followConnection, followDefinitions, followReadiness, stateOf } from './client-state.js'
import { Conversation } from './conversation.js'
import { loadLibrary, type PgLibrary } from './deliver.js'
import { isPlainQuery, type PgClient, type PgConnection, type PgQuery, queueOf } from './driver.js'
import { effectOf } from './effect.js'
import { remembersAnything } from './known.js'
import { pipelineKnown, sendOneByOne } from './pipeline.js'
import { ReadOnly } from './read-only.js'
import { isPinned, runPinned } from './rollback/rollback.js'
import { runScript } from './script.js'
import type { Planned, Session } from './session.js'
import { verifyShape } from './shape.js'
import { Submittable } from './submittable.js'

type ClientClass = { readonly prototype: PgClient; new (config: object): PgClient }

/** Meets `pg/lib/client.js`. */
export function patchClient(Client: ClientClass, guard: Guard, hook: Hook, file: string): void {
  const { prototype } = Client
  verifyShape(Client, file)
  const library = loadLibrary(file)
  // With the grammar at hand a statement is decided where the caller makes it. A live process may never need it.
  shared.startListeners.add(prepareGrammar)
  if (guard.run() !== undefined) prepareGrammar()
  followReadiness(prototype)
  const originalQuery = prototype.query
  const originalConnect = prototype.connect
  // Not inside the patched method: what a closure there captures is allocated by every live call as well.
  const queryDry = (run: Run, client: PgClient, args: Parameters<PgClient['query']>): unknown =>
    dryQuery({ guard, hook, library, run, client, send: () => originalQuery.apply(client, args) })

  prototype.query = function query(config, values, callback) {
    const run = guard.run() ?? stateOf(this)?.transaction
    if (run === undefined) {
      if (remembersAnything()) followDefinitions(this)
      return originalQuery.call(this, config, values, callback)
    }
    return queryDry(run, this, [config, values, callback])
  }

  prototype.connect = function connect(callback) {
    const state = followConnection(this)
    if (guard.run() === undefined) return originalConnect.call(this, callback)
    state.newborn = true
    const bound = typeof callback === 'function' ? guard.bind(callback) : callback
    // The socket outlives the call: what it emits later must not run in this dry run.
    return guard.root(() =>
      guard.permit('pg connect', (permit) => {
        try {
          return originalConnect.call(this, bound)
        } finally {
          permit.open = false
        }
      }),
    )
  }
}

/** A grammar that cannot be loaded fails every statement, in words. */
function prepareGrammar(): void {
  void loadGrammar().catch(() => undefined)
}

interface DryCall {
  readonly guard: Guard
  readonly hook: Hook
  readonly library: PgLibrary
  readonly run: Run
  readonly client: PgClient
  /** pg's own `query`, with the caller's arguments. */
  send(): unknown
}

/** Runs `fn` in the context the call was made in. One snapshot serves the whole call: each costs microseconds. */
type InCaller = <T>(fn: () => T) => T

/**
 * Lets pg build the query, the promise and the timers itself while its queue
 * is held, and takes over where the query would be sent.
 */
function dryQuery(call: DryCall): unknown {
  const { guard, client } = call
  const queue = queueOf(client)
  const before = queue?.length ?? 0
  const pulse = client._pulseQueryQueue
  // Set back and not deleted afterwards: V8 keeps an object that lost a property as a slow dictionary, for live traffic too.
  const hold = (value: () => void) =>
    Object.defineProperty(client, '_pulseQueryQueue', { configurable: true, writable: true, value })
  hold(() => undefined)
  let result: unknown
  try {
    if (queue === undefined)
      throw new DryTraceError('DRY_GUARD_FAILED', 'dry run: this version of pg is built differently')
    result = call.send()
  } finally {
    hold(pulse)
  }
  // Nothing was queued: pg has refused the call itself.
  const query = queue.length > before ? queue.at(-1) : undefined
  if (query === undefined) return result
  const { submit } = query
  // Whatever goes wrong from here on, pg's queue must not find a query that it can send.
  query.submit = () => new DryTraceError('DRY_GUARD_FAILED', 'dry run: the statement was blocked by an error')
  const inCaller = guard.bind(<T>(fn: () => T) => fn())
  bindToCaller(query, inCaller)
  if (client.pipeline && pipelineKnown(client)) sendOneByOne(client, query)
  takeOver(call, query, submit, inCaller)
  // What else waits in the queue is somebody else's.
  guard.root(() => client._pulseQueryQueue())
  return result
}

/** pg calls back from the socket, whose context is that of whoever opened the connection. */
function bindToCaller(query: PgQuery, inCaller: InCaller): void {
  const bound = (fn: (...args: never[]) => unknown) =>
    function (this: unknown, ...args: never[]) {
      return inCaller(() => Reflect.apply(fn, this, args))
    }
  if (typeof query.callback === 'function') query.callback = bound(query.callback)
  if (typeof query.emit === 'function') query.emit = bound(query.emit)
}

function takeOver(call: DryCall, queued: PgQuery, submit: PgQuery['submit'], inCaller: InCaller): void {
  const { guard, client, library, run } = call
  const foreign = isPlainQuery(queued) ? undefined : new Submittable(queued, submit, inCaller)
  const query: PgQuery = foreign ?? queued
  const state = followConnection(client)
  const setup = state.newborn
  const decide = (statement: Statement, culprit?: string) => inCaller(() => decideOn(call, statement, culprit))
  const refuse = (reason: string): Error => {
    const decision = decide(unparsedStatement(typeof query.text === 'string' ? query.text : '', reason))
    return guard.within(run, () => guard.fail(decision, new DryTraceError('DRY_BLOCKED', `dry run: ${reason}`)))
  }
  const refusal = whyRefused(client, state, query)
  if (refusal !== undefined) {
    const error = refuse(refusal)
    queued.submit = () => error
    return
  }
  const plan = (text: string | undefined): readonly Planned[] => {
    const statements = judge(query, text)
    return statements.map((statement) => ({
      statement,
      decision: statement.kind === 'tx' ? undefined : decide(statement),
      several: statements.length > 1,
    }))
  }
  // Decided here and now, unless this is the first dry statement of the process and the grammar still loads.
  const text = textOf(query, client.connection)
  const planned = grammarLoaded() && text !== undefined ? plan(text) : undefined
  if (planned === undefined) void loadGrammar().catch(() => undefined)

  queued.submit = function submitDry(connection) {
    const misnamed = nameTaken(query, connection)
    if (misnamed !== undefined) return misnamed
    const sent = textOf(query, connection)
    const late = whyRefusedLate(state, planned === undefined || sent === text)
    if (late !== undefined) return refuse(late)
    queued.submit = submit
    const refused = begin(foreign, connection)
    if (refused !== undefined) return refuse(messageOf(refused))
    const conversation = new Conversation(client, connection, query)
    const session: Session = {
      guard,
      run,
      library,
      conversation,
      reader: new ReadOnly(conversation, guard.previewBounds.milliseconds),
      query,
      decide,
      current: undefined,
      plain: true,
      setupSkipped: false,
    }
    const pinned = isPinned(session)
    const carryOut = pinned ? runPinned : runScript
    guard.root(() => {
      void carryOut(session, () => planned ?? plan(sent)).then(() => {
        // A connection that is not set up as live code wants it must not go back to the pool.
        if (setup && (pinned || session.setupSkipped)) client._poolUseCount = Number.POSITIVE_INFINITY
      })
    })
    return null
  }
}

function judge(query: PgQuery, text: string | undefined): readonly Statement[] {
  if (text === undefined) return [unparsedStatement('', `the text of the statement ${query.name ?? ''} is not known`)]
  try {
    return classify(text)
  } catch (error) {
    return [unparsedStatement(text, messageOf(error))]
  }
}

/** What is known only when the connection is ready for the statement. */
function whyRefusedLate(state: ClientState, unchanged: boolean): string | undefined {
  if (state.unreadable !== undefined) return `SQL on this connection cannot be judged: ${state.unreadable}`
  if (state.status === undefined) return 'the state of this connection is not known'
  return unchanged ? undefined : 'the text of the query was changed after it was handed to pg'
}

function decideOn(call: DryCall, statement: Statement, culprit: string | undefined): Decision {
  const { host, port, database } = call.client
  return call.guard.decide(call.run, call.hook, () => effectOf(statement, { host, port, database }, culprit))
}

function whyRefused(client: PgClient, state: ClientState, query: PgQuery): string | undefined {
  if (state.unreadable !== undefined) return `SQL on this connection cannot be judged: ${state.unreadable}`
  if (client.pipeline && !pipelineKnown(client)) return 'the pipeline of this version of pg is built differently'
  if (query instanceof Submittable) return query.whyRefused()
  return undefined
}

/** Lets a cursor or stream send itself, as live it would now; the messages wait for their answer. */
function begin(foreign: Submittable | undefined, connection: PgConnection): Error | undefined {
  try {
    return foreign?.begin(connection)
  } catch (error) {
    return error instanceof Error ? error : new Error(messageOf(error))
  }
}

/** The text the server will run: a name that is known already stands for the text it was prepared with. */
function textOf(query: PgQuery, connection: PgConnection | undefined): string | undefined {
  const name = query.name
  const prepared = name
    ? (connection?.parsedStatements[name] ?? connection?.submittedNamedStatements?.[name])
    : undefined
  if (prepared !== undefined) return prepared
  return typeof query.text === 'string' ? query.text : undefined
}

/** pg's own check, which a blocked statement would not reach. */
function nameTaken(query: PgQuery, connection: PgConnection): Error | undefined {
  const previous = query.name
    ? (connection.parsedStatements[query.name] ?? connection.submittedNamedStatements?.[query.name])
    : undefined
  if (!query.text || previous === undefined || previous === query.text) return undefined
  return new Error(`Prepared statements must be unique - '${query.name}' was used for a different statement`)
}
