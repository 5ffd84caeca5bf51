// Scores the SQL classifier against what a real server did: npm run pg:truth [FILE]
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { classify, worstKind } from '../dist/sql/classify.js'
import { loadGrammar } from '../dist/sql/grammar.js'

/** Executed, in a READ ONLY transaction that is rolled back. */
const UNDER_LOCK = ['read', 'unsure']
/** Sent as they are. */
const SENT = ['session', 'txmode']
const KINDS = [...UNDER_LOCK, ...SENT, 'tx', 'lock', 'write', 'deny', 'unparsed']
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

await loadGrammar()
const judged = readTruths().map((truth) => ({ ...truth, kind: worstKind(classify(truth.sql)) }))
if (judged.length === 0) throw new Error(`${file} holds no statements`)

const effects = judged.filter(({ truth }) => truth === 'write' || truth === 'session')
const falseAllows = effects.filter(({ kind, readOnly }) => kind === 'read' && readOnly !== 'blocked')
// Only the server knows what its user functions do: the guard scans the catalog for these before it runs one.
const forTheScan = judged.filter(({ kind, outlivesRollback }) => outlivesRollback && kind === 'unsure')
const lasting = judged.filter(({ kind, outlivesRollback }) => outlivesRollback && kind === 'read')

const reads = judged.filter(({ truth }) => truth === 'read')
const allowed = reads.filter(({ kind }) => UNDER_LOCK.includes(kind) || SENT.includes(kind))
// An INSERT of no rows, or into a temporary table, changed nothing that lasts. Its text is a write all the same.
const writesByText = reads.filter(({ kind }) => kind === 'write')
const share = allowed.length / (reads.length - writesByText.length)
const percent = (part, whole) => `${((part / whole) * 100).toFixed(2)} %`

printMatrix(judged)
show('An effect that READ ONLY does not stop, judged read', falseAllows)
show('A lasting effect, judged read', lasting)
show('Left to the scan of user functions', forTheScan)
console.log(`\n${judged.length} statements, ${lasting.length} judged read left an effect that outlived ROLLBACK`)
console.log(`reads allowed, of all that changed nothing: ${percent(allowed.length, reads.length)} of ${reads.length}`)
console.log(
  `reads allowed, of those whose text is no write: ${percent(allowed.length, reads.length - writesByText.length)} of ${
    reads.length - writesByText.length
  } (bound: ${READS_ALLOWED * 100} %; ${writesByText.length} are INSERT, UPDATE, CALL and the like that happened to change nothing)`,
)
console.log(
  `write or session statements judged read that READ ONLY would not have stopped: ${falseAllows.length} of ${effects.length}`,
)
process.exitCode = falseAllows.length === 0 && lasting.length === 0 && share >= READS_ALLOWED ? 0 : 1
