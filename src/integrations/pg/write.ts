import { DryTraceError, messageOf } from '../../errors.js'
import type { EffectDetail } from '../../guard/effect.js'
import type { Decision } from '../../guard/guard.js'
import type { Statement } from '../../sql/classify.js'
import { parseOne } from '../../sql/grammar.js'
import { overlayShape } from '../../sql/overlay-rewrite.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import { keepWithCascades } from './cascades.js'
import { copiesServerFile, simulateCopyFrom } from './copy-from.js'
import { deliver, nativeError } from './deliver.js'
import type { Dialogue } from './dialogue.js'
import { noteTag } from './known.js'
import { type Repeated, rememberPreview, repeatPreview } from './known-preview.js'
import { markStale, overlayOf } from './overlaid.js'
import { previewWithOwnRows } from './own-rows.js'
import type { LearnedPreview, PreviewOutcome } from './preview-request.js'
import { type Answer, type DatabaseError, NO_FENCE } from './round.js'
import {
  fail,
  failTransaction,
  forgetEndedTransaction,
  givenTypes,
  insideDryTransaction,
  record,
  type Session,
} from './session.js'
import { simulateStatement, soleFunction } from './simulate.js'
import { keepEmptied } from './truncated.js'
import { previewOfUtility } from './utility.js'

const DESCRIBABLE = new Set([
  ...['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'SelectStmt', 'ExplainStmt', 'CallStmt'],
])
const PREVIEWABLE = new Set(['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'SelectStmt'])

/** A statement that a policy rule lets through. Returns the error for the caller. */
export async function executeAllowed(
  session: Session,
  statement: Statement,
  decision: Decision,
  several: boolean,
): Promise<Error | undefined> {
  if (insideDryTransaction(session)) {
    return fail(
      session,
      decision,
      new DryTraceError(
        'DRY_BLOCKED',
        `dry run: rule ${decision.rule} allows ${decision.effect.summary}, but its transaction was opened by a dry run ` +
          'and will be rolled back',
      ),
    )
  }
  record(session, decision)
  const copyIn = statement.operation === 'COPY FROM'
  session.plain = false
  if (session.pinned !== undefined) return await executeAtHome(session.pinned.home, statement)
  const { conversation } = session
  const answer = await conversation.forward(NO_FENCE, { copyIn, ...(several ? { text: statement.text } : {}) })
  if (answer.tag !== undefined) noteTag(conversation.state, answer.tag)
  return answer.error
}

/** What policy lets through is not to be rolled back, and may meet the locks of what is. */
async function executeAtHome(home: Dialogue, statement: Statement): Promise<Error | undefined> {
  const answer = await home.forward(
    { before: ['BEGIN', "SET LOCAL lock_timeout = '5s'"], after: ['COMMIT'] },
    { text: statement.text },
  )
  if (answer.error !== undefined && !answer.lost && home.status !== 'I') await home.simple('ROLLBACK')
  return answer.error
}

/**
 * A statement that must not be executed: works out what it would do, writes it
 * down, and gives the caller the result. Returns the error the caller gets instead.
 */
export async function simulateBlocked(
  session: Session,
  statement: Statement,
  decision: Decision,
  /** A function refused to run READ ONLY: what it would do is not in the text. */
  opaque = false,
): Promise<Error | undefined> {
  session.current = decision
  session.setupSkipped = true
  const { conversation, reader, query } = session
  if (conversation.status === 'E') return await refuseInFailedTransaction(session, decision)
  const notes: string[] = []
  if (session.pinned !== undefined) {
    const outcome = await session.pinned.execute(statement, decision)
    if (outcome.executed) return outcome.error
    notes.push(`not executed: ${outcome.reason}`)
  }
  const copiesIn = statement.node === 'CopyStmt' && statement.operation === 'COPY FROM'
  if (copiesIn && !copiesServerFile(statement)) return await simulateCopyFrom(session, statement, decision)
  if (statement.tag === 'PREPARE TRANSACTION' && session.pinned === undefined && insideDryTransaction(session)) {
    // It ends the session's transaction.
    await conversation.simple('ROLLBACK')
    forgetEndedTransaction(conversation.state)
  }

  const previewable =
    !opaque &&
    PREVIEWABLE.has(statement.node) &&
    session.guard.preview !== 'none' &&
    statement.operation !== 'SELECT INTO'
  const repeated = previewable ? await repeat(session, statement) : undefined
  if (repeated !== undefined) {
    return await deliverPreview(session, decision, repeated.outcome, {
      ...repeated,
      statement,
      blind: undefined,
      notes,
    })
  }
  let described: Answer | undefined
  if (DESCRIBABLE.has(statement.node) && statement.operation !== 'SELECT INTO') {
    described = await reader.describe(statement.text, givenTypes(session))
    if (described.error !== undefined) {
      record(session, decision, wouldFail(described.error))
      return described.error
    }
  }
  const values = valuesOrRefusal(session, decision)
  if (values instanceof Error) return values
  if (previewable) {
    try {
      let learned: LearnedPreview | undefined
      const shape = overlayShape(overlayOf(session.run, conversation.client))
      const types = described?.parameterTypes
      const { outcome, blind } = await previewWithOwnRows(session, statement, values, types, {
        learn(preview) {
          learned = preview
        },
      })
      if (learned !== undefined && described !== undefined) {
        await rememberPreview(session, statement, learned, described, shape)
      }
      return await deliverPreview(session, decision, outcome, { described, statement, blind, notes })
    } catch (error) {
      if (conversation.lost !== undefined) throw error
      if (!(error instanceof PreviewUnsupported) && !(error instanceof session.library.DatabaseError)) throw error
      const failure: DatabaseError =
        error instanceof PreviewUnsupported && error.sqlState !== undefined
          ? nativeError(session.library, { code: error.sqlState, message: error.message })
          : error
      // A value that does not fit its type fails the same way when executed; a timeout or a missing privilege does not.
      if (/^(2[23]|21000|42P10)/.test(failure.code ?? '')) {
        record(session, decision, wouldFail(failure))
        await failTransaction(session)
        return failure
      }
      notes.push(`no preview: ${messageOf(error)}`)
    }
  }
  const utility = opaque ? undefined : await previewOfUtility(session, statement, values, notes)
  if (statement.node === 'TruncateStmt') await keepEmptied(session, statement, utility?.empties)
  else if (copiesIn || !/^(Explain|Create|Copy)/.test(statement.node))
    await markStale(session, statement, 'it was not worked out')
  if (utility !== undefined && described?.fields === undefined) {
    record(session, decision, { preview: utility.preview, fidelity: utility.exact ? 'exact' : 'plausible' })
    deliver(query, conversation.connection, { tag: utility.tag })
    return undefined
  }
  const simulated = simulateStatement({
    statement,
    values,
    fields: described?.fields?.fields,
    syntheticId: (kind) => session.guard.syntheticId(session.run, kind),
    oneRow: opaque && (await givesOneRow(session, statement)),
  })
  record(session, decision, {
    preview: { method: 'synthesized', rows: affected(simulated.tag), diff: [], ...(notes.length > 0 ? { notes } : {}) },
    fidelity:
      simulated.rows.some((row) => row.some((value) => value !== null)) || described?.fields === undefined
        ? 'plausible'
        : 'empty',
    syntheticIds: simulated.syntheticIds,
  })
  deliver(query, conversation.connection, { tag: simulated.tag, fields: described?.fields, rows: simulated.rows })
  return undefined
}

/** A function that is not declared to return a set gives one row, also where it stands in FROM. */
async function givesOneRow({ reader, conversation, library }: Session, { text }: Statement): Promise<boolean> {
  const name = soleFunction(parseOne(text))
  if (name === undefined || conversation.status === 'E') return false
  try {
    const [row] = await reader.rows({
      text: 'SELECT bool_or(proretset) FROM pg_proc WHERE proname = $1',
      values: [name.split('.').at(-1)],
    })
    return row?.[0] === 'f'
  } catch (error) {
    if (conversation.lost !== undefined || !(error instanceof library.DatabaseError)) throw error
    return false
  }
}

interface PreviewContext {
  readonly described: Answer | undefined
  readonly statement: Statement
  readonly blind: string | undefined
  readonly notes: readonly string[]
}

/** A write that was worked out before. What goes wrong on the way is left to working it out anew. */
async function repeat(session: Session, statement: Statement): Promise<Repeated | undefined> {
  let values: readonly unknown[]
  try {
    values = wireValues(session)
  } catch {
    return undefined
  }
  try {
    return await repeatPreview(session, statement, values)
  } catch (error) {
    if (error instanceof PreviewUnsupported) return undefined
    throw error
  }
}

async function deliverPreview(
  session: Session,
  decision: Decision,
  outcome: PreviewOutcome,
  { described, statement, blind, notes }: PreviewContext,
): Promise<Error | undefined> {
  const { violation, syntheticIds, rows, tag } = outcome
  const known = [...notes, ...(outcome.preview.notes ?? [])]
  const preview = { ...outcome.preview, ...(known.length > 0 ? { notes: known } : {}) }
  const fields = described?.fields
  const misfit = fields !== undefined && rows.some((row) => row.length !== fields.fields.length)
  if (misfit) throw new PreviewUnsupported('the rows do not have the shape the server describes')
  if (violation !== undefined) {
    const error = nativeError(session.library, violation)
    const would = wouldFail(error as DatabaseError)
    record(session, decision, { ...would, preview: { method: 'select', rows: 0, diff: [], notes: preview.notes } })
    await failTransaction(session)
    return error
  }
  const exact = outcome.exact && blind === undefined
  record(session, decision, { preview, syntheticIds, fidelity: exact ? 'exact' : 'plausible' })
  const inPart = outcome.changes.some(({ table }) => table.readInPart) ? 'not all of it may be read' : undefined
  await keepWithCascades(session, statement, outcome.changes, blind ?? inPart)
  deliver(session.query, session.conversation.connection, { tag, fields, rows })
  return undefined
}

/** The server's own 25P02, from a statement that reads nothing. */
async function refuseInFailedTransaction(session: Session, decision: Decision): Promise<Error | undefined> {
  const answer = await session.conversation.simple('SELECT 1')
  if (answer.error !== undefined) record(session, decision, wouldFail(answer.error))
  return answer.error
}

export function wouldFail(error: DatabaseError): EffectDetail {
  return { note: `would fail: ${[error.code, error.message].filter(Boolean).join(' ')}`, fidelity: 'exact' }
}

export function affected(tag: string): number {
  return Number(/ (\d+)$/.exec(tag)?.[1] ?? 0)
}

/** The parameters in wire form, or the error with which the driver would have refused the call; it is on record then. */
export function valuesOrRefusal(session: Session, decision: Decision): readonly unknown[] | Error {
  try {
    return wireValues(session)
  } catch (error) {
    const refusal = error instanceof Error ? error : new Error(messageOf(error))
    record(session, decision, wouldFail(refusal))
    return refusal
  }
}

/** The parameters as the driver would send them. @throws what the driver would. */
export function wireValues({ query, library }: Session): unknown[] {
  if (query.values === undefined || query.values === null) return []
  if (!Array.isArray(query.values)) throw new TypeError('Query values must be an array')
  return query.values.map((value) => library.prepareValue(value))
}
