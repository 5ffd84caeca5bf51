import { messageOf } from '../../errors.js'
import type { Run } from '../../run/run.js'
import type { Table } from '../../sql/catalog.js'
import { classify, type Statement } from '../../sql/classify.js'
import { parseOne } from '../../sql/grammar.js'
import { Overlay } from '../../sql/overlay.js'
import {
  type Resolution,
  type ResolvedRelation,
  reachedQuery,
  readResolution,
  relationKey,
  resolutionQuery,
} from '../../sql/overlay-catalog.js'
import {
  NotOverlaid,
  type OverlaidStatement,
  type OverlaySlot,
  overlayShape,
  overlayStatement,
  refuseHiddenReads,
  relationsToResolve,
  slotValues,
} from '../../sql/overlay-rewrite.js'
import { relationUses } from '../../sql/relations.js'
import { quoteName } from '../../sql/tree.js'
import type { Dialogue } from './dialogue.js'
import type { PgClient, RowDescription } from './driver.js'
import { known, knownKey, remember } from './known.js'
import type { Step } from './round.js'
import { givenTypes, type Session } from './session.js'

const overlays = new WeakMap<Run, Map<string, Overlay>>()

/** What a run would have written to the database a client is connected to. */
export function overlayOf(run: Run, { host, port, database, user }: PgClient): Overlay {
  let own = overlays.get(run)
  if (own === undefined) {
    own = new Map()
    overlays.set(run, own)
  }
  const key = JSON.stringify([host, port, database, user])
  let overlay = own.get(key)
  if (overlay === undefined) {
    overlay = new Overlay()
    own.set(key, overlay)
  }
  return overlay
}

/** A read as it is sent instead, and the columns its caller is shown. */
export interface OverlaidRead {
  readonly text: string
  readonly values: readonly unknown[]
  readonly types: readonly number[]
  readonly fields: RowDescription
  /** Worked out a moment ago: the server describes the original again, and its columns must still be `fields`. */
  readonly check?: Step
}

/** How a read is to be sent. */
export interface ReadPlan {
  /** What is sent instead; undefined for the statement itself. */
  readonly overlaid: OverlaidRead | undefined
  /** Decided by what is remembered: goes out behind the reader's assertions. */
  readonly relies: boolean
  /** Other statements came in the same text. */
  readonly several: boolean
  /** Of the parameters, where the text that is sent does not tell. */
  readonly types?: readonly number[]
}

const AS_IT_IS = { overlaid: undefined, relies: false }

/** What a read turned out to be, for the same text and the same touched tables. */
interface KnownRead {
  readonly resolution: Resolution
  /** Undefined for a read of nothing the run has touched. */
  readonly rewritten?: {
    readonly text: string
    readonly slots: readonly OverlaySlot[]
    readonly slotTypes: readonly number[]
    readonly types: readonly number[]
    readonly fields: RowDescription
  }
}

/** Built-in functions that read what their arguments name. */
const READS_BY_NAME = /^((query|table|schema|database)(_to_xml.*)|ts_stat|cursor_to_xml.*)$/

/**
 * The read over the run's own rows, or undefined when it is to run as it is:
 * because it reads nothing the run has touched, or because it cannot be
 * rewritten, which is put on record. Never an error for the caller.
 */
export async function overlaidRead(session: Session, statement: Statement, several: boolean): Promise<ReadPlan> {
  const { conversation, run } = session
  const overlay = overlayOf(run, conversation.client)
  if (overlay.untouched || conversation.status === 'E') return { ...AS_IT_IS, several }
  try {
    return { ...(await rewriteRead(session, overlay, statement, several)), several }
  } catch (error) {
    if (conversation.lost !== undefined) throw error
    if (!(error instanceof NotOverlaid) && !(error instanceof session.library.DatabaseError)) throw error
    tell(session, overlay, statement, messageOf(error))
    return { ...AS_IT_IS, several }
  }
}

async function rewriteRead(
  session: Session,
  overlay: Overlay,
  statement: Statement,
  several: boolean,
): Promise<Omit<ReadPlan, 'several'>> {
  const { reader, query, conversation } = session
  const { node, text } = statement
  if (node === 'ExecuteStmt') throw new NotOverlaid('what EXECUTE reads is not known')
  if (node === 'CallStmt' || node === 'DoStmt') return await readAsItIs(session, overlay, statement)
  if (node !== 'SelectStmt' && node !== 'CopyStmt' && node !== 'DeclareCursorStmt') return AS_IT_IS
  const given = several || !Array.isArray(query.values) ? [] : (query.values as unknown[])
  const asked = givenTypes(session)
  const keyAt = (place: string) =>
    knownKey(conversation.client, place, 'read', text, asked ?? null, overlayShape(overlay))

  const probable = await reader.probablePlace()
  const found = probable === undefined ? undefined : known<KnownRead>(keyAt(probable))
  if (found !== undefined) {
    const plan = repeatRead(found, overlay, given, { text, ...(asked === undefined ? {} : { types: asked }) })
    if (plan !== undefined) {
      tellStale(session, overlay, statement, found.resolution)
      return plan
    }
  }

  const place = await reader.place()
  const learn = (entry: KnownRead): void => {
    if (place !== undefined) remember(keyAt(place), entry)
  }
  const resolution = await resolve(remembered(session, place), overlay, text, statement.unknown)
  if (resolution === undefined) return AS_IT_IS
  tellStale(session, overlay, statement, resolution)
  refuseHiddenReads(text, resolution, overlay)
  const byName = statement.functions.find((name) => READS_BY_NAME.test(name))
  if (byName !== undefined) throw new NotOverlaid(`${byName}() may read what the run has changed`)
  if (!resolution.relations.some(({ oid }) => oid !== null && overlay.table(oid) !== undefined)) {
    learn({ resolution })
    return AS_IT_IS
  }
  if (node !== 'SelectStmt') throw new NotOverlaid(`${statement.operation} is not rewritten`)

  const original = await reader.describe(text, asked, false)
  // The server says the same of the statement itself, to the caller.
  if (original.error !== undefined || original.fields === undefined) return AS_IT_IS
  const types = original.parameterTypes ?? []
  if (types.length !== given.length) return AS_IT_IS
  let reason = 'it was not tried'
  for (const spellOut of [false, true]) {
    const rewritten = overlayStatement(text, { overlay, resolution, parameters: types.length, spellOut })
    if (rewritten === undefined) return AS_IT_IS
    refuseUnlessRead(rewritten)
    const all = [...types, ...rewritten.types]
    const described = await reader.describe(rewritten.text, all, false)
    if (described.error === undefined && sameColumns(original.fields, described.fields)) {
      const { slots, types: slotTypes } = rewritten
      const { fields } = original
      learn({ resolution, rewritten: { text: rewritten.text, slots, slotTypes, types, fields } })
      const values = [...given, ...rewritten.values]
      return { overlaid: { text: rewritten.text, values, types: all, fields }, relies: false }
    }
    reason = described.error?.message ?? 'the types of its columns would change'
  }
  throw new NotOverlaid(reason)
}

/** What a procedure or a block reads is in no query that could be rewritten. */
async function readAsItIs(session: Session, overlay: Overlay, statement: Statement): Promise<typeof AS_IT_IS> {
  const { relations, unknown, operation } = statement
  const names = relations.map((name) => name.split('.').map(quoteName).join('.'))
  const resolve = remembered(session, await session.reader.place())
  const functions = unknown.map((name) => name.toLowerCase())
  const resolution = await resolve(names, functions, overlay.oids)
  if (resolution === undefined) return AS_IT_IS
  tellStale(session, overlay, statement, resolution)
  refuseHiddenReads(statement.text, resolution, overlay)
  if (resolution.relations.some(({ oid }) => oid !== null && overlay.table(oid) !== undefined)) {
    throw new NotOverlaid(`${operation} is not rewritten`)
  }
  return AS_IT_IS
}

function repeatRead(
  { rewritten }: KnownRead,
  overlay: Overlay,
  given: readonly unknown[],
  original: Step,
): Omit<ReadPlan, 'several'> | undefined {
  if (rewritten === undefined) return { overlaid: undefined, relies: true }
  const { text, slots, slotTypes, types, fields } = rewritten
  const rows = slotValues(slots, overlay)
  if (rows === undefined || types.length !== given.length) return undefined
  const overlaid = { text, values: [...given, ...rows], types: [...types, ...slotTypes], fields, check: original }
  return { overlaid, relies: true }
}

function refuseUnlessRead({ text }: OverlaidStatement): void {
  const [only, ...more] = classify(text)
  if (more.length > 0 || (only?.kind !== 'read' && only?.kind !== 'unsure')) throw new NotOverlaid('it would not read')
}

export function sameColumns(left: RowDescription, right: RowDescription | undefined): boolean {
  if (right?.fields.length !== left.fields.length) return false
  return left.fields.every((field, index) => {
    const other = right.fields[index]
    return field.name === other?.name && field.dataTypeID === other.dataTypeID
  })
}

/** Resolves names, by what is remembered or by asking. */
export type Resolve = (
  relations: readonly string[],
  functions: readonly string[],
  touched: readonly string[],
) => Promise<Resolution | undefined>

/** Resolutions at one place, which must be certain. */
export function remembered({ reader, conversation }: Session, place: string | undefined): Resolve {
  return async (relations, functions, touched) => {
    const query = resolutionQuery(relations, functions, touched)
    const key = place === undefined ? undefined : knownKey(conversation.client, place, 'names', query)
    const found = key === undefined ? undefined : known<Resolution>(key)
    if (found !== undefined) return found
    const [row] = await reader.rows({ text: query })
    const resolution = row?.[0] ? readResolution(row[0]) : undefined
    if (key !== undefined && resolution !== undefined) remember(key, resolution)
    return resolution
  }
}

/** What the relations and functions of a statement are to the overlay; undefined when there are none. */
async function resolve(
  ask: Resolve,
  overlay: Overlay,
  text: string,
  functions: readonly string[],
  touched: readonly string[] = overlay.oids,
): Promise<Resolution | undefined> {
  const relations = relationsToResolve(text, overlay)
  if (relations.length === 0 && functions.length === 0) return undefined
  return await ask(
    relations,
    functions.map((name) => name.toLowerCase()),
    touched,
  )
}

/** Gives the queries of a write's preview the run's own rows. */
export class OverlaidPreview {
  readonly #ask: Resolve
  readonly #overlay: Overlay
  readonly #parameters: number
  readonly #spellOut: boolean
  readonly #known: ResolvedRelation[] = []
  /** Other connections may touch more tables meanwhile: they come after this statement. */
  readonly #touched: readonly string[]

  constructor(overlay: Overlay, parameters: number, spellOut: boolean, ask: Resolve) {
    this.#ask = ask
    this.#overlay = overlay
    this.#parameters = parameters
    this.#spellOut = spellOut
    this.#touched = overlay.oids
  }

  /** True for a table that must be read with the run's own rows. */
  touches({ oid }: Table): boolean {
    return this.#touched.includes(oid) && this.#overlay.table(oid) !== undefined
  }

  /** @throws NotOverlaid when the statement reads in a way that cannot be given the run's own rows. */
  async check(text: string): Promise<Resolution | undefined> {
    const [statement] = classify(text)
    const resolution = await resolve(this.#ask, this.#overlay, text, statement?.unknown ?? [], this.#touched)
    if (resolution === undefined) return undefined
    this.#known.push(...resolution.relations)
    refuseHiddenReads(text, this.#reads(text, resolution), this.#overlay)
    return resolution
  }

  /** Of a view that is only written, the preview reads the table behind it, and that is looked at by itself. */
  #reads(text: string, resolution: Resolution): Resolution {
    if (this.#overlay.stale.size > 0) return resolution
    const read = new Set(
      relationUses(parseOne(text)).flatMap(({ relation, replace }) =>
        replace === undefined ? [] : [relationKey(relation)],
      ),
    )
    const relations = resolution.relations.filter(({ name, through }) => through.length === 0 || read.has(name))
    return { ...resolution, relations }
  }

  /** The preview names the statement's relations again, and those its foreign keys refer to. */
  async #resolve(text: string): Promise<Resolution> {
    const names = relationsToResolve(text, this.#overlay)
    const missing = names.filter((name) => !this.#known.some((relation) => relation.name === name))
    if (missing.length > 0) {
      const resolution = await this.#ask(missing, [], this.#touched)
      if (resolution !== undefined) this.#known.push(...resolution.relations)
    }
    return { relations: this.#known.filter(({ name }) => names.includes(name)), functions: [] }
  }

  async rewrite(text: string): Promise<OverlaidStatement> {
    const resolution = await this.#resolve(text)
    const scope = { overlay: this.#overlay, resolution, parameters: this.#parameters, spellOut: this.#spellOut }
    const through = resolution.relations.find((relation) => relation.through.length > 0)
    if (through !== undefined) throw new NotOverlaid(`${through.name} reads ${through.through.join(', ')}`)
    return overlayStatement(text, scope) ?? { text, values: [], slots: [], types: [] }
  }
}

/** Marks what a blocked statement writes as unknown: it was not worked out row by row. */
export async function markStale(session: Session, statement: Statement, reason: string): Promise<void> {
  const { conversation, reader, run } = session
  if (conversation.status === 'E') return
  const written = new Set(statement.writes)
  const names = relationUses(parseOne(statement.text)).flatMap(({ relation }) => {
    const name = relation.schemaname ? `${relation.schemaname}.${relation.relname}` : (relation.relname ?? '')
    return statement.node === 'TruncateStmt' || written.has(name) ? [relationKey(relation)] : []
  })
  if (names.length === 0) return
  const reached: (string | null)[][] = []
  try {
    const [row] = await reader.rows({ text: resolutionQuery([...new Set(names)], [], []) })
    const oids = row?.[0] ? readResolution(row[0]).relations.flatMap(({ oid }) => oid ?? []) : []
    if (oids.length > 0) reached.push(...(await reader.rows({ text: reachedQuery(oids) })))
  } catch (error) {
    if (conversation.lost !== undefined || !(error instanceof session.library.DatabaseError)) throw error
    return
  }
  const overlay = overlayOf(run, conversation.client)
  for (const [oid] of reached) if (oid != null) overlay.stale.set(oid, reason)
}

/** Puts on record that a statement saw, of a touched table, less than the run has done to it. */
export function tellStale(session: Session, overlay: Overlay, statement: Statement, resolution: Resolution): void {
  for (const { name, oid } of resolution.relations) {
    const reason = oid === null ? undefined : overlay.stale.get(oid)
    if (reason !== undefined)
      tell(session, overlay, statement, `what the run did to ${name} is not all known: ${reason}`)
  }
}

/** Puts on record, once, that a statement ran on the data as it is. */
export function tell(session: Session, overlay: Overlay, { operation, relation }: Statement, reason: string): void {
  const what = [operation, relation].filter(Boolean).join(' ')
  const message = `not overlaid: ${what} sees the data as it is, without what this run would have changed (${reason})`
  if (overlay.told.has(message)) return
  overlay.told.add(message)
  const { guard, run } = session
  guard.within(run, () => guard.problem(run, 'gap', message))
}

/** Texts of these settings read back differently elsewhere. */
export function ambiguousSettings({ state }: Dialogue): string | undefined {
  const { settings } = state
  if (!(settings.get('DateStyle') ?? 'ISO').startsWith('ISO')) return `DateStyle is ${settings.get('DateStyle')}`
  if (settings.get('IntervalStyle') === 'sql_standard') return 'IntervalStyle is sql_standard'
  return undefined
}
