import { HAZARDS_QUERY, type Hazards, readHazards } from '../../sql/hazards.js'
import { Lru } from '../../sql/lru.js'
import type { Dialogue } from './dialogue.js'
import { assertion, isShared, PLACE_QUERY } from './known.js'
import { type Answer, type Fence, NO_FENCE, type Sink, type Step } from './round.js'

const SAVEPOINT = 'drytrace_fence'
const UNDO = [`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`, `RELEASE SAVEPOINT ${SAVEPOINT}`]

/** A connection whose names keep changing is asked first: each failed assertion is a line in the server's log. */
const MAX_MOVES = 3

/** How long the scan for dangerous functions and views is good for: what is defined meanwhile only READ ONLY judges. */
const HAZARDS_MILLISECONDS = 60_000
const hazards = new Lru<{ found: Hazards; at: number }>(100, 100_000)

/**
 * Executes statements so that they cannot write: in a READ ONLY transaction of
 * their own, or behind a savepoint of the transaction that is open.
 */
export class ReadOnly {
  readonly #conversation: Dialogue
  readonly #limits: readonly string[]
  readonly #preparedLimits: string

  /** @param milliseconds how long one query of ours may take */
  constructor(conversation: Dialogue, milliseconds = 5_000) {
    this.#conversation = conversation
    // A session with `enable_seqscan = off` has the server compile a query of half a millisecond for five seconds.
    this.#limits = [
      `SET LOCAL statement_timeout = ${milliseconds}`,
      "SET LOCAL lock_timeout = '1s'",
      'SET LOCAL jit = off',
    ]
    this.#preparedLimits =
      `SELECT pg_catalog.set_config('statement_timeout', '${milliseconds}', true), ` +
      "pg_catalog.set_config('lock_timeout', '1s', true), pg_catalog.set_config('jit', 'off', true)"
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

  /** @param keep its statements are prepared: then one of them sets all limits */
  #ownFence(keep = false): Fence {
    const { status, state } = this.#conversation
    const limits = keep ? [this.#preparedLimits] : this.#limits
    if (status === 'I') return { before: ['BEGIN READ ONLY', ...limits], after: ['ROLLBACK'] }
    const readOnly = state.transaction === undefined ? ['SET TRANSACTION READ ONLY'] : []
    return { before: [`SAVEPOINT ${SAVEPOINT}`, ...readOnly, ...limits], after: UNDO }
  }

  /**
   * How names are resolved on this connection, as the key of what is remembered
   * of them; undefined where nothing may be.
   */
  place(): Promise<string | undefined> {
    return this.#place(true)
  }

  /** The same without asking the server: what relies on it goes out behind {@link assertions}. */
  probablePlace(): Promise<string | undefined> {
    return this.#place(false)
  }

  async #place(certain: boolean): Promise<string | undefined> {
    const { state, checks } = this.#conversation
    if (!checks) return undefined
    // The next round trip may be another session's.
    const loose = () => state.pooled && state.status === 'I'
    if (state.status === 'E' || loose()) return undefined
    const ask = certain || !this.asserts || state.moves >= MAX_MOVES
    if (state.place === undefined || (!state.placeHolds && ask)) {
      const found: (string | null)[] = []
      const answer = await this.query({ text: PLACE_QUERY }, { row: (cells) => void found.push(...cells.map(textOf)) })
      const [place, pid] = found
      if (answer.error !== undefined || place == null) return undefined
      state.place = place
      state.pooled = pid !== String(this.#conversation.client.processID)
      this.held()
    }
    return !loose() && isShared(state.place) ? state.place : undefined
  }

  /** What has the server check that names mean what they did, to go before a statement that relies on it. */
  assertions(): readonly string[] {
    const { place, placeHolds } = this.#conversation.state
    return this.asserts && place !== undefined && !placeHolds ? [assertion(place)] : []
  }

  /** An assertion that fails takes nothing with it: not in the middle of live code's transaction. */
  get asserts(): boolean {
    const { status, transaction } = this.#conversation.state
    return status === 'I' || (status === 'T' && transaction !== undefined)
  }

  /** What was relied on held. */
  held(): void {
    const { state } = this.#conversation
    state.placeHolds = state.place !== undefined && this.asserts
  }

  /** What was relied on did not hold: it is looked up again. */
  moved(): void {
    const { state } = this.#conversation
    state.place = undefined
    state.moves += 1
  }

  /** A query of ours that relies on what is remembered: the server checks that first, in the same round trip. */
  async relying(step: Step, sink: Sink, checks: readonly Step[]): Promise<Answer> {
    const { pooled, status, kept } = this.#conversation.state
    // In a transaction a savepoint that turns out not to be prepared would fail it.
    const own = this.#ownFence(status === 'I')
    const fence = { ...own, before: [...own.before, ...this.assertions()], keep: status === 'I' }
    const unkept = (one: Step): Step => (pooled ? { ...one, keep: false } : one)
    const answer = await this.#conversation.run(unkept(step), fence, sink, checks.map(unkept))
    if (answer.error === undefined) this.held()
    else if (!answer.lost) {
      this.moved()
      kept.doubt()
    }
    await this.leave(own, answer)
    return answer
  }

  /** The hazards, if they have been scanned lately. */
  knownHazards(): Hazards | undefined {
    const entry = hazards.get(this.#database())
    return entry !== undefined && Date.now() - entry.at < HAZARDS_MILLISECONDS ? entry.found : undefined
  }

  #database(): string {
    const { host, port, database } = this.#conversation.client
    return `${host}:${port}/${database}`
  }

  /** What must not run in this database even READ ONLY. @throws when the catalog cannot be scanned. */
  async hazards(): Promise<Hazards> {
    const known = this.knownHazards()
    if (known !== undefined) return known
    const rows = await this.rows({ text: HAZARDS_QUERY })
    const found = readHazards(rows.map(([kind, name]) => [kind ?? '', name ?? ''] as const))
    hazards.set(this.#database(), { found, at: Date.now() })
    return found
  }
}

export function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return null
  return Buffer.isBuffer(value) ? value.toString('utf8') : String(value)
}
