import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { dumpAll } from './populate.mjs'
import { run } from './tools.mjs'

/** Written by the server on its own account, or by reading: counters, caches, maps, the log itself. */
const OWN =
  /^(pg_wal|pg_stat|pg_stat_tmp|pg_subtrans|pg_notify|pg_logical\/replorigin_checkpoint|postmaster\.|global\/pg_control|.*pg_internal\.init|.*_(fsm|vm)$|.*pgsql_tmp)/

/** Everything a false allow would show in, as a flat record of texts. */
export async function takeEvidence({ cluster, bin, user, databases }) {
  const evidence = {}
  const dump = dumpAll({ cluster, bin, user })
  evidence['dump of all databases (SHA-256)'] = sha256(Buffer.from(dump, 'latin1'))
  for (const [name, seen] of files(cluster.data)) {
    // Reading sets hint bits in pages: of relations the size counts, of the rest the content.
    if (OWN.test(name)) continue
    evidence[`file data/${name}`] = /^(base|global|pg_tblspc|pg_xact|pg_multixact)\//.test(name)
      ? seen.size
      : seen.digest()
  }
  for (const folder of ['build', 'contrib', 'suite', 'lib']) {
    for (const [name, seen] of files(path.join(cluster.root, folder))) {
      if (/PG_\d+_\d+\/.*(_fsm|_vm|pg_internal\.init)$/.test(name)) continue
      evidence[`file ${folder}/${name}`] = name.includes('/PG_') ? seen.size : seen.digest()
    }
  }
  for (const database of databases) {
    const client = new pg.Client({ host: cluster.host, port: cluster.port, user: 'postgres', database })
    await client.connect()
    const { rows } = await client.query(
      'SELECT relid, schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables ORDER BY relid',
    )
    for (const row of rows) {
      evidence[`tuples of ${database}.${row.schemaname}.${row.relname} (${row.relid})`] = [
        row.n_tup_ins,
        row.n_tup_upd,
        row.n_tup_del,
      ].join('/')
    }
    await client.end()
  }
  const client = new pg.Client({ host: cluster.host, port: cluster.port, user: 'postgres', database: 'postgres' })
  await client.connect()
  const { rows } = await client.query(`SELECT
    (SELECT json_agg((datname, tup_inserted, tup_updated, tup_deleted) ORDER BY datname) FROM pg_stat_database) AS "tuples by database",
    (SELECT json_agg(slot_name) FROM pg_replication_slots) AS "replication slots",
    (SELECT json_agg(gid) FROM pg_prepared_xacts) AS "prepared transactions",
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS "advisory locks",
    (SELECT json_agg((roname, remote_lsn)) FROM pg_replication_origin LEFT JOIN pg_replication_origin_status ON local_id = roident) AS "replication origins",
    pg_notification_queue_usage() AS "notifications waiting",
    pg_snapshot_xmax(pg_current_snapshot()) AS "next transaction id"`)
  for (const [name, value] of Object.entries(rows[0])) evidence[name] = JSON.stringify(value)
  await client.end()
  return evidence
}

/** What is not the same, in words. */
export function differences(before, after) {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((name) => String(before[name]) !== String(after[name]))
    .map((name) => `${name}: ${before[name]} -> ${after[name]}`)
}

/** Records of the write-ahead log between two positions that are not the server's note of running transactions. */
export function walRecords({ cluster, bin, user }, from, to) {
  if (from === to) return []
  const text = run(path.join(bin, 'pg_waldump'), ['-p', path.join(cluster.data, 'pg_wal'), '-s', from, '-e', to], {
    ...user,
    cwd: cluster.root,
  })
  return text.split('\n').filter((line) => line.startsWith('rmgr:') && !/desc: RUNNING_XACTS/.test(line))
}

function* files(root, below = '') {
  for (const entry of readdirSync(path.join(root, below), { withFileTypes: true })) {
    const name = path.join(below, entry.name)
    const full = path.join(root, name)
    if (entry.isDirectory()) yield* files(root, name)
    else if (entry.isFile()) yield [name, { size: lstatSync(full).size, digest: () => sha256(readFileSync(full)) }]
    else yield [name, { size: 'special', digest: () => 'special' }]
  }
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}
