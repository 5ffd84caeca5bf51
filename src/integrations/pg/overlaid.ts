import { messageOf } from '../../errors.js'
import type { Run } from '../../run/run.js'
import type { Table } from '../../sql/catalog.js'
import { classify, type Statement } from '../../sql/classify.js'
import { parseOne } from '../../sql/grammar.js'
import { Overlay } from '../../sql/overlay.js'
import {
  type Resolution,
  type ResolvedRelation,
  readResolution,
  relationKey,
  resolutionQuery,
} from '../../sql/overlay-catalog.js'
import {
  NotOverlaid,
  type OverlaidStatement,
  overlayStatement,
  refuseHiddenReads,
  relationsToResolve,
} from '../../sql/overlay-rewrite.js'
import { relationUses } from '../../sql/relations.js'
import type { Dialogue } from './dialogue.js'
import type { PgClient, RowDescription } from './driver.js'
import type { ReadOnly } from './read-only.js'
import type { Session } from './session.js'

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
}

/** Built-in functions that read what their arguments name. */
const READS_BY_NAME = /^((query|table|schema|database)(_to_xml.*)|ts_stat|cursor_to_xml.*)$/

/**
 * The read over the run's own rows, or undefined when it is to run as it is:
 * because it reads nothing the run has touched, or because it cannot be
 * rewritten, which is put on record. Never an error for the caller.
 */
export async function overlaidRead(
  session: Session,
  statement: Statement,
  several: boolean,
): Promise<OverlaidRead | undefined> {
  const { conversation, run } = session
  const overlay = overlayOf(run, conversation.client)
  if (overlay.untouched || conversation.status === 'E') return undefined
  try {
    return await rewriteRead(session, overlay, statement, several)
  } catch (error) {
    if (conversation.lost !== undefined) throw error
    if (!(error instanceof NotOverlaid) && !(error instanceof session.library.DatabaseError)) throw error
    tell(session, overlay, statement, messageOf(error))
    return undefined
  }
}

async function rewriteRead(
  session: Session,
  overlay: Overlay,
  statement: Statement,
  several: boolean,
): Promise<OverlaidRead | undefined> {
  const { reader, query } = session
  const { node, text } = statement
  if (node === 'ExecuteStmt') throw new NotOverlaid('what EXECUTE reads is not known')
  if (node !== 'SelectStmt' && node !== 'CopyStmt' && node !== 'DeclareCursorStmt') return undefined
  const resolution = await resolve(reader, overlay, text, statement.unknown)
  if (resolution === undefined) return undefined
  tellStale(session, overlay, statement, resolution)
  refuseHiddenReads(text, resolution, overlay)
  const byName = statement.functions.find((name) => READS_BY_NAME.test(name))
  if (byName !== undefined) throw new NotOverlaid(`${byName}() may read what the run has changed`)
  if (!resolution.relations.some(({ oid }) => oid !== null && overlay.table(oid) !== undefined)) return undefined
  if (node !== 'SelectStmt') throw new NotOverlaid(`${statement.operation} is not rewritten`)

  const given = several || !Array.isArray(query.values) ? [] : (query.values as unknown[])
  const asked = Array.isArray(query.types) && query.types.every((type) => typeof type === 'number')
  const original = await reader.describe(text, asked ? (query.types as number[]) : undefined, false)
  // The server says the same of the statement itself, to the caller.
  if (original.error !== undefined || original.fields === undefined) return undefined
  const types = original.parameterTypes ?? []
  if (types.length !== given.length) return undefined
  let reason = 'it was not tried'
  for (const spellOut of [false, true]) {
    const rewritten = overlayStatement(text, { overlay, resolution, parameters: types.length, spellOut })
    if (rewritten === undefined) return undefined
    refuseUnlessRead(rewritten)
    const all = [...types, ...rewritten.types]
    const described = await reader.describe(rewritten.text, all, false)
    if (described.error === undefined && sameColumns(original.fields, described.fields)) {
      return { text: rewritten.text, values: [...given, ...rewritten.values], types: all, fields: original.fields }
    }
    reason = described.error?.message ?? 'the types of its columns would change'
  }
  throw new NotOverlaid(reason)
}

function refuseUnlessRead({ text }: OverlaidStatement): void {
  const [only, ...more] = classify(text)
  if (more.length > 0 || (only?.kind !== 'read' && only?.kind !== 'unsure')) throw new NotOverlaid('it would not read')
}

function sameColumns(left: RowDescription, right: RowDescription | undefined): boolean {
  if (right?.fields.length !== left.fields.length) return false
  return left.fields.every((field, index) => {
    const other = right.fields[index]
    return field.name === other?.name && field.dataTypeID === other.dataTypeID
  })
}

/** What the relations and functions of a statement are to the overlay; undefined when there are none. */
async function resolve(
  reader: ReadOnly,
  overlay: Overlay,
  text: string,
  functions: readonly string[],
  touched: readonly string[] = overlay.oids,
): Promise<Resolution | undefined> {
  const relations = relationsToResolve(text, overlay)
  if (relations.length === 0 && functions.length === 0) return undefined
  const called = functions.map((name) => name.toLowerCase())
  const [row] = await reader.rows({ text: resolutionQuery(relations, called, touched) })
  return row?.[0] ? readResolution(row[0]) : undefined
}

/** Gives the queries of a write's preview the run's own rows. */
export class OverlaidPreview {
  readonly #reader: ReadOnly
  readonly #overlay: Overlay
  readonly #parameters: number
  readonly #spellOut: boolean
  readonly #known: ResolvedRelation[] = []
  /** Other connections may touch more tables meanwhile: they come after this statement. */
  readonly #touched: readonly string[]

  constructor(reader: ReadOnly, overlay: Overlay, parameters: number, spellOut: boolean) {
    this.#reader = reader
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
    const resolution = await resolve(this.#reader, this.#overlay, text, statement?.unknown ?? [], this.#touched)
    if (resolution === undefined) return undefined
    this.#known.push(...resolution.relations)
    refuseHiddenReads(text, resolution, this.#overlay)
    return resolution
  }

  /** The preview names the statement's relations again, and those its foreign keys refer to. */
  async #resolve(text: string): Promise<Resolution> {
    const names = relationsToResolve(text, this.#overlay)
    const missing = names.filter((name) => !this.#known.some((relation) => relation.name === name))
    if (missing.length > 0) {
      const [row] = await this.#reader.rows({ text: resolutionQuery(missing, [], this.#touched) })
      if (row?.[0]) this.#known.push(...readResolution(row[0]).relations)
    }
    return { relations: this.#known.filter(({ name }) => names.includes(name)), functions: [] }
  }

  async rewrite(text: string): Promise<OverlaidStatement> {
    const resolution = await this.#resolve(text)
    const scope = { overlay: this.#overlay, resolution, parameters: this.#parameters, spellOut: this.#spellOut }
    const through = resolution.relations.find((relation) => relation.through.length > 0)
    if (through !== undefined) throw new NotOverlaid(`${through.name} reads ${through.through.join(', ')}`)
    return overlayStatement(text, scope) ?? { text, values: [], types: [] }
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
  const answer: (string | null)[][] = []
  try {
    answer.push(...(await reader.rows({ text: resolutionQuery([...new Set(names)], [], []) })))
  } catch (error) {
    if (conversation.lost !== undefined || !(error instanceof session.library.DatabaseError)) throw error
    return
  }
  const found = answer[0]?.[0] ? readResolution(answer[0][0]).relations : []
  const overlay = overlayOf(run, conversation.client)
  for (const { oid } of found) if (oid !== null) overlay.stale.set(oid, reason)
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
