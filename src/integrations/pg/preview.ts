import type { FieldChange, Preview } from '../../journal/record.js'
import type { PreviewBounds } from '../../policy/policy.js'
import { cascadesOf, mayCascade } from '../../sql/cascades.js'
import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import { classify } from '../../sql/classify.js'
import { type Hazards, hazardOf } from '../../sql/hazards.js'
import { Lru } from '../../sql/lru.js'
import { MAX_OVERLAY_ROWS, type RowChange, type TableChanges } from '../../sql/overlay.js'
import { markedTable, type OverlaySlot } from '../../sql/overlay-rewrite.js'
import { parseTextArray } from '../../sql/pg-array.js'
import {
  LEADING_COLUMNS,
  type PreviewOptions,
  type PreviewPart,
  type PreviewQuery,
  PreviewUnsupported,
  previewOf,
  RaisedByTrigger,
} from '../../sql/preview.js'
import { mayHaveTriggers, triggersQuery, withTriggers } from '../../sql/trigger-catalog.js'
import {
  describeViolation,
  duplicateWithin,
  type Judging,
  judgeRow,
  uniqueKeys,
  type Violation,
} from '../../sql/violations.js'
import { changesOf } from './changes.js'
import type { OverlaidPreview } from './overlaid.js'
import { refusalOfPlanner, secondaryOf } from './preview-bounds.js'
import { type ReadOnly, textOf } from './read-only.js'
import type { Sink, Step } from './round.js'
import { StandIns } from './stand-ins.js'

/** Records spelled out in the diff; all are counted. */
const MAX_DIFF_RECORDS = 100
const MAX_NOTES = 10

const TWICE: Violation = {
  code: '21000',
  message: 'ON CONFLICT DO UPDATE command cannot affect row a second time',
}
const MERGED_TWICE: Violation = { code: '21000', message: 'MERGE command cannot affect row a second time' }

export interface PreviewRequest {
  readonly text: string
  /** In the driver's wire form. */
  readonly values: readonly unknown[]
  /** Types the server gave the parameters. */
  readonly types: readonly number[] | undefined
  syntheticId(kind: 'integer' | 'smallint'): string
  /** True for ids the run has made up. */
  madeUp(value: string): boolean
  /** What the run has done so far; undefined to read the data as it is. */
  readonly own?: OverlaidPreview
  /** The data is known not to be what the run has made of it: a duplicate is a guess. */
  readonly outdated?: boolean
  readonly bounds?: PreviewBounds
  /** The planner cannot be asked over this connection: EXPLAIN takes no parameters there. */
  readonly unplanned?: boolean
  /** The statement stands for another one (a COPY), and is no write the server would take. */
  readonly invented?: boolean
  /** Names the database and its user: what the planner has let pass there is not asked again for a while. */
  readonly place?: string
  /** The same of one table, by oid. */
  stale?(oid: string): boolean
  /** Tables looked up lately. */
  readonly tables?: { get(relation: string): Table | undefined; set(relation: string, table: Table): void }
  /** Told of a preview that would be the same for the same text, but for its values and ids. */
  learn?(preview: LearnedPreview): void
}

/** A preview worked out before. Its texts have stand-ins where a run's ids go. */
export interface LearnedPreview {
  readonly query: PreviewQuery
  readonly ids: StandIns
  readonly text: string
  readonly slots: readonly OverlaySlot[]
  readonly slotTypes: readonly number[]
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
  /** Every row that would be written, at most one more than an overlay holds. */
  readonly changes: readonly TableChanges[]
}

/**
 * Works out a write by reading.
 * @throws PreviewUnsupported, or the server's error.
 */
export async function previewWrite(reader: ReadOnly, request: PreviewRequest): Promise<PreviewOutcome> {
  for (const ignored of [undefined, 'what they do besides', 'all'] as const) {
    const triggers = { ignored, followed: false }
    try {
      return await workOut(reader, request, triggers)
    } catch (error) {
      if (error instanceof RaisedByTrigger) return failing({ code: error.code, message: error.message })
      const code = (error as { code?: string }).code
      const ours =
        error instanceof PreviewUnsupported
          ? error.sqlState === undefined
          : code !== undefined && OF_TRIGGERS.test(code)
      if (!triggers.followed || !ours || ignored === 'all') throw error
    }
  }
  throw new PreviewUnsupported('its triggers')
}

/** A write that fails before it has written anything. */
function failing(violation: Violation): PreviewOutcome {
  const preview: Preview = { method: 'select', rows: 0, diff: [] }
  return { preview, tag: '', rows: [], syntheticIds: [], violation, exact: true, changes: [] }
}

/** What the text of a trigger function may run into when it is read as part of a query: names, types, writes. */
const OF_TRIGGERS = /^(42|25006|0A000|54|55000)/

async function workOut(
  reader: ReadOnly,
  request: PreviewRequest,
  triggers: NonNullable<PreviewOptions['triggers']>,
): Promise<PreviewOutcome> {
  const { types, own } = request
  const ids = new StandIns(request.syntheticId)
  let counted = false
  const step = async (text: string) => {
    const overlaid = await own?.rewrite(text)
    return {
      template: overlaid?.text ?? text,
      slots: overlaid?.slots ?? [],
      slotTypes: overlaid?.types ?? [],
      text: ids.fill(overlaid?.text ?? text),
      values: [...request.values, ...(overlaid?.values ?? [])],
      types: types === undefined ? undefined : [...types, ...(overlaid?.types ?? [])],
    }
  }
  const lookup = async (relation: string) => {
    const known = request.tables?.get(relation)
    if (known !== undefined) return known
    const [row] = await reader.rows({ text: tableQuery(relation) })
    if (!row?.[0]) throw new PreviewUnsupported(`${relation} is not in the catalog`)
    let table = readTable(row[0])
    if (mayHaveTriggers(table)) {
      const [found] = await reader.rows({ text: triggersQuery(table) })
      if (found?.[0]) table = withTriggers(table, found[0])
    }
    request.tables?.set(relation, table)
    return table
  }
  const query = await previewOf(request.text, {
    lookup,
    triggers,
    countColumns: async (text) => {
      const answer = await reader.describe(text, types, false)
      if (answer.error !== undefined) throw answer.error
      return answer.fields?.fields.length ?? 0
    },
    countRows: async (text) => {
      counted = true
      return Number((await reader.rows(await step(text)))[0]?.[0])
    },
    syntheticIds: (count, column) => {
      const kind = column?.baseType === 'smallint' ? 'smallint' : 'integer'
      return ids.take(count, kind)
    },
    source: (table, alias) => (own?.touches(table) ? markedTable(table.oid, alias) : undefined),
  })
  await refuseHazards(reader, query)
  const { template, slots, slotTypes, ...main } = await step(query.sql)
  const refusal = await planned(reader, request, main)
  if (refusal !== undefined) return failing(refusal)

  const tally = new Tally(query, request)
  const readParts = async (parts: readonly PreviewPart[]) => {
    for (const part of parts) {
      tally.begin(part.table, part.byTrigger)
      const { text, values, types } = await step(part.sql)
      const answer = await reader.query({ text, values, types }, { row: (row) => tally.add(part.table, row) })
      if (answer.error !== undefined) throw answer.error
    }
  }
  await readParts(query.parts.filter(({ byTrigger }) => !byTrigger))
  const reading = readingOf(query, tally, request)
  const answer = await reader.query(main, reading.sink)
  if (answer.error !== undefined) throw answer.error
  await readParts(query.parts.filter(({ byTrigger }) => byTrigger))
  if (!counted && query.parts.length === 0 && !bringsCascades(query)) {
    request.learn?.({ query, ids, text: template, slots, slotTypes })
  }
  return await reading.outcome(ids, async (written, sql) =>
    mayCascade(written, tally.operations)
      ? await cascadesOf(written, sql, {
          lookup,
          count: async (text) => Number((await reader.rows(await step(text)))[0]?.[0]),
        })
      : [],
  )
}

const OPERATIONS: Readonly<Record<string, readonly string[]>> = { INSERT: ['i'], UPDATE: ['u'], DELETE: ['d'] }

/** Rows that foreign keys may change along are counted each time. */
function bringsCascades({ table, operation, upsert }: PreviewQuery): boolean {
  const operations = upsert ? undefined : OPERATIONS[operation]
  return table !== null && mayCascade(table, new Set(operations ?? ['i', 'u', 'd']))
}

/** The step and the reading of a preview worked out before, with ids and values of this run. */
export function repeatedPreview(
  { query, ids, text, slotTypes }: LearnedPreview,
  request: PreviewRequest,
  slotValues: readonly string[],
) {
  const own = ids.anew(request.syntheticId)
  const reading = readingOf(query, new Tally(query, request), request)
  return {
    step: {
      text: own.fill(text),
      values: [...request.values, ...slotValues],
      types: [...(request.types ?? []), ...slotTypes],
    },
    sink: reading.sink,
    outcome: () => reading.outcome(own, async () => []),
  }
}

/** Takes the rows of a preview's main query in, and makes of them what the write would have done. */
function readingOf(
  query: PreviewQuery,
  tally: Tally,
  { bounds }: PreviewRequest,
): { sink: Sink; outcome(ids: StandIns, cascades: Parameters<typeof secondaryOf>[2]): Promise<PreviewOutcome> } {
  const rows: (string | null)[][] = []
  const { table } = query
  const maxRows = bounds?.rows ?? Number.POSITIVE_INFINITY
  let count = 0
  if (table !== null) tally.begin(table)
  return {
    sink: {
      row(fields) {
        count++
        if (table === null) {
          if (count <= maxRows) rows.push(fields)
        } else {
          tally.add(table, fields)
          if (query.returning !== null && count <= maxRows) rows.push(fields.slice(LEADING_COLUMNS))
        }
      },
    },
    async outcome(ids, cascades) {
      // The planner's guess was wrong: its caller must not get a part of the rows as all of them.
      if (count > maxRows) throw new PreviewUnsupported(`it writes ${count} rows, more than ${maxRows}`)
      const violation = tally.violation(count, query)
      const { secondary, notes: more } = await secondaryOf(query, tally.changes, cascades)
      const notes = [...query.notes, ...tally.notes(), ...more]
      return {
        preview: {
          method: 'select',
          rows: tally.records,
          diff: tally.diff,
          ...(notes.length > 0 ? { notes } : {}),
          ...(secondary.length > 0 ? { secondary } : {}),
        },
        tag: `${query.operation === 'INSERT' ? 'INSERT 0' : query.operation} ${count}`,
        rows,
        syntheticIds: query.syntheticIds.map((id) => ids.fill(id)),
        violation,
        exact: query.notes.length === 0 && !tally.predicts,
        // A view has no rows of its own: what its triggers write are parts.
        changes: tally.changes.filter(({ table: { kind } }) => kind !== 'v'),
      }
    },
  }
}

/** What the planner says to the write itself. One with a call that must not be made is planned as its preview. */
async function planned(
  reader: ReadOnly,
  { text, values, types, bounds, place, invented, unplanned }: PreviewRequest,
  preview: Step,
): Promise<Violation | undefined> {
  if (bounds === undefined || unplanned) return undefined
  const key = place === undefined ? undefined : `${place} ${text}`
  const known = key === undefined ? undefined : passed.get(key)
  if (known !== undefined && Date.now() - known < PLAN_MILLISECONDS) return undefined
  const found = await reader.hazards()
  const [statement] = classify(text)
  const harmless = statement !== undefined && statement.denied.length === 0 && hazardOf(statement, found) === undefined
  const refusal = await refusalOfPlanner(reader, harmless && !invented ? { text, values, types } : preview, bounds)
  if (refusal === undefined && key !== undefined) passed.set(key, Date.now())
  return refusal
}

/** How long a plan is good for: tables grow and privileges change. */
const PLAN_MILLISECONDS = 30_000
const passed = new Lru<number>(2000, 4 * 1024 * 1024)

/** Expressions of the statement, and defaults and checks of the table, run in the preview: none may reach out of it. */
async function refuseHazards(reader: ReadOnly, query: PreviewQuery): Promise<void> {
  const culprit = hazardIn(query, await reader.hazards())
  if (culprit !== undefined) throw new PreviewUnsupported(`it would call ${culprit}`)
}

export function hazardIn(query: PreviewQuery, found: Hazards): string | undefined {
  for (const sql of [query.sql, ...query.parts.map((part) => part.sql)]) {
    for (const statement of classify(sql)) {
      const culprit = hazardOf(statement, found)
      if (culprit !== undefined) return culprit
    }
  }
  return undefined
}

/** Sums up the rows of a preview while they come in. */
class Tally {
  readonly diff: FieldChange[] = []
  readonly changes: { readonly table: Table; readonly rows: RowChange[] }[] = []
  /** `i`, `u`, `d`: what was seen. */
  readonly operations = new Set<string>()
  records = 0
  readonly #severalWrites: boolean
  #byTrigger = false
  /** What would stop the statement in a trigger, unless it fails before. */
  #within: Violation | undefined
  readonly #outdated: boolean
  readonly #upsert: boolean
  readonly #merge: boolean
  readonly #judging: Judging
  readonly #merged = new Set<string>()
  #keys = new Map<string, Set<string>>()
  #certain: { violation: Violation; table: Table; updates: boolean } | undefined
  readonly #predicted = new Set<string>()

  constructor({ operation, table, parts, upsert }: PreviewQuery, request: PreviewRequest) {
    const { madeUp, outdated = false, stale = () => false } = request
    this.#severalWrites = parts.some((part) => !part.byTrigger || part.table.oid === table?.oid)
    this.#merge = operation === 'MERGE'
    const settled = (oid: string) => parts.length === 0 && !outdated && !stale(oid)
    this.#judging = { madeUp, settled }
    this.#outdated = outdated
    this.#upsert = upsert
  }

  /** What follows are the rows of one writing part. */
  begin(table: Table, byTrigger = false): void {
    this.changes.push({ table, rows: [] })
    this.#byTrigger = byTrigger
    this.#keys = new Map()
  }

  add(table: Table, row: readonly unknown[]): void {
    const [operation, before, after, labels, id = null] = row.slice(0, LEADING_COLUMNS).map(textOf)
    if (operation != null) this.operations.add(operation)
    const old = before == null ? null : parseTextArray(before)
    const fresh = after == null ? null : parseTextArray(after)
    if (++this.records <= MAX_DIFF_RECORDS) this.diff.push(...changesOf(table, old, fresh))
    if (this.records <= MAX_OVERLAY_ROWS + 1) {
      this.changes.at(-1)?.rows.push({ operation: operation as RowChange['operation'], before: old, after: fresh, id })
    }
    const given = labels == null ? [] : parseTextArray(labels)
    const judged = judgeRow(table, fresh ?? old ?? [], given, this.#judging, fresh === null)
    for (const violation of judged.predicted) this.#predict(violation, table)
    if (this.#merge && operation !== 'i' && id !== null) {
      if (this.#merged.has(id)) this.#certain ??= { violation: MERGED_TWICE, table, updates: false }
      this.#merged.add(id)
    }
    const twin = this.#severalWrites || fresh === null ? undefined : this.#twin(table, fresh)
    const found = judged.certain ?? twin
    if (found === undefined) return
    // Within one statement one part may make room for the other's rows, so a duplicate is only a guess.
    const guess = this.#byTrigger || (judged.certain !== undefined && (this.#severalWrites || this.#outdated))
    if (guess && found.code === '23505') this.#predict(found, table)
    else if (this.#byTrigger) this.#within ??= found
    else this.#certain ??= { violation: found, table, updates: judged.certain !== undefined && operation === 'u' }
  }

  /** Another row of this statement has taken the key already. */
  #twin(table: Table, row: readonly (string | null)[]): Violation | undefined {
    let found: Violation | undefined
    for (const { name, key } of uniqueKeys(table, row)) {
      const taken = this.#keys.get(name) ?? new Set()
      this.#keys.set(name, taken)
      if (taken.has(key)) found ??= this.#upsert ? TWICE : duplicateWithin(table, name, row)
      taken.add(key)
    }
    return found
  }

  #predict(violation: Violation, table: Table): void {
    if (this.#predicted.size < MAX_NOTES) this.#predicted.add(describeViolation(violation, table))
  }

  violation(count: number, query: PreviewQuery): Violation | undefined {
    const found = this.#certain
    if (found === undefined) return this.#within
    // Another row of the statement may take the key over, or give it back.
    const { code, message } = found.violation
    const ofKeys = code === '23505' || message.startsWith('update or delete on')
    const shuffled = ofKeys && found.updates && count > 1 && !query.upsert
    if (!shuffled) return found.violation
    this.#predict(found.violation, found.table)
    return undefined
  }

  /** Something would probably fail. */
  get predicts(): boolean {
    return this.#predicted.size > 0
  }

  notes(): string[] {
    const notes = [...this.#predicted].map((text) => `would fail if checked as the data is now (predicted): ${text}`)
    if (this.records > MAX_DIFF_RECORDS) {
      notes.push(`the diff shows the first ${MAX_DIFF_RECORDS} of ${this.records} records`)
    }
    return notes
  }
}
