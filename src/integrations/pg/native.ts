import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { classify, type Statement, unparsedStatement } from '../../sql/classify.js'
import { grammarLoaded, loadGrammar } from '../../sql/grammar.js'
import { followConnection, stateOf } from './client-state.js'
import type { PgQuery } from './driver.js'
import { effectOf } from './effect.js'
import { NativeDialogue } from './native-dialogue.js'
import { isNativeQuery, loadNativeLibrary, type NativeClient, type NativeLibrary } from './native-driver.js'
import { failNative, NativeAdapter } from './native-query.js'
import { ReadOnly } from './read-only.js'
import { tellNoRollback } from './rollback/rollback.js'
import { runScript } from './script.js'
import type { Planned, Session } from './session.js'

interface NativeCall {
  readonly guard: Guard
  readonly hook: Hook
  readonly library: NativeLibrary
  readonly run: Run
  readonly client: NativeClient
  /** pg's own `query`, with the caller's arguments. */
  send(): unknown
}

/**
 * Meets `pg/lib/native/client.js`. Reads and previews take more round trips
 * than over the JavaScript client, because libpq's binding sends one statement at a time.
 */
export function patchNative(
  Client: { readonly prototype: NativeClient },
  guard: Guard,
  hook: Hook,
  file: string,
): void {
  const { prototype } = Client
  for (const method of ['query', 'connect', '_pulseQueryQueue'] as const) {
    if (typeof prototype[method] !== 'function') throw new TypeError(`pg's native Client has no ${method}`)
  }
  const library = loadNativeLibrary(file)
  const originalQuery = prototype.query
  const originalConnect = prototype.connect

  prototype.query = function query(config, values, callback) {
    const run = guard.run() ?? stateOf(this)?.transaction
    if (run === undefined) return originalQuery.call(this as never, config, values, callback)
    const send = () => originalQuery.call(this as never, config, values, callback)
    const client = this as unknown as NativeClient
    return dryQuery({ guard, hook, library, run, client, send })
  }

  prototype.connect = function connect(callback) {
    if (guard.run() === undefined) return originalConnect.call(this, callback)
    followConnection(this as never).newborn = true
    const bound = typeof callback === 'function' ? guard.bind(callback) : callback
    // libpq calls back without any context; what follows on the connection must not run in this dry run.
    return guard.root(() => originalConnect.call(this, bound))
  }
}

/** Lets pg build the query while its queue is held, and takes over where it would send itself. */
function dryQuery(call: NativeCall): unknown {
  const { guard, client } = call
  const queue = client._queryQueue
  const before = queue?.length ?? 0
  Object.defineProperty(client, '_pulseQueryQueue', { configurable: true, writable: true, value: () => undefined })
  let result: unknown
  try {
    if (!Array.isArray(queue)) {
      throw new DryTraceError('DRY_GUARD_FAILED', 'dry run: this version of pg is built differently')
    }
    result = call.send()
  } finally {
    Reflect.deleteProperty(client, '_pulseQueryQueue')
  }
  const query = queue.length > before ? queue.at(-1) : undefined
  if (query === undefined) return result
  query.submit = () => new DryTraceError('DRY_GUARD_FAILED', 'dry run: the statement was blocked by an error')
  if (typeof query.callback === 'function') query.callback = guard.bind(query.callback)
  if (typeof query.emit === 'function') query.emit = guard.bind(query.emit)
  const refusal = whyRefused(client, query)
  if (refusal !== undefined) refuse(call, query, refusal)
  else takeOver(call, query)
  guard.root(() => client._pulseQueryQueue())
  return result
}

function whyRefused(client: NativeClient, query: PgQuery): string | undefined {
  if (client.pipeline) return 'pg-native in pipeline mode is not supported'
  if (!isNativeQuery(query)) return `${query.constructor.name} is not supported by the native client`
  if (typeof client.native?.getTransactionStatus !== 'function' || !describes(client)) {
    return 'this version of pg-native does not tell the state of its connection'
  }
  return undefined
}

function describes({ native }: NativeClient): boolean {
  return typeof native.pq?.describePrepared === 'function' && typeof native._stopReading === 'function'
}

/** Not in the queue any more: a pipeline would send it with the others. */
function refuse(call: NativeCall, query: PgQuery, reason: string): void {
  const queue = call.client._queryQueue
  queue.splice(queue.indexOf(query as never), 1)
  const statement = unparsedStatement(typeof query.text === 'string' ? query.text : '', reason)
  const decision = decideOn(call, statement)
  const error = call.guard.fail(decision, new DryTraceError('DRY_BLOCKED', `dry run: ${reason}`))
  process.nextTick(() => {
    if (isNativeQuery(query)) failNative(query, error)
    else query.handleError(error, undefined as never)
  })
}

function decideOn({ guard, hook, run, client }: NativeCall, statement: Statement, culprit?: string): Decision {
  const { host, port, database } = client
  return guard.decide(run, hook, () => effectOf(statement, { host, port, database }, culprit))
}

function takeOver(call: NativeCall, native: PgQuery): void {
  const { guard, client, library, run } = call
  if (!isNativeQuery(native)) return
  const decide = guard.bind((statement: Statement, culprit?: string) => decideOn(call, statement, culprit))
  const query = new NativeAdapter(native, client, library, guard)
  const { text } = query
  const plan = (): readonly Planned[] => {
    const statements = judge(text)
    return statements.map((statement) => ({
      statement,
      decision: statement.kind === 'tx' ? undefined : decide(statement),
      several: statements.length > 1,
    }))
  }
  const planned = grammarLoaded() ? plan() : undefined
  if (planned === undefined) void loadGrammar().catch(() => undefined)

  native.submit = () => {
    native.state = 'running'
    const misnamed = nameTaken(native, client)
    if (misnamed !== undefined) {
      process.nextTick(() => query.handleError(misnamed))
      return undefined
    }
    const conversation = new NativeDialogue(client, query, library)
    const reader = new ReadOnly(conversation)
    const session: Session = {
      guard,
      run,
      library,
      conversation,
      reader,
      query,
      decide,
      current: undefined,
      plain: true,
      setupSkipped: false,
    }
    const setup = conversation.state.newborn
    guard.root(() => {
      void begin(session, conversation, planned ?? plan).then(() => {
        // A connection that is not set up as live code wants it must not go back to the pool.
        if (setup && session.setupSkipped) client._poolUseCount = Number.POSITIVE_INFINITY
      })
    })
    return undefined
  }
}

/** What can be known only now, from the server itself; then the statements. */
async function begin(
  session: Session,
  dialogue: NativeDialogue,
  planned: readonly Planned[] | (() => readonly Planned[]),
): Promise<void> {
  const { state } = dialogue
  if (state.status !== undefined) await dialogue.readSettings().catch(() => undefined)
  const statements = typeof planned === 'function' ? undefined : planned
  const refusal = whyRefusedNow(dialogue, statements)
  if (refusal !== undefined) {
    const { guard, run, query } = session
    const decision = session.decide(unparsedStatement(String(query.text ?? ''), refusal))
    const error = new DryTraceError('DRY_BLOCKED', `dry run: ${refusal}`)
    query.handleError(
      guard.within(run, () => guard.fail(decision, error)),
      dialogue.connection,
    )
    return
  }
  tellNoRollback(session, 'pg-native')
  await runScript(session, () => {
    const plan = typeof planned === 'function' ? planned() : planned
    if (copies(plan)) throw new DryTraceError('DRY_BLOCKED', 'dry run: COPY is not supported over pg-native')
    return plan
  })
}

function whyRefusedNow({ state }: NativeDialogue, plan: readonly Planned[] | undefined): string | undefined {
  if (state.status === undefined) return 'the state of this connection is not known'
  if (state.unreadable !== undefined) return `SQL on this connection cannot be judged: ${state.unreadable}`
  return plan !== undefined && copies(plan) ? 'COPY is not supported over pg-native' : undefined
}

function copies(plan: readonly Planned[]): boolean {
  return plan.some(({ statement }) => statement.node === 'CopyStmt')
}

function judge(text: unknown): readonly Statement[] {
  if (typeof text !== 'string') return [unparsedStatement('', 'the text of the statement is not known')]
  try {
    return classify(text)
  } catch (error) {
    return [unparsedStatement(text, messageOf(error))]
  }
}

/** pg's own check, which a blocked statement would not reach. */
function nameTaken(query: PgQuery, client: NativeClient): Error | undefined {
  const previous = query.name === undefined ? undefined : client.namedQueries[query.name]
  if (!query.text || previous === undefined || previous === query.text) return undefined
  return new Error(`Prepared statements must be unique - '${query.name}' was used for a different statement`)
}
