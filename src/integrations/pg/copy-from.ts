import { createHash } from 'node:crypto'
import type { CopyStmt, Node } from '@pgsql/types'
import { messageOf } from '../../errors.js'
import type { EffectDetail } from '../../guard/effect.js'
import type { Decision } from '../../guard/guard.js'
import type { Payload } from '../../journal/record.js'
import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import { classify, type Statement } from '../../sql/classify.js'
import { type CopyFormat, copyFormat } from '../../sql/copy-format.js'
import { CopyDataError, type CopyRow, copyReader } from '../../sql/copy-rows.js'
import { parseOne } from '../../sql/grammar.js'
import { relationKey } from '../../sql/overlay-catalog.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import { quoteName } from '../../sql/tree.js'
import type { Violation } from '../../sql/violations.js'
import { keepWithCascades } from './cascades.js'
import { nativeError } from './deliver.js'
import { overlayOf } from './overlaid.js'
import { previewWithOwnRows } from './own-rows.js'
import type { PreviewOutcome } from './preview-request.js'
import type { DatabaseError } from './round.js'
import { fail, failTransaction, record, type Session } from './session.js'
import { Submittable } from './submittable.js'

/** Rows that are worked out one by one; of more only the first ones are looked at. */
const MAX_ROWS = 10_000
const MAX_BYTES = 8 * 1024 * 1024
const SAMPLE = 1000

const JSON_OID = 114

/** True for a COPY that reads a file or a program of the server, which nobody here can see. */
export function copiesServerFile(statement: Statement): boolean {
  const copy = copyOf(statement)
  return copy.is_program === true || copy.filename !== undefined
}

function copyOf(statement: Statement): CopyStmt {
  const node = parseOne(statement.text)
  return 'CopyStmt' in node ? node.CopyStmt : {}
}

/**
 * COPY FROM STDIN that must not happen: takes the data, works out what it
 * would insert, writes that down, and gives the caller the count. Returns the
 * error the caller gets instead.
 */
export async function simulateCopyFrom(
  session: Session,
  statement: Statement,
  decision: Decision,
): Promise<Error | undefined> {
  const { conversation, reader, query } = session
  const copy = copyOf(statement)
  const relation = relationKey(copy.relation ?? {})
  const named = (copy.attlist ?? []).map(nameOf)
  // The server checks names as it would for the COPY, without executing anything.
  const answer = await reader.describe(insertOf(relation, named))
  if (answer.error !== undefined) return fails(session, decision, inWordsOfCopy(session, answer.error))
  const [row] = await reader.rows({ text: tableQuery(relation) })
  if (!row?.[0]) return fail(session, decision, new Error(`dry run: ${relation} is not in the catalog`))
  const table = readTable(row[0])
  const refusal = whyNoTarget(table)
  if (refusal !== undefined) return await failsWith(session, decision, refusal)
  if (!(query instanceof Submittable) || !query.shape.copiesIn) {
    // As pg's own Query does, which has nothing to copy.
    const where = { where: whereIs(table, { line: 1 }) }
    return await failsWith(session, decision, cancelled('No source stream defined'), {}, where)
  }
  const columns = named.length > 0 ? named : implicitColumns(table)
  const copied = copyFormat(copy)
  const data = new CopiedData(copied, columns, serverVersion(session))
  const { failed } = await query.receive((chunk) => data.take(chunk), conversation.gone)
  if (conversation.lost !== undefined) throw conversation.lost
  const problem =
    failed === undefined ? data.end() : { violation: cancelled(failed), line: data.rows + (copied.header ? 2 : 1) }
  if (problem !== undefined) {
    const where = { where: whereIs(table, problem) }
    return await failsWith(session, decision, problem.violation, { payload: data.payload() }, where)
  }
  return await deliverCopied(session, decision, { table, relation, columns, data, query })
}

interface Copied {
  readonly table: Table
  readonly relation: string
  readonly columns: readonly string[]
  readonly data: CopiedData
  readonly query: Submittable
}

async function deliverCopied(session: Session, decision: Decision, copied: Copied): Promise<Error | undefined> {
  const { conversation, run } = session
  const { table, data, query } = copied
  let worked: { outcome: PreviewOutcome; blind: string | undefined; insert: Statement } | undefined
  const notes: string[] = []
  if (data.undecided !== undefined) notes.push(`the rows are counted, not looked at: ${data.undecided}`)
  else if (session.guard.preview !== 'none') {
    try {
      worked = await workOut(session, copied)
    } catch (error) {
      if (conversation.lost !== undefined) throw error
      const native = error instanceof session.library.DatabaseError
      if (!native && !(error instanceof PreviewUnsupported)) throw error
      const { code } = error as { code?: string }
      if (/^2[23]/.test(code ?? '')) return await failsAfterData(session, decision, error, data)
      notes.push(`no preview: ${messageOf(error)}`)
    }
  }
  const violation = worked?.outcome.violation
  if (violation !== undefined) return await failsWith(session, decision, violation, { payload: data.payload() })
  const whole = worked !== undefined && data.whole
  if (worked !== undefined && !whole)
    notes.push(`only the first ${data.kept.length} of ${data.rows} rows are worked out`)
  const known = worked?.outcome.preview
  record(session, decision, {
    preview: {
      method: known?.method ?? 'synthesized',
      rows: data.rows,
      diff: known?.diff ?? [],
      ...noted([...notes, ...(known?.notes ?? [])]),
    },
    payload: data.payload(),
    ...(worked === undefined ? {} : { syntheticIds: worked.outcome.syntheticIds }),
    fidelity: whole && worked?.outcome.exact && worked.blind === undefined ? 'exact' : 'plausible',
  })
  if (whole && worked !== undefined)
    await keepWithCascades(session, worked.insert, worked.outcome.changes, worked.blind)
  else if (data.rows > 0) {
    overlayOf(run, conversation.client).stale.set(table.oid, notes[0] ?? 'the copied rows were not worked out')
  }
  query.handleCommandComplete({ name: 'commandComplete', text: `COPY ${data.rows}` })
  return undefined
}

/** The copied rows are what an INSERT of the same texts would make of them. */
async function workOut(session: Session, { relation, columns, data }: Copied) {
  const values = columns.map((_, index) => `v__.e ->> ${index}`)
  const into = `${relation} (${columns.map(quoteName).join(', ')})`
  const source = 'json_array_elements($1::json) AS v__(e)'
  const text = `INSERT INTO ${into} OVERRIDING SYSTEM VALUE SELECT ${values.join(', ')} FROM ${source}`
  const [insert] = classify(text)
  if (insert === undefined || columns.length === 0) throw new PreviewUnsupported('the table has no columns')
  const own = await previewWithOwnRows(session, insert, [JSON.stringify(data.kept)], [JSON_OID], {
    invented: true,
    withoutRules: 'ignored',
  })
  return { ...own, insert }
}

/** The statement whose names the server checks in the place of the COPY. */
function insertOf(relation: string, columns: readonly string[]): string {
  if (columns.length === 0) return `INSERT INTO ${relation} DEFAULT VALUES`
  const nothing = columns.map(() => 'NULL').join(', ')
  return `INSERT INTO ${relation} (${columns.map(quoteName).join(', ')}) OVERRIDING SYSTEM VALUE VALUES (${nothing})`
}

function implicitColumns(table: Table): string[] {
  return (table.columns ?? []).filter((column) => column.generated === '').map((column) => column.name)
}

function nameOf(node: Node): string {
  return 'String' in node ? (node.String.sval ?? '') : ''
}

function whyNoTarget({ kind, name, triggers }: Table): Violation | undefined {
  const wrong = kind === 'v' && !triggers?.length ? 'view' : kind === 'm' ? 'materialized view' : undefined
  return wrong === undefined ? undefined : { code: '42809', message: `cannot copy to ${wrong} "${name}"` }
}

/** A view that takes no rows is found while its INSERT is planned; COPY says it otherwise. */
function inWordsOfCopy({ library }: Session, error: DatabaseError): Error {
  const view = error.code === '55000' ? /^cannot insert into view (".*")$/s.exec(error.message)?.[1] : undefined
  return view === undefined ? error : nativeError(library, { code: '42809', message: `cannot copy to view ${view}` })
}

function cancelled(message: string): Violation {
  return { code: '57014', message: `COPY from stdin failed: ${message}` }
}

function serverVersion({ conversation }: Session): number {
  return Number.parseInt(conversation.state.settings.get('server_version') ?? '', 10) || 0
}

function whereIs(table: Table, { line, record }: Omit<Malformed, 'violation'>): string {
  return `COPY ${table.name}, line ${line}${record === undefined ? '' : `: "${record.slice(0, 100)}"`}`
}

function noted(notes: readonly string[]): { notes?: readonly string[] } {
  return notes.length > 0 ? { notes } : {}
}

function fails(session: Session, decision: Decision, error: Error, detail: EffectDetail = {}): Error {
  const note = `would fail: ${[(error as { code?: string }).code, error.message].filter(Boolean).join(' ')}`
  record(session, decision, { note, fidelity: 'exact', ...detail })
  return error
}

async function failsAfterData(session: Session, decision: Decision, error: Error, data: CopiedData): Promise<Error> {
  const failure = fails(session, decision, error, { payload: data.payload() })
  await failTransaction(session)
  return failure
}

async function failsWith(
  session: Session,
  decision: Decision,
  violation: Violation,
  detail: EffectDetail = {},
  more: { where?: string } = {},
): Promise<Error> {
  const error = fails(session, decision, Object.assign(nativeError(session.library, violation), more), detail)
  await failTransaction(session)
  return error
}

interface Malformed {
  readonly violation: Violation
  readonly line: number
  readonly record?: string
}

/** Counts the rows of the data while it comes in, and keeps the first of them. */
class CopiedData {
  rows = 0
  /** Why the rows are not known one by one, if they are not. */
  undecided: string | undefined
  readonly kept: CopyRow[] = []
  readonly #reader: ReturnType<typeof copyReader>
  readonly #digest = createHash('sha256')
  readonly #contentType: string
  #size = 0
  #bytes = 0
  #malformed: Malformed | undefined
  #lostCount = false

  constructor(format: CopyFormat, columns: readonly string[], version: number) {
    this.undecided = format.undecided ?? (format.format === 'binary' ? 'the data is binary' : undefined)
    this.#contentType =
      format.format === 'csv' ? 'text/csv' : format.format === 'text' ? 'text/plain' : 'application/octet-stream'
    this.#reader = copyReader({ format, columns, csvEndMarker: version < 18, onRow: (row) => this.#count(row) })
  }

  /** All rows are kept. */
  get whole(): boolean {
    return this.kept.length === this.rows
  }

  #count(row: CopyRow | undefined): void {
    this.rows++
    if (row === undefined || this.rows > MAX_ROWS) {
      if (this.kept.length > SAMPLE) this.kept.length = SAMPLE
      return
    }
    this.#bytes += row.reduce((sum, field) => sum + (field?.length ?? 0), 0)
    if (this.#bytes <= MAX_BYTES || this.kept.length === 0) this.kept.push(row)
  }

  /** False when the server would not take any more. */
  take(chunk: Buffer): boolean {
    this.#size += chunk.length
    this.#digest.update(chunk)
    this.#read(() => this.#reader.push(chunk))
    return this.#malformed === undefined
  }

  end(): Malformed | undefined {
    this.#read(() => this.#reader.end())
    return this.#malformed
  }

  #read(step: () => void): void {
    if (this.#malformed !== undefined || this.#lostCount) return
    try {
      step()
    } catch (error) {
      if (error instanceof CopyDataError) {
        // With options we do not follow, what looks wrong to us may be right.
        if (this.undecided === undefined || /binary/.test(this.undecided)) this.#malformed = malformed(error)
        else this.#giveUp(this.undecided)
      } else if (error instanceof RangeError) this.#giveUp(error.message)
      else throw error
    }
  }

  #giveUp(reason: string): void {
    this.#lostCount = true
    this.undecided = `${reason}, and not all rows could be counted`
  }

  payload(): Payload {
    const digest = this.#digest.copy().digest('hex')
    return { digest, size: this.#size, contentType: this.#contentType }
  }
}

function malformed({ code, message, line, record }: CopyDataError): Malformed {
  return { violation: { code, message }, line, ...(record === undefined ? {} : { record }) }
}
