import type { Client } from 'pg'
import { afterEach, beforeEach, expect } from 'vitest'
import { live as observer } from '../../support/postgres-world.js'

/** What a database holds at one time. */
export interface DatabaseState {
  readonly rows: unknown
  readonly rest: unknown
  /** Position in the write-ahead log. */
  readonly position: string
}

/** Rows with their versions, sequences, advisory locks and open transactions. Needs the extension pg_walinspect later. */
export async function stateOf(live: Client, tables: readonly string[]): Promise<DatabaseState> {
  const rows: unknown[] = []
  for (const table of tables) {
    rows.push((await live.query(`SELECT t::text, xmin::text, ctid::text FROM ${table} t ORDER BY ctid`)).rows)
  }
  const rest = await live.query(`SELECT
    (SELECT json_agg((sequencename, last_value)) FROM (SELECT * FROM pg_sequences ORDER BY sequencename) s) AS sequences,
    (SELECT json_agg(relname ORDER BY oid) FROM pg_class WHERE oid >= 16384) AS relations,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory,
    (SELECT count(*)::int FROM pg_stat_activity WHERE state LIKE 'idle in transaction%') AS open_transactions`)
  const { rows: log } = await live.query('SELECT pg_current_wal_insert_lsn()::text AS position')
  return { rows, rest: rest.rows, position: log[0].position }
}

/** Nothing is different from before, and no transaction has written to the write-ahead log. */
export async function expectUnchanged(live: Client, tables: readonly string[], before: DatabaseState): Promise<void> {
  const now = await stateOf(live, tables)
  expect({ rows: now.rows, rest: now.rest }).toEqual({ rows: before.rows, rest: before.rest })
  if (now.position === before.position) return
  // Only what has been flushed can be read back: this commits after it.
  await live.query("SELECT pg_logical_emit_message(true, 'test', 'flush')")
  // What the server writes on its own: notes of running transactions, and pages it tidies while they are read.
  const { rows } = await live.query(
    `SELECT resource_manager || ' ' || record_type AS record FROM pg_get_wal_records_info($1, $2)
     WHERE resource_manager NOT IN ('Standby', 'XLOG') AND record_type NOT LIKE 'PRUNE%' AND record_type <> 'VISIBLE'`,
    [before.position, now.position],
  )
  expect(rows).toEqual([])
}

export interface Unchanged {
  /** Compares with now from here on: what was written before is meant. */
  renew(): Promise<void>
  /** Nothing has changed since the test began, or since `renew`. */
  expect(): Promise<void>
}

/** Each test of this file or suite must leave the tables, and all else in the database, as they were. */
export function leavesUnchanged(tables: readonly string[]): Unchanged {
  let before: DatabaseState
  const unchanged: Unchanged = {
    async renew() {
      before = await stateOf(observer, tables)
    },
    expect: () => expectUnchanged(observer, tables, before),
  }
  beforeEach(unchanged.renew)
  afterEach(unchanged.expect)
  return unchanged
}
