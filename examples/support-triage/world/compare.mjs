import { digestOf } from './snapshot.mjs'

/**
 * What differs between two snapshots of the world.
 *
 * @returns {{line: string, before: string, after: string, unchanged: boolean, changes: string[]}[]} one entry for each
 *   line of the proof: rows, sequences, WAL, tuple counters, inbox, CRM log
 */
export function compare(before, after) {
  const line = (name, print, changes) => ({
    line: name,
    before: print(before),
    after: print(after),
    unchanged: changes.length === 0,
    changes,
  })
  return [
    line(
      'rows',
      (s) => `${total(s.tables)} in ${size(s.tables)} tables, ${digestOf(s.tables)}`,
      tableChanges(before, after),
    ),
    line(
      'sequences',
      (s) => `${size(s.sequences)}, ${digestOf(s.sequences)}`,
      changed(before.sequences, after.sequences),
    ),
    line('WAL', (s) => `${s.wal.lsn}, next transaction ${s.wal.nextTransactionId}`, changed(before.wal, after.wal)),
    line(
      'tuple counters',
      (s) => `${s.counters.inserted} inserted, ${s.counters.updated} updated, ${s.counters.deleted} deleted`,
      changed(before.counters, after.counters),
    ),
    line('inbox', (s) => plural(s.inbox.length, 'message'), newEntries(before.inbox, after.inbox)),
    line('CRM log', (s) => `${plural(s.crm.writes.length, 'write')}, contacts ${digestOf(s.crm.contacts)}`, [
      ...newEntries(before.crm.writes, after.crm.writes),
      ...(digestOf(before.crm.contacts) === digestOf(after.crm.contacts) ? [] : ['contacts differ']),
    ]),
  ]
}

function tableChanges(before, after) {
  const changes = []
  for (const name of union(before.tables, after.tables)) {
    const old = before.tables[name] ?? { count: 0, digest: 'no table' }
    const now = after.tables[name] ?? { count: 0, digest: 'no table' }
    if (old.digest === now.digest) continue
    const difference = now.count - old.count
    changes.push(`${name}: ${difference === 0 ? 'content differs' : `${difference > 0 ? '+' : ''}${difference} rows`}`)
  }
  return changes
}

function changed(before, after) {
  return union(before, after)
    .filter((key) => before[key] !== after[key])
    .map((key) => `${key}: ${before[key] ?? 'absent'} -> ${after[key] ?? 'absent'}`)
}

function newEntries(before, after) {
  const same = before.every((entry, index) => entry === after[index])
  return same ? after.slice(before.length) : ['history rewritten']
}

const union = (a, b) => [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()
const size = (record) => Object.keys(record).length
const total = (tables) => Object.values(tables).reduce((sum, table) => sum + table.count, 0)
const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`
