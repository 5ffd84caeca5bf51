import { DryTraceError } from '../../../errors.js'
import type { Guard, RollbackLimits } from '../../../guard/guard.js'
import type { Run } from '../../../run/run.js'
import type { Hazards } from '../../../sql/hazards.js'
import { Conversation } from '../conversation.js'
import type { Dialogue } from '../dialogue.js'
import type { PgClient, PgConnection, PgQuery } from '../driver.js'
import type { DatabaseError } from '../round.js'
import { connectBeside } from './connect-beside.js'

/** How long a statement waits for the transaction of another connection of its run. */
const PATIENCE_MILLISECONDS = 5_000

/** Constraints that are checked at COMMIT unless somebody says otherwise. */
const DEFERRED_CONSTRAINTS = `SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ')
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE c.condeferred`

/** Session settings of the application's connection, without those the question itself is asked under. */
export const SETTINGS_QUERY = `SELECT name, setting FROM pg_settings
WHERE source = 'session' AND name !~ '^(transaction_|session_authorization$|(statement|lock|idle_in_transaction_session)_timeout$|jit$)'
ORDER BY name = 'role', name`

const SETUP: Pick<PgQuery, 'name' | 'text'> = { name: undefined, text: undefined }

/** Thrown where the connection was lost with everything the run has done in it. */
export function pinLost(cause: Error): DryTraceError {
  return new DryTraceError(
    'DRY_BLOCKED',
    `dry run: the connection that holds the run's changes is gone (${cause.message}); what the run has changed so far is rolled back`,
    { cause },
  )
}

/**
 * The connection on which a run with `preview: rollback` executes everything it
 * does to one database: one transaction that is never committed. Transactions
 * of the application are savepoints in it.
 */
export class PinnedConnection {
  readonly client: PgClient
  readonly connection: PgConnection
  /** The connection of the application whose transaction is open here. */
  owner: PgClient | undefined
  /** What must not run here; undefined after a statement that may have changed it. */
  hazards: { found: Hazards; escapes: readonly string[] } | undefined
  /** Names of the initially deferred constraints, as SET CONSTRAINTS takes them. */
  deferred: string | undefined
  /** The caveats of this mode are on record. */
  warned = false
  /** Something was changed here. */
  wrote = false
  #lost: Error | undefined
  #busy: Promise<void> | undefined
  #ownerLeft = Promise.withResolvers<void>()
  #settings: string | undefined

  private constructor(client: PgClient, connection: PgConnection) {
    this.client = client
    this.connection = connection
    client.on('error', (error: Error) => {
      this.#lost ??= error
    })
    client.on('end', () => {
      this.#lost ??= new Error('Connection terminated')
    })
  }

  /** Opens the run's connection next to the application's. @throws the driver's error. */
  static async open(beside: PgClient, limits: RollbackLimits): Promise<PinnedConnection> {
    const client = await connectBeside(beside)
    const { connection } = client
    if (connection === undefined) throw new TypeError('this version of pg is built differently')
    const pinned = new PinnedConnection(client, connection)
    const conversation = pinned.converse(SETUP as PgQuery)
    const setup = await conversation.simple(
      `SET lock_timeout = ${limits.lockMilliseconds}; SET statement_timeout = ${limits.statementMilliseconds}; ` +
        `SET idle_in_transaction_session_timeout = ${limits.idleMilliseconds}; BEGIN READ WRITE`,
    )
    conversation.release()
    if (setup.error !== undefined) {
      pinned.#drop()
      throw setup.error
    }
    pinned.#ref(false)
    return pinned
  }

  get lost(): Error | undefined {
    return this.#lost
  }

  /** Carries `query` out here in the place of the connection it was made on. */
  converse(query: PgQuery): Conversation {
    return new Conversation(this.client, this.connection, query)
  }

  /**
   * Runs `work` alone on this connection, after the transaction of any other
   * connection of the run. One that does not end (it waits for `work`, for all
   * we know) is joined after a while: `joined` is then true.
   */
  async exclusively<T>(from: PgClient, work: (joined: boolean) => Promise<T>): Promise<T> {
    const until = Date.now() + PATIENCE_MILLISECONDS
    let joined = false
    for (;;) {
      if (this.#busy !== undefined) await this.#busy
      else if (this.owner === undefined || this.owner === from) break
      else if (Date.now() >= until) {
        joined = true
        break
      } else await raceTimeout(this.#ownerLeft.promise, until - Date.now())
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#busy = promise
    this.#ref(true)
    try {
      return await work(joined)
    } finally {
      this.#busy = undefined
      // An idle transaction must not keep the application's process from ending.
      this.#ref(false)
      resolve()
    }
  }

  /** The application's connection has begun a transaction. */
  own(client: PgClient): void {
    this.owner = client
  }

  disown(): void {
    this.owner = undefined
    const { resolve } = this.#ownerLeft
    this.#ownerLeft = Promise.withResolvers()
    resolve()
  }

  /**
   * Gives this connection the session settings (`search_path`, `role`, …) of the application's.
   * False when another connection of the run has other ones. @throws the server's error.
   */
  async adopt(rows: readonly (readonly (string | null)[])[], conversation: Dialogue): Promise<boolean> {
    const settings = JSON.stringify(rows)
    if (this.#settings !== undefined) return this.#settings === settings
    this.#settings = settings
    for (const [name, setting] of rows) {
      const answer = await conversation.run({ text: 'SELECT set_config($1, $2, false)', values: [name, setting] })
      if (answer.error !== undefined) throw answer.error
    }
    return true
  }

  /** Checks what is deferred to COMMIT, then defers it again for what follows. */
  async checkDeferred(conversation: Dialogue): Promise<DatabaseError | undefined> {
    const checked = await conversation.simple('SET CONSTRAINTS ALL IMMEDIATE')
    if (checked.error !== undefined) return checked.error
    if (this.deferred === undefined) {
      let names = ''
      const answer = await conversation.run({ text: DEFERRED_CONSTRAINTS }, undefined, {
        row: ([list]) => {
          names = list ? String(list) : ''
        },
      })
      if (answer.error !== undefined) return answer.error
      this.deferred = names
    }
    if (this.deferred === '') return undefined
    return (await conversation.simple(`SET CONSTRAINTS ${this.deferred} DEFERRED`)).error
  }

  /** Takes everything back. Safe to call at any time. */
  async close(): Promise<void> {
    while (this.#busy !== undefined) await this.#busy
    if (this.#lost === undefined) {
      const conversation = this.converse(SETUP as PgQuery)
      await conversation.simple('ROLLBACK')
      conversation.release()
    }
    this.#drop()
  }

  #drop(): void {
    this.#lost ??= new Error('the dry run has ended')
    // The server rolls back whatever is open when the connection goes.
    const { client } = this as unknown as { client: { end(callback: () => void): void } }
    client.end(() => undefined)
  }

  #ref(busy: boolean): void {
    const { stream } = this.connection as unknown as { stream: { ref?(): void; unref?(): void } }
    if (busy) stream.ref?.()
    else stream.unref?.()
  }
}

function raceTimeout(promise: Promise<void>, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds)
    void promise.then(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** The connections of each run, by the database they lead to. */
const connections = new WeakMap<Run, Map<string, Promise<PinnedConnection>>>()

/** The run's connection to the database of `beside`, opened when it has none. @throws the driver's error. */
export async function pinnedConnection(guard: Guard, run: Run, beside: PgClient): Promise<PinnedConnection> {
  let own = connections.get(run)
  if (own === undefined) {
    own = new Map()
    connections.set(run, own)
  }
  const { host, port, database, user } = beside
  const key = JSON.stringify([host, port, database, user])
  const known = own.get(key)
  if (known !== undefined) {
    const pinned = await known
    if (pinned.lost === undefined) return pinned
    if (own.get(key) === known) own.delete(key)
    if (pinned.wrote) throw pinLost(pinned.lost)
    return await pinnedConnection(guard, run, beside)
  }
  // Born in the root context: it outlives the call, and what drytrace opens is no effect of the run's.
  const opened = guard.root(() => PinnedConnection.open(beside, guard.rollback))
  own.set(key, opened)
  opened.catch(() => own.delete(key))
  return await opened
}

/** Rolls back everything a run has done, on every database. */
export async function closePinned(run: Run): Promise<void> {
  const own = connections.get(run)
  if (own === undefined) return
  connections.delete(run)
  for (const opened of own.values()) {
    await opened.then((pinned) => pinned.close()).catch(() => undefined)
  }
}
