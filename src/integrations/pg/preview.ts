import type { FieldChange, Preview } from '../../journal/record.js'
import type { PreviewBounds } from '../../policy/policy.js'
import { cascadesOf, mayCascade } from '../../sql/cascades.js'
import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import { classify } from '../../sql/classify.js'
import { type ConstraintModes, isChecked } from '../../sql/constraint-modes.js'
import { foretoldBy } from '../../sql/foretold.js'
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
  refuseUnlessRead,
} from '../../sql/preview.js'
import { mayHaveTriggers, triggersQuery, withTriggers } from '../../sql/trigger-catalog.js'
import {
  describeViolation,
  duplicateWithin,
  type Judging,
  judgeRow,
  type OpenViolation,
  uniqueKeys,
  type Violation,
} from '../../sql/violations.js'
import { plannedArbiters } from './arbiters.js'
import { changesOf } from './changes.js'
import { composed } from './composed.js'
import { cursorRow, ownVersion } from './cursor-row.js'
import type { OverlaidPreview } from './overlaid.js'
import { refusalOfPlanner, secondaryOf } from './preview-bounds.js'
import { type ReadOnly, textOf } from './read-only.js'
import type { Sink, Step } from './round.js'
import { deferrableOf, mayClash, type Settled, settle, type Together } from './settle.js'
import { StandIns } from './stand-ins.js'
import { failsOfVirtual, withoutVirtual } from './virtual-columns.js'

/** Records spelled out in the diff; all are counted. */
const MAX_DIFF_RECORDS = 100
const MAX_NOTES = 10

/** `pg_type.oid` of bigint. */
const INT8 = 20

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
  readonly withoutRules?: PreviewOptions['withoutRules']
  /** Names the database and its user: what the planner has let pass there is not asked again for a while. */
  readonly place?: string
  /** The same of one table, by oid. */
  stale?(oid: string): boolean
  /** When deferrable constraints are checked. */
  modes?(): ConstraintModes
  /** Tables looked up lately. */
  readonly tables?: { get(relation: string): Table | undefined; set(relation: string, table: Table): void }
  /** Virtual columns are left out: computing them failed, which the write itself does not do. */
  readonly stored?: boolean
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
  for (const ignored of IGNORED_TRIGGERS) {
    const triggers = { ignored, followed: false }
    try {
      return await workOut(reader, request, triggers)
    } catch (error) {
      const foretold = foretoldBy(error)
      if (foretold?.code !== undefined) return refused({ ...foretold, code: foretold.code })
      const failure = foretold === undefined ? error : new PreviewUnsupported(foretold.message)
      const { code = '' } = error as { code?: string }
      const ours = failure instanceof PreviewUnsupported || OF_TRIGGERS.test(code)
      if (!triggers.followed || !ours || ignored === 'all') throw failure
    }
  }
  throw new PreviewUnsupported('its triggers')
}

/** From all that triggers do to nothing of it: what a preview is worked out with, until one holds. */
const IGNORED_TRIGGERS = [undefined, 'what they do besides', 'all'] as const

/** What the text of a trigger function may run into when it is read as part of a query: names, types, writes. */
const OF_TRIGGERS = /^(42|25006|0A000|54|55000)/

/** The write would fail, and change nothing. */
function refused(violation: Violation): PreviewOutcome {
  const preview: Preview = { method: 'select', rows: 0, diff: [] }
  return { preview, tag: '', rows: [], syntheticIds: [], violation, exact: true, changes: [] }
}

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
  // Rules and the rewrite ask for the same relations.
  const lookedUp = new Map<string, Table>()
  const lookup = async (relation: string) => {
    const known = request.tables?.get(relation) ?? lookedUp.get(relation)
    if (known !== undefined) return request.stored ? withoutVirtual(known) : known
    const [row] = await reader.rows({ text: tableQuery(relation) })
    if (!row?.[0]) throw new PreviewUnsupported(`${relation} is not in the catalog`)
    let table = readTable(row[0])
    if (mayHaveTriggers(table)) {
      const [found] = await reader.rows({ text: triggersQuery(table) })
      if (found?.[0]) table = withTriggers(table, found[0])
    }
    request.tables?.set(relation, table)
    lookedUp.set(relation, table)
    return request.stored ? withoutVirtual(table) : table
  }
  // Beside the preview itself, which is looked at as a whole before it runs.
  const rows = async (text: string) => {
    refuseUnlessRead(text)
    await refuseHazards(reader, { sql: text, parts: [] })
    return await reader.rows(await step(text))
  }
  const options: PreviewOptions = {
    lookup,
    triggers,
    countColumns: async (query) => {
      const { text, types: all } = await step(query)
      const answer = await reader.describe(text, all, false)
      if (answer.error !== undefined) throw answer.error
      return answer.fields?.fields.length ?? 0
    },
    countRows: async (text) => {
      counted = true
      return Number((await rows(text))[0]?.[0])
    },
    syntheticIds: (count, column) => {
      const kind = column?.baseType === 'smallint' ? 'smallint' : 'integer'
      return ids.take(count, kind)
    },
    cursorRow: async (cursor, table) => {
      // What was learned of this statement is true of one row only.
      counted = true
      const row = await cursorRow(reader, cursor, table)
      if (own?.touches(table)) {
        return await ownVersion(reader, row, table, markedTable(table.oid, 'e__'), rows)
      }
      return row
    },
    arbiters: (text) => plannedArbiters(reader, text),
    withoutRules: request.withoutRules,
    inlineViews: own !== undefined,
    source: (table, alias) => (own?.touches(table) ? markedTable(table.oid, alias) : undefined),
  }
  let query: PreviewQuery
  try {
    query = await previewOf(request.text, options)
  } catch (error) {
    // What cannot be worked out may still be known to fail.
    const unsupported = error instanceof PreviewUnsupported && error.sqlState === undefined
    const refusal = unsupported ? await planned(reader, request, undefined) : undefined
    if (refusal === undefined) throw error
    return refused(refusal)
  }
  await refuseHazards(reader, query)
  const { template, slots, slotTypes, ...main } = await step(query.sql)
  const refusal = await planned(reader, request, main)
  if (refusal !== undefined) return refused(refusal)

  const tally = new Tally(query, request)
  const readParts = async (last: boolean) => {
    for (const part of query.parts) {
      if ((part.last ?? false) !== last) continue
      tally.begin(part.table, part.byTrigger)
      const { text, values, types } = await step(part.sql)
      const answer = await reader.query({ text, values, types }, { row: (row) => tally.add(part.table, row) })
      if (answer.error !== undefined) throw answer.error
    }
  }
  await readParts(false)
  const reading = readingOf(query, tally, request)
  const answer = await reader.query(main, reading.sink)
  if (answer.error !== undefined) {
    const { error } = answer
    if (request.stored || !failsOfVirtual(query, error)) throw error
    return await previewWrite(reader, { ...request, stored: true }).catch((again: { code?: string }) => {
      // What fails for another reason says so itself.
      throw /^2[123]/.test(again.code ?? '') ? again : error
    })
  }
  await readParts(true)
  if (!counted && query.parts.length === 0 && !bringsCascades(query)) {
    request.learn?.({ query, ids, text: template, slots, slotTypes })
  }
  return await reading.outcome(
    ids,
    async (written, sql) =>
      mayCascade(written, tally.operations)
        ? await cascadesOf(written, sql, {
            lookup,
            count: async (text) => Number((await rows(text))[0]?.[0]),
            ...(query.parts.length > 0 || request.outdated || request.invented
              ? {}
              : { first: async (text: string) => (await rows(text))[0] }),
          })
        : [],
    async (together) => await settle(together, query, { own, rows }),
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
    step: keptStep(text, own, [...request.values, ...slotValues], [...(request.types ?? []), ...slotTypes]),
    sink: reading.sink,
    /** Rows that must be judged together are not. */
    unsettled: () => reading.unsettled(),
    outcome: () => reading.outcome(own, async () => []),
  }
}

/** With the ids as parameters the text is the same each time, and the server need not plan it anew. */
function keptStep(template: string, ids: StandIns, values: readonly unknown[], types: readonly number[]): Step {
  const text = ids.parameters(template, values.length)
  if (text === undefined) return { text: ids.fill(template), values, types }
  return { text, values: [...values, ...ids.values], types: [...types, ...ids.values.map(() => INT8)], keep: true }
}

/** Takes the rows of a preview's main query in, and makes of them what the write would have done. */
function readingOf(
  query: PreviewQuery,
  tally: Tally,
  { bounds }: PreviewRequest,
): {
  sink: Sink
  unsettled(): boolean
  outcome(
    ids: StandIns,
    cascades: Parameters<typeof secondaryOf>[2],
    settle?: (together: Together) => Promise<Settled | undefined>,
  ): Promise<PreviewOutcome>
} {
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
    unsettled: () => tally.together(count, query) !== undefined,
    async outcome(ids, cascades, settle) {
      // The planner's guess was wrong: its caller must not get a part of the rows as all of them.
      if (count > maxRows) throw new PreviewUnsupported(`it writes ${count} rows, more than ${maxRows}`)
      const together = tally.together(count, query)
      const found = tally.violation(together === undefined ? [] : await settle?.(together))
      const { secondary, notes: more, violation: along } = await secondaryOf(query, tally.changes, cascades)
      const violation = found ?? along
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
        changes: (query.sequential ? composed(tally.changes) : tally.changes).filter(({ table }) => table.kind !== 'v'),
      }
    },
  }
}

/** What the planner says to the write itself. One with a call that must not be made is planned as its preview. */
async function planned(
  reader: ReadOnly,
  { text, values, types, bounds, place, invented, unplanned }: PreviewRequest,
  preview: Step | undefined,
): Promise<Violation | undefined> {
  if (bounds === undefined || unplanned) return undefined
  const key = place === undefined ? undefined : `${place} ${text}`
  const known = key === undefined ? undefined : passed.get(key)
  if (known !== undefined && Date.now() - known < PLAN_MILLISECONDS) return undefined
  const found = await reader.hazards()
  const [statement] = classify(text)
  const harmless = statement !== undefined && statement.denied.length === 0 && hazardOf(statement, found) === undefined
  const step = harmless && !invented ? { text, values, types } : preview
  if (step === undefined) return undefined
  const refusal = await refusalOfPlanner(reader, step, bounds)
  if (refusal === undefined && key !== undefined) passed.set(key, Date.now())
  return refusal
}

/** How long a plan is good for: tables grow and privileges change. */
const PLAN_MILLISECONDS = 30_000
const passed = new Lru<number>(2000, 4 * 1024 * 1024)

/** What is sent of a preview. */
type Texts = Pick<PreviewQuery, 'sql'> & { readonly parts: readonly Pick<PreviewQuery, 'sql'>[] }

/** Expressions of the statement, and defaults and checks of the table, run in the preview: none may reach out of it. */
async function refuseHazards(reader: ReadOnly, query: Texts): Promise<void> {
  const culprit = hazardIn(query, await reader.hazards())
  if (culprit !== undefined) throw new PreviewUnsupported(`it would call ${culprit}`)
}

export function hazardIn(query: Texts, found: Hazards): string | undefined {
  for (const sql of [query.sql, ...query.parts.map((part) => part.sql)]) {
    for (const statement of classify(sql)) {
      const culprit = hazardOf(statement, found)
      if (culprit !== undefined) return culprit
    }
  }
  return undefined
}

/** Not what triggers raise under these codes. */
const OF_KEYS = /^(23505|23P01|23503|23001|23514e)(?![!~])/

/** A key that is checked row by row fails with the first row that meets one that is there. */
function sameOf(open: readonly OpenViolation[], settled: Violation | undefined): Violation | undefined {
  if (settled === undefined || !/^(23505|23P01)$/.test(settled.code)) return settled
  const { constraint } = settled
  return open.find(({ violation, ordered }) => ordered && violation.constraint === constraint)?.violation ?? settled
}

/** The table of a row's address. */
function ownerOf(id: string): string {
  return id.slice(0, id.indexOf(':'))
}

/** What triggers write may bring or take rows of this table. */
function mayReach(byTriggers: readonly PreviewPart[], oid: string): boolean {
  // A deleted row may take others along, and a partition's rows are those of its table.
  return byTriggers.some(
    ({ operation, table }) => operation !== 'INSERT' || table.oid === oid || table.partitionBound !== null,
  )
}

/** The row is found under another key now. */
function differs(
  table: Table,
  names: readonly string[],
  before: readonly (string | null)[],
  after: readonly (string | null)[] | null,
): boolean {
  return (table.columns ?? []).some(({ name }, index) => names.includes(name) && before[index] !== after?.[index])
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
  readonly #rekeys: readonly string[]
  readonly #arbiters: readonly string[]
  readonly #judging: Judging
  /** By address: the rows that are written already, and what they hold by now. */
  readonly #merged = new Map<string, { before: readonly (string | null)[]; after: readonly (string | null)[] | null }>()
  #moved = false
  /** Addresses of the rows that parts of the statement write. */
  readonly #written = new Set<string>()
  #collides = false
  #keys = new Map<string, Set<string>>()
  #certain: Violation | undefined
  /** Would be raised once all rows are written. */
  #late: Violation | undefined
  /** By label: what other rows of the statement may mend. */
  readonly #open = new Map<string, OpenViolation & { readonly table: Table }>()
  /** Rows of the statement, without those triggers write; and the new ones of them. */
  #rows = 0
  #fresh = 0
  /** There are parts, whether they see each other or not. */
  readonly #parted: boolean
  /** The rows could not be compared with each other. */
  #uncompared = false
  readonly #predicted = new Set<string>()

  constructor(
    { operation, table, parts, upsert, rekeys = [], arbiters = [], sequential = false }: PreviewQuery,
    request: PreviewRequest,
  ) {
    this.#rekeys = rekeys
    this.#arbiters = arbiters
    const { madeUp, outdated = false, stale = () => false, modes, invented } = request
    const byTriggers = parts.filter(({ byTrigger }) => byTrigger)
    const here = byTriggers.some((part) => part.table.oid === table?.oid)
    this.#parted = here || parts.length > byTriggers.length
    this.#severalWrites = here || (this.#parted && !sequential)
    this.#merge = operation === 'MERGE'
    const settled = (oid: string) =>
      !this.#severalWrites && !this.#byTrigger && !outdated && !stale(oid) && !mayReach(byTriggers, oid)
    // Of a statement that stands for another one, more may follow.
    this.#judging = { madeUp, settled, modes: () => (this.#severalWrites || invented ? undefined : modes?.()) }
    this.#outdated = outdated
    this.#upsert = upsert
  }

  /** What follows are the rows of one writing part. */
  begin(table: Table, byTrigger = false): void {
    this.changes.push({ table, rows: [] })
    this.#byTrigger = byTrigger
    this.#keys = new Map()
    this.#merged.clear()
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
    // A row of a child table is under the parent's CHECK constraints only.
    const inherited = table.kind === 'r' && id !== null && !/^(null|0)$/.test(ownerOf(id)) && ownerOf(id) !== table.oid
    const given = (labels == null ? [] : parseTextArray(labels)).filter(
      (label) => !inherited || !OF_KEYS.test(label ?? ''),
    )
    if (!this.#byTrigger) {
      this.#rows++
      if (fresh !== null) this.#fresh++
    }
    const judged = judgeRow(table, fresh ?? old ?? [], given, this.#judging, operation ?? 'i', old ?? undefined)
    for (const violation of judged.predicted) this.#predict(violation, table)
    if (this.#severalWrites && operation !== 'i' && id !== null) {
      if (this.#written.has(id)) this.#collides = true
      this.#written.add(id)
    }
    if ((this.#merge || this.#upsert) && !this.#parted && !this.#byTrigger && operation !== 'i' && id !== null && old) {
      const earlier = this.#merged.get(id)
      if (earlier === undefined) this.#merged.set(id, { before: old, after: fresh })
      // A row whose key was changed is not met again.
      else if (differs(table, this.#rekeys, earlier.before, earlier.after)) this.#moved = true
      else this.#certain ??= this.#merge ? MERGED_TWICE : TWICE
    }
    const twin = this.#severalWrites || fresh === null || inherited ? undefined : this.#twin(table, fresh)
    for (const open of judged.open) {
      if (this.#parted || this.#byTrigger || this.#outdated) this.#predict(open.violation, table)
      else if (!this.#open.has(open.label)) this.#open.set(open.label, { ...open, table })
    }
    for (const [violation, late] of [
      [judged.certain, false],
      [judged.late, true],
      [judged.certain === undefined ? twin : undefined, false],
    ] as const) {
      if (violation === undefined) continue
      // Within one statement one part may make room for the other's rows, so a duplicate is only a guess.
      const guessed = this.#byTrigger || (violation !== twin && (this.#severalWrites || this.#outdated))
      if (guessed && /^(23505|23P01)$/.test(violation.code)) this.#predict(violation, table)
      else if (this.#byTrigger) this.#within ??= violation
      else if (late) this.#late ??= violation
      else this.#certain ??= violation
    }
  }

  /** Another row of this statement has taken the key already. */
  #twin(table: Table, row: readonly (string | null)[]): Violation | undefined {
    let found: Violation | undefined
    for (const { name, key } of uniqueKeys(table, row)) {
      const taken = this.#keys.get(name) ?? new Set()
      this.#keys.set(name, taken)
      if (taken.has(key)) found ??= this.#arbiters.includes(name) ? TWICE : duplicateWithin(table, name, row)
      taken.add(key)
    }
    return found
  }

  #predict(violation: Violation, table: Table): void {
    if (this.#predicted.size < MAX_NOTES) this.#predicted.add(describeViolation(violation, table))
  }

  /** What only all rows together can tell; undefined when there is nothing. */
  together(count: number, { table }: PreviewQuery): Together | undefined {
    if (this.#certain !== undefined || this.#parted || this.#outdated || table === null) return undefined
    const open = [...this.#open.values()].filter(({ single }) => !(single && count === 1))
    const checked: Together['checked'] = (constraint) => isChecked(deferrableOf(constraint), this.#judging.modes?.())
    const among = this.#fresh > 1 && !this.#upsert
    const compares = among && mayClash(table, checked)
    if (open.length === 0 && !compares) return undefined
    return { table, labels: new Set(open.map(({ label }) => label)), among, checked }
  }

  /** What would be raised for certain; `settled` is what the rows together have shown, if that was found out. */
  violation(settled: Settled | undefined): Violation | undefined {
    if (this.#moved) throw new PreviewUnsupported('a row is to be updated whose key the statement has changed')
    if (this.#certain !== undefined) return this.#certain
    this.#uncompared = settled === undefined
    const open = [...this.#open.values()]
    const single = this.#rows === 1 ? open.find((each) => each.single)?.violation : undefined
    const found = single ?? sameOf(open, settled?.[0]) ?? this.#late
    if (found !== undefined) return found
    for (const { violation, table, ordered } of open) {
      // The order in which the rows are written decides.
      if (settled === undefined || ordered) this.#predict(violation, table)
    }
    return this.#within
  }

  /** Something would probably fail, or go another way. */
  get predicts(): boolean {
    return this.#predicted.size > 0 || this.#collides || this.#uncompared
  }

  notes(): string[] {
    const notes = [...this.#predicted].map((text) => `would fail if checked as the data is now (predicted): ${text}`)
    if (this.#collides) notes.push('parts of the statement write the same row, and only one of them takes effect')
    if (this.#uncompared) notes.push('keys of the rows were not compared with each other')
    if (this.records > MAX_DIFF_RECORDS) {
      notes.push(`the diff shows the first ${MAX_DIFF_RECORDS} of ${this.records} records`)
    }
    return notes
  }
}
