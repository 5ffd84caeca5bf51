import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

// pgstat.c: a backend hands in its counters with the first statement that ends
// a second after the last time, or ten seconds after it went idle.
const FLUSH_AFTER_STATEMENT_MS = 1_100
const FLUSH_AFTER_IDLE_MS = 10_500

/** Watches one database as a superuser. Its own statements are reads and do not disturb what it measures. */
export async function openObserver(adminUrl) {
  const client = new pg.Client({ connectionString: adminUrl, application_name: 'observer' })
  // When the world is stopped under it, the statement in flight says so.
  client.on('error', () => {})
  await client.connect()
  const rows = async (text, values) => (await client.query(text, values)).rows
  return {
    rows,
    /** Everything a write would move: rows, sequences, WAL, transaction ids, tuple counters. */
    async snapshot() {
      await waitForCounters(rows)
      return {
        tables: await tables(rows),
        sequences: await sequences(rows),
        wal: await wal(rows),
        counters: await counters(rows),
      }
    },
    /**
     * WAL records between two positions, by what wrote them. Moves the position when there are any: pg_walinspect reads
     * flushed WAL only, and what no commit followed is not flushed.
     */
    async walRecords(from, to) {
      if (from === to) return []
      await rows('CHECKPOINT')
      return rows(
        `SELECT resource_manager AS manager, record_type AS type, count(*)::int AS records
         FROM pg_get_wal_records_info($1, $2) GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2`,
        [from, to],
      )
    },
    close: () => client.end(),
  }
}

/** Rows and a digest of the contents of every table of every schema, the job queue's included. */
async function tables(rows) {
  const names = await rows(`
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    ORDER BY 1`)
  const found = {}
  for (const { name } of names) {
    const [content] = await rows(
      `SELECT count(*)::int AS count, coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') AS digest FROM ${name} t`,
    )
    found[name] = content
  }
  return found
}

async function sequences(rows) {
  const names = await rows(`SELECT format('%I.%I', schemaname, sequencename) AS name FROM pg_sequences ORDER BY 1`)
  const found = {}
  for (const { name } of names) {
    const [state] = await rows(`SELECT last_value::text AS value, is_called AS called FROM ${name}`)
    found[name] = state.called ? state.value : 'unused'
  }
  return found
}

async function wal(rows) {
  const [state] = await rows(
    'SELECT pg_current_wal_insert_lsn()::text AS lsn, pg_snapshot_xmax(pg_current_snapshot())::text AS "nextTransactionId"',
  )
  return state
}

async function counters(rows) {
  const [state] = await rows(`
    SELECT tup_inserted::text AS inserted, tup_updated::text AS updated, tup_deleted::text AS deleted
    FROM pg_stat_database WHERE datname = current_database()`)
  return state
}

/** Backends hand in their tuple counters late: wait until each one has, by its own clock. */
async function waitForCounters(rows) {
  const [{ since }] = await rows('SELECT clock_timestamp() AS since')
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const [{ pending }] = await rows(
      `SELECT count(*)::int AS pending FROM pg_stat_activity
       WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
         AND state_change < $1::timestamptz + make_interval(secs => $2)
         AND state_change > clock_timestamp() - make_interval(secs => $3)`,
      [since, FLUSH_AFTER_STATEMENT_MS / 1000, FLUSH_AFTER_IDLE_MS / 1000],
    )
    if (pending === 0) break
    await sleep(200)
  }
  await rows('SELECT pg_stat_force_next_flush()')
  await rows('SELECT pg_stat_clear_snapshot()')
}

/** SHA-256 of a JSON value, short. */
export function digestOf(value) {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12)
}
