import pg from 'pg'
import { walRecords } from './evidence.mjs'

/** Records that reading makes when it finds rows that nobody can see any more. */
const TIDYING = /desc: (PRUNE|FPI_FOR_HINT|VISIBLE)/

/** Watches the server around every statement and keeps what it finds. */
export class Ledger {
  sent = 0
  answers = new Map()
  stuck = []
  guilty = []
  #context
  #observer
  #last
  #strict
  #moved = []

  /** `strict` when nothing else is going on and there is nothing left to tidy. */
  constructor(context, { strict }) {
    this.#context = context
    this.#strict = strict
    const { host, port } = context.cluster
    this.#observer = new pg.Client({ host, port, user: 'postgres', database: 'postgres' })
    // Stopping the server ends it.
    this.#observer.on('error', () => undefined)
  }

  get observer() {
    return this.#observer
  }

  async open() {
    await this.#observer.connect()
    await this.mark()
  }

  /** Everything up to here is somebody else's doing. */
  async mark() {
    this.#last = await this.#position()
    return this.#last
  }

  async add(statement, { code, message }) {
    this.sent++
    this.answers.set(code ?? 'ok', (this.answers.get(code ?? 'ok') ?? 0) + 1)
    const answered = { ...statement, code, message }
    if (code === 'BOUND' || code === 'DIED') this.stuck.push(answered)
    const from = this.#last
    const to = await this.mark()
    if (from.wal === to.wal && from.xid === to.xid && from.advisory >= to.advisory) return
    this.#moved.push({ ...answered, from, to })
    if (this.#strict) return
    // The log is on disk up to the last commit only, and old parts of it are removed by and by.
    await this.#observer.query("SELECT pg_logical_emit_message(true, 'ledger', 'flush')")
    this.judge()
  }

  /** Finds the guilty among the statements around which something moved. */
  judge() {
    for (const one of this.#moved.splice(0)) {
      const reasons = this.#reasons(one)
      if (reasons.length === 0) continue
      this.guilty.push(one)
      const text = one.text.replace(/\s+/g, ' ').slice(0, 200)
      console.log(`FALSE ALLOW: ${one.name}: ${text} (${one.code ?? 'ok'}): ${reasons.join(', ')}`)
    }
  }

  #reasons({ from, to }) {
    const reasons = walRecords(this.#context, from.wal, to.wal)
      .filter((record) => this.#strict || !TIDYING.test(record))
      .map((record) => record.replace(/^rmgr: (\S+).*desc: (\S+).*$/, '$1 $2'))
    if (from.xid !== to.xid) reasons.push('a transaction id was taken')
    if (from.advisory < to.advisory) reasons.push('an advisory lock was taken')
    return [...new Set(reasons)]
  }

  async #position() {
    const { rows } = await this.#observer.query(`SELECT pg_current_wal_insert_lsn()::text AS wal,
      pg_snapshot_xmax(pg_current_snapshot())::text AS xid,
      (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS advisory`)
    return rows[0]
  }
}
