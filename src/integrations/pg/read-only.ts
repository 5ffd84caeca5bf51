import { HAZARDS_QUERY, type Hazards, readHazards } from '../../sql/hazards.js'
import { Lru } from '../../sql/lru.js'
import type { Conversation } from './conversation.js'
import { type Answer, type Fence, NO_FENCE, type Sink, type Step } from './round.js'

/**
 * What our own queries may cost a live database. A session with `enable_seqscan = off` has the
 * server compile a query of half a millisecond for five seconds.
 */
const LIMITS = ["SET LOCAL statement_timeout = '5s'", "SET LOCAL lock_timeout = '1s'", 'SET LOCAL jit = off']
const SAVEPOINT = 'drytrace_fence'
const UNDO = [`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`, `RELEASE SAVEPOINT ${SAVEPOINT}`]

/** How long the scan for dangerous functions and views is good for. */
const HAZARDS_MILLISECONDS = 5 * 60_000
const hazards = new Lru<{ found: Hazards; at: number }>(100, 100_000)

/**
 * Executes statements so that they cannot write: in a READ ONLY transaction of
 * their own, or behind a savepoint of the transaction that is open.
 */
export class ReadOnly {
  readonly #conversation: Conversation

  constructor(conversation: Conversation) {
    this.#conversation = conversation
  }

  /**
   * The fence for one statement of the application. Everything goes under one
   * Sync with an explicit ROLLBACK: an implicit transaction would let CALL and DO commit.
   */
  fence(): Fence {
    const { status, state } = this.#conversation
    if (status === 'I') return { before: ['BEGIN READ ONLY'], after: ['ROLLBACK'] }
    // A transaction that a dry run opened is READ ONLY already.
    if (state.transaction !== undefined) return NO_FENCE
    return { before: [`SAVEPOINT ${SAVEPOINT}`, 'SET TRANSACTION READ ONLY'], after: UNDO }
  }

  /** The fence for a statement of the application that may be refused, without failing its transaction. */
  recoverable(): Fence {
    const { status, state } = this.#conversation
    if (status !== 'T' || state.transaction === undefined) return this.fence()
    return { before: [`SAVEPOINT ${SAVEPOINT}`], after: [`RELEASE SAVEPOINT ${SAVEPOINT}`] }
  }

  /** Leaves a fence whose statement failed: the server skipped what would have closed it. */
  async leave(fence: Fence, answer: Answer): Promise<void> {
    if (answer.error === undefined || answer.lost || this.#conversation.status !== 'E') return
    if (fence.before[0]?.startsWith('BEGIN')) await this.#conversation.simple('ROLLBACK')
    else if (fence.before.length > 0 && !answer.failedEarly) await this.#conversation.simple(UNDO.join('; '))
  }

  /** A query of ours, within limits. Never disturbs an open transaction. */
  async query(step: Step, sink: Sink = {}): Promise<Answer> {
    const fence = this.#ownFence()
    const answer = await this.#conversation.run(step, fence, sink)
    await this.leave(fence, answer)
    return answer
  }

  /** Rows of a query of ours, as texts. @throws the server's error. */
  async rows(step: Step): Promise<(string | null)[][]> {
    const rows: (string | null)[][] = []
    const answer = await this.query(step, { row: (fields) => rows.push(fields.map(textOf)) })
    if (answer.error !== undefined) throw answer.error
    return rows
  }

  /**
   * Has the server check a statement without executing it. In the
   * application's own dry transaction an error fails the transaction, as executing it would.
   */
  async describe(text: string, types?: readonly number[], own = true): Promise<Answer> {
    const { status, state } = this.#conversation
    const plain = status === 'I' || (own && state.transaction !== undefined)
    const fence = plain ? NO_FENCE : this.#ownFence()
    const answer = await this.#conversation.run({ text, types, describe: true }, fence)
    await this.leave(fence, answer)
    return answer
  }

  #ownFence(): Fence {
    const { status, state } = this.#conversation
    if (status === 'I') return { before: ['BEGIN READ ONLY', ...LIMITS], after: ['ROLLBACK'] }
    const readOnly = state.transaction === undefined ? ['SET TRANSACTION READ ONLY'] : []
    return { before: [`SAVEPOINT ${SAVEPOINT}`, ...readOnly, ...LIMITS], after: UNDO }
  }

  /** What must not run in this database even READ ONLY. @throws when the catalog cannot be scanned. */
  async hazards(): Promise<Hazards> {
    const { host, port, database } = this.#conversation.client
    const key = `${host}:${port}/${database}`
    const known = hazards.get(key)
    if (known !== undefined && Date.now() - known.at < HAZARDS_MILLISECONDS) return known.found
    const rows = await this.rows({ text: HAZARDS_QUERY })
    const found = readHazards(rows.map(([kind, name]) => [kind ?? '', name ?? ''] as const))
    hazards.set(key, { found, at: Date.now() })
    return found
  }
}

export function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return null
  return Buffer.isBuffer(value) ? value.toString('utf8') : String(value)
}
