import type { FieldChange, Preview } from '../../journal/record.js'
import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import { classify } from '../../sql/classify.js'
import { hazardOf } from '../../sql/hazards.js'
import { parseTextArray } from '../../sql/pg-array.js'
import { LEADING_COLUMNS, type PreviewQuery, PreviewUnsupported, previewOf } from '../../sql/preview.js'
import { describeViolation, judgeRow, type Violation } from '../../sql/violations.js'
import { changesOf } from './changes.js'
import { type ReadOnly, textOf } from './read-only.js'

/** Records spelled out in the diff; all are counted. */
const MAX_DIFF_RECORDS = 100
const MAX_NOTES = 10

export interface PreviewRequest {
  readonly text: string
  /** In the driver's wire form. */
  readonly values: readonly unknown[]
  /** Types the server gave the parameters. */
  readonly types: readonly number[] | undefined
  syntheticId(): string
}

/** What a blocked write would have done. */
export interface PreviewOutcome {
  readonly preview: Preview
  /** Command tag of the real execution. */
  readonly tag: string
  /** RETURNING rows, or the rows of a SELECT over data-modifying WITH. */
  readonly rows: readonly (string | null)[][]
  readonly syntheticIds: readonly string[]
  /** The error real execution would certainly have raised. */
  readonly violation: Violation | undefined
  /** Nothing was left out that could change the result. */
  readonly exact: boolean
}

/**
 * Works out a write by reading.
 * @throws PreviewUnsupported, or the server's error.
 */
export async function previewWrite(reader: ReadOnly, request: PreviewRequest): Promise<PreviewOutcome> {
  const { values, types } = request
  const query = await previewOf(request.text, {
    lookup: async (relation) => {
      const [row] = await reader.rows({ text: tableQuery(relation) })
      if (!row?.[0]) throw new PreviewUnsupported(`${relation} is not in the catalog`)
      return readTable(row[0])
    },
    countColumns: async (text) => {
      const answer = await reader.describe(text, types, false)
      if (answer.error !== undefined) throw answer.error
      return answer.fields?.fields.length ?? 0
    },
    countRows: async (text) => Number((await reader.rows({ text, values, types }))[0]?.[0]),
    syntheticIds: (count) => Array.from({ length: count }, () => request.syntheticId()),
  })
  await refuseHazards(reader, query)

  const tally = new Tally(query.parts.length > 0)
  for (const part of query.parts) {
    const answer = await reader.query({ text: part.sql, values, types }, { row: (row) => tally.add(part.table, row) })
    if (answer.error !== undefined) throw answer.error
  }
  const rows: (string | null)[][] = []
  const { table } = query
  let count = 0
  const answer = await reader.query(
    { text: query.sql, values, types },
    {
      row(fields) {
        count++
        if (table === null) rows.push(fields)
        else {
          tally.add(table, fields)
          if (query.returning !== null) rows.push(fields.slice(LEADING_COLUMNS))
        }
      },
    },
  )
  if (answer.error !== undefined) throw answer.error
  const violation = tally.violation(count, query)
  const notes = [...query.notes, ...tally.notes()]
  return {
    preview: { method: 'select', rows: tally.records, diff: tally.diff, ...(notes.length > 0 ? { notes } : {}) },
    tag: `${query.operation === 'INSERT' ? 'INSERT 0' : query.operation} ${count}`,
    rows,
    syntheticIds: query.syntheticIds,
    violation,
    exact: query.notes.length === 0,
  }
}

/** Expressions of the statement, and defaults and checks of the table, run in the preview: none may reach out of it. */
async function refuseHazards(reader: ReadOnly, query: PreviewQuery): Promise<void> {
  const found = await reader.hazards()
  for (const sql of [query.sql, ...query.parts.map((part) => part.sql)]) {
    for (const statement of classify(sql)) {
      const culprit = hazardOf(statement, found)
      if (culprit !== undefined) throw new PreviewUnsupported(`it would call ${culprit}`)
    }
  }
}

/** Sums up the rows of a preview while they come in; nothing but the first records is kept. */
class Tally {
  readonly diff: FieldChange[] = []
  records = 0
  readonly #severalWrites: boolean
  #certain: { violation: Violation; table: Table; updates: boolean } | undefined
  readonly #predicted = new Set<string>()

  constructor(severalWrites: boolean) {
    this.#severalWrites = severalWrites
  }

  add(table: Table, row: readonly unknown[]): void {
    const [operation, before, after, labels] = row.slice(0, LEADING_COLUMNS).map(textOf)
    const old = before == null ? null : parseTextArray(before)
    const fresh = after == null ? null : parseTextArray(after)
    if (++this.records <= MAX_DIFF_RECORDS) this.diff.push(...changesOf(table, old, fresh))
    if (fresh === null) return
    const judged = judgeRow(table, fresh, labels == null ? [] : parseTextArray(labels))
    for (const violation of judged.predicted) this.#predict(violation, table)
    if (judged.certain === undefined) return
    // Within one statement one part may make room for the other's rows, so a duplicate is only a guess.
    if (this.#severalWrites && judged.certain.code === '23505') this.#predict(judged.certain, table)
    else this.#certain ??= { violation: judged.certain, table, updates: operation === 'u' }
  }

  #predict(violation: Violation, table: Table): void {
    if (this.#predicted.size < MAX_NOTES) this.#predicted.add(describeViolation(violation, table))
  }

  violation(count: number, query: PreviewQuery): Violation | undefined {
    const found = this.#certain
    if (found === undefined) return undefined
    const shuffled = found.violation.code === '23505' && found.updates && count > 1 && !query.upsert
    if (!shuffled) return found.violation
    this.#predict(found.violation, found.table)
    return undefined
  }

  notes(): string[] {
    const notes = [...this.#predicted].map((text) => `would fail if checked as the data is now (predicted): ${text}`)
    if (this.records > MAX_DIFF_RECORDS) {
      notes.push(`the diff shows the first ${MAX_DIFF_RECORDS} of ${this.records} records`)
    }
    return notes
  }
}
