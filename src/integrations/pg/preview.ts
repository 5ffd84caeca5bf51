import type { Preview } from '../../journal/record.js'
import { cascadesOf, mayCascade } from '../../sql/cascades.js'
import { readTable, type Table, tableQuery } from '../../sql/catalog.js'
import { classify } from '../../sql/classify.js'
import { foretoldBy } from '../../sql/foretold.js'
import { type Hazards, hazardOf } from '../../sql/hazards.js'
import { Lru } from '../../sql/lru.js'
import { markedTable } from '../../sql/overlay-rewrite.js'
import {
  LEADING_COLUMNS,
  type PreviewOptions,
  type PreviewQuery,
  PreviewUnsupported,
  previewOf,
  refuseUnlessRead,
} from '../../sql/preview.js'
import { mayHaveTriggers, triggersQuery, withTriggers } from '../../sql/trigger-catalog.js'
import type { Violation } from '../../sql/violations.js'
import { plannedArbiters } from './arbiters.js'
import { composed } from './composed.js'
import { cursorRow, ownVersion } from './cursor-row.js'
import { refusalOfPlanner, secondaryOf } from './preview-bounds.js'
import type { LearnedPreview, PreviewOutcome, PreviewRequest } from './preview-request.js'
import { Tally } from './preview-tally.js'
import type { ReadOnly } from './read-only.js'
import type { Sink, Step } from './round.js'
import { type Settled, settle, type Together } from './settle.js'
import { StandIns } from './stand-ins.js'
import { failsOfVirtual, withoutVirtual } from './virtual-columns.js'

/** `pg_type.oid` of bigint. */
const INT8 = 20

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
