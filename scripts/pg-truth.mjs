// Scores the SQL classifier against what a real server did: npm run pg:truth [FILE]
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { classify, worstKind } from '../dist/sql/classify.js'
import { deparse, loadGrammar, parseOne } from '../dist/sql/grammar.js'
import { neutralise } from '../dist/sql/neutralise.js'

/** Executed, in a READ ONLY transaction that is rolled back. */
const UNDER_LOCK = ['read', 'unsure']
/** Sent as they are. */
const SENT = ['session', 'txmode']
const KINDS = [...UNDER_LOCK, 'xid', 'lock', ...SENT, 'tx', 'write', 'deny', 'unparsed']
/** Share of the statements that only read which must stay usable. */
const READS_ALLOWED = 0.97

const file = process.argv[2] ?? new URL('../test/sql/fixtures/pg-truth.jsonl.gz', import.meta.url)

function readTruths() {
  const bytes = readFileSync(file)
  const text = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString('utf8')
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

function show(title, judged) {
  if (judged.length === 0) return
  console.log(`\n${title}:`)
  for (const { sql, truth, kind } of judged.slice(0, 20)) {
    console.log(`  ${truth} judged ${kind}: ${sql.replace(/\s+/g, ' ').slice(0, 160)}`)
  }
  if (judged.length > 20) console.log(`  and ${judged.length - 20} more`)
}

function printMatrix(judged) {
  const cell = (text) => String(text).padStart(9)
  console.log(`${'did \\ judged'.padEnd(24)}${KINDS.map(cell).join('')}`)
  for (const truth of ['read', 'session', 'write', 'error']) {
    for (const readOnly of ['ran', 'blocked', 'error']) {
      const row = judged.filter((one) => one.truth === truth && one.readOnly === readOnly)
      if (row.length === 0) continue
      const counts = KINDS.map((kind) => row.filter((one) => one.kind === kind).length || '.')
      console.log(`${`${truth}, READ ONLY: ${readOnly}`.padEnd(24)}${counts.map(cell).join('')}`)
    }
  }
}

/**
 * True when the statement is executed, itself or without what it must not have: row locks are dropped, and for the id of
 * the transaction the next one is told. LOCK TABLE is answered and put on record as blocked: it is not counted.
 */
function isAllowed({ kind, node, text }) {
  if (UNDER_LOCK.includes(kind) || SENT.includes(kind)) return true
  if ((kind !== 'xid' && kind !== 'lock') || node === 'LockStmt') return false
  const tree = parseOne(text)
  neutralise(tree, () => '0')
  return UNDER_LOCK.includes(worstKind(classify(deparse(tree))))
}

/** A DO block tells what it does, unless it calls functions that only the server knows: then the catalog is scanned. */
function isJudgedByText({ kind, node, unknown }) {
  return kind === 'read' || kind === 'xid' || (kind === 'unsure' && node === 'DoStmt' && unknown.length === 0)
}

await loadGrammar()
const judged = readTruths().map((truth) => {
  const statements = classify(truth.sql)
  return { ...truth, statements, kind: worstKind(statements) }
})
if (judged.length === 0) throw new Error(`${file} holds no statements`)

const effects = judged.filter(({ truth }) => truth === 'write' || truth === 'session')
const falseAllows = effects.filter(
  ({ statements, readOnly }) => statements.every(isJudgedByText) && readOnly !== 'blocked',
)
// User functions that READ ONLY lets write to temporary tables: ROLLBACK takes that back.
const letWrite = judged.filter(
  ({ truth, readOnly, kind }) => truth === 'write' && readOnly === 'ran' && kind === 'unsure',
)
// Only the server knows what its user functions do: the guard scans the catalog for these before it runs one.
const forTheScan = judged.filter(({ kind, outlivesRollback }) => outlivesRollback && kind === 'unsure')
const lasting = judged.filter(
  ({ statements, outlivesRollback }) => outlivesRollback && statements.every(isJudgedByText),
)

const reads = judged.filter(({ truth }) => truth === 'read')
const allowed = reads.filter(({ statements }) => statements.every(isAllowed))
// An INSERT of no rows, or into a temporary table, changed nothing that lasts. Its text is a write all the same.
const writesByText = reads.filter(({ kind }) => kind === 'write')
const share = allowed.length / (reads.length - writesByText.length)
const percent = (part, whole) => `${((part / whole) * 100).toFixed(2)} %`

printMatrix(judged)
show('An effect that READ ONLY does not stop, judged read', falseAllows)
show('A lasting effect, judged read', lasting)
show('Left to the scan of user functions', forTheScan)
show('Calls that READ ONLY lets write, executed and rolled back', letWrite)
console.log(`\n${judged.length} statements, ${lasting.length} judged read left an effect that outlived ROLLBACK`)
console.log(`reads allowed, of all that changed nothing: ${percent(allowed.length, reads.length)} of ${reads.length}`)
console.log(
  `reads allowed, of those whose text is no write: ${percent(allowed.length, reads.length - writesByText.length)} of ${
    reads.length - writesByText.length
  } (bound: ${READS_ALLOWED * 100} %; ${writesByText.length} are INSERT, UPDATE, COPY and the like that happened to change nothing)`,
)
console.log(
  `write or session statements judged read that READ ONLY would not have stopped: ${falseAllows.length} of ${effects.length}`,
)
process.exitCode = falseAllows.length === 0 && lasting.length === 0 && share >= READS_ALLOWED ? 0 : 1
