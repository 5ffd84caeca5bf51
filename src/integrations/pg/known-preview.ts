import type { Statement } from '../../sql/classify.js'
import { overlayShape, slotValues } from '../../sql/overlay-rewrite.js'
import { quoteName } from '../../sql/tree.js'
import type { RowDescription } from './driver.js'
import { forgetKnown, known, knownKey, remember } from './known.js'
import { overlayOf } from './overlaid.js'
import { previewRequest } from './own-rows.js'
import { hazardIn, repeatedPreview } from './preview.js'
import type { LearnedPreview, PreviewOutcome } from './preview-request.js'
import type { Answer } from './round.js'
import { givenTypes, type Session } from './session.js'

interface KnownPreview extends LearnedPreview {
  /** Types of the statement's parameters. */
  readonly types: readonly number[]
  /** Columns of RETURNING. */
  readonly fields: RowDescription | undefined
  /** The written table's columns. */
  readonly row: RowDescription
}

/** The preview of a write, and the statement as the server describes it now. */
export interface Repeated {
  readonly outcome: PreviewOutcome
  readonly described: Answer
}

/**
 * The preview of a write that was worked out a moment ago, in one round trip:
 * the server describes the statement and the table's rows again, checks that
 * names mean what they did, and reads. Undefined when nothing is remembered, or
 * anything is not as remembered: then it is to be worked out anew.
 */
export async function repeatPreview(
  session: Session,
  statement: Statement,
  values: readonly unknown[],
): Promise<Repeated | undefined> {
  const { conversation, reader, run } = session
  const hazards = reader.knownHazards()
  const overlay = overlayOf(run, conversation.client)
  if (!reader.asserts || hazards === undefined || overlay.stale.size > 0) return undefined
  const place = await reader.probablePlace()
  if (place === undefined) return undefined
  const found = known<KnownPreview>(keyOf(session, statement, place))
  if (found === undefined || found.types.length !== values.length) return undefined
  if (hazardIn(found.query, hazards) !== undefined) return undefined
  const slots = slotValues(found.slots, overlay)
  const { table } = found.query
  if (slots === undefined || table === null) return undefined

  const request = previewRequest(session, statement, values, found.types)
  const { step, sink, unsettled, outcome } = repeatedPreview(found, request, slots)
  const given = givenTypes(session)
  const answer = await reader.relying(step, sink, [
    { text: statement.text, ...(given === undefined ? {} : { types: given }), keep: true },
    { text: rowQuery(table), keep: true },
  ])
  const [original, row] = answer.checks
  if (
    answer.error === undefined &&
    sameNumbers(original?.parameterTypes, found.types) &&
    sameFields(original?.fields, found.fields) &&
    sameFields(row?.fields, found.row)
  ) {
    // Another query is needed, which what is remembered does not have.
    if (unsettled()) return undefined
    return { outcome: await outcome(), described: { ...answer, fields: original?.fields } }
  }
  // Of a lost connection the caller hears where it goes on with it.
  forgetKnown()
  return undefined
}

/** Remembers a preview that has just been worked out. */
export async function rememberPreview(
  session: Session,
  statement: Statement,
  learned: LearnedPreview,
  described: Answer,
  /** What the run had touched when it was worked out. */
  shape: string,
): Promise<void> {
  const { conversation, reader, run } = session
  const { table } = learned.query
  if (!reader.asserts || table === null || described.parameterTypes === undefined) return
  if (overlayOf(run, conversation.client).stale.size > 0) return
  const place = await reader.place()
  const { fields: row, error } = await reader.describe(rowQuery(table), undefined, false)
  if (place === undefined || error !== undefined || row === undefined) return
  // The catalog and the server's description of the row must be of the same moment.
  const columns = table.columns ?? []
  const same =
    row.fields.length === columns.length &&
    row.fields.every(({ name, tableID }, index) => name === columns[index]?.name && String(tableID) === table.oid)
  if (!same) return
  const entry: KnownPreview = { ...learned, types: described.parameterTypes, fields: described.fields, row }
  remember(keyOf(session, statement, place, shape), entry)
}

function keyOf(
  session: Session,
  { text }: Statement,
  place: string,
  shape = overlayShape(overlayOf(session.run, session.conversation.client)),
): string {
  return knownKey(session.conversation.client, place, 'preview', text, givenTypes(session) ?? null, shape)
}

function rowQuery({ schema, name }: { schema: string; name: string }): string {
  return `SELECT * FROM ${quoteName(schema)}.${quoteName(name)}`
}

function sameNumbers(left: readonly number[] | undefined, right: readonly number[]): boolean {
  return left?.length === right.length && left.every((value, index) => value === right[index])
}

function sameFields(left: RowDescription | undefined, right: RowDescription | undefined): boolean {
  if (left === undefined || right === undefined) return left === right
  return (
    left.fields.length === right.fields.length &&
    left.fields.every((field, index) => {
      const other = right.fields[index]
      return (
        field.name === other?.name &&
        field.tableID === other.tableID &&
        field.columnID === other.columnID &&
        field.dataTypeID === other.dataTypeID &&
        field.dataTypeModifier === other.dataTypeModifier
      )
    })
  )
}
