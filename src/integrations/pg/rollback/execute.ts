import { messageOf } from '../../../errors.js'
import type { Decision } from '../../../guard/guard.js'
import type { Preview } from '../../../journal/record.js'
import type { Statement } from '../../../sql/classify.js'
import { hazardOf } from '../../../sql/hazards.js'
import { PreviewUnsupported } from '../../../sql/preview.js'
import { namedIn, redefines, whyNotContained } from '../../../sql/rollback-escapes.js'
import { deliver } from '../deliver.js'
import type { RowDescription } from '../driver.js'
import { previewWrite } from '../preview.js'
import { NO_FENCE } from '../round.js'
import { failTransaction, givenTypes, type PinnedOutcome, record } from '../session.js'
import { isMadeUp } from '../small-ids.js'
import { affected, valuesOrRefusal, wouldFail } from '../write.js'
import { isOpen, mustSucceed, type PinnedCall, tellOnce } from './pinned-call.js'
import { countTouched, secondaryEffects } from './touched.js'
import { abandonTransaction } from './transaction.js'

const SAVEPOINT = 'drytrace_statement'
const UNDO = `ROLLBACK TO SAVEPOINT ${SAVEPOINT}; RELEASE SAVEPOINT ${SAVEPOINT}`

/**
 * What live execution would not have met: a limit of ours (lock, time, the
 * server's end of an idle transaction), or a statement that runs in no transaction.
 */
const OURS = /^(55P03|57014|25001|2D000|40P01)$/

const PREVIEWABLE = new Set(['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'SelectStmt'])

const CAVEATS =
  'writes are executed and rolled back: sequences move on, row and table locks are held until the run ends, ' +
  'WAL and dead rows are written, and now() stands still'

/** Executes a blocked write in the run's own transaction, and writes down what it changed. */
export async function executePinned(
  call: PinnedCall,
  statement: Statement,
  decision: Decision,
): Promise<PinnedOutcome> {
  const { session, pinned } = call
  const { conversation, query } = session
  // It ends the session's transaction.
  if (statement.tag === 'PREPARE TRANSACTION' && isOpen(call)) await abandonTransaction(call)
  const reason = await whyNotExecuted(call, statement)
  if (reason !== undefined) return { executed: false, reason }
  const values = valuesOrRefusal(session, decision)
  if (values instanceof Error) return { executed: true, error: values }
  const notes: string[] = []
  const expected = await expectedChange(call, statement, values, notes)

  // Outside of a transaction the server refuses this: nothing is executed that would stay.
  await mustSucceed(call, `SAVEPOINT ${SAVEPOINT}`)
  const before = await countTouched(session)
  let fields: RowDescription | undefined
  const rows: (string | null)[][] = []
  const answer = await conversation.run({ text: statement.text, values, types: givenTypes(session) }, NO_FENCE, {
    rowDescription: (message) => {
      fields = message
    },
    row: (row) => rows.push(row),
  })
  if (answer.lost) throw answer.error
  // Outside a transaction of the application the statement commits at once.
  const error = answer.error ?? (isOpen(call) ? undefined : await pinned.checkDeferred(conversation))
  if (error !== undefined) {
    await mustSucceed(call, UNDO)
    if (OURS.test(error.code ?? '')) {
      return { executed: false, reason: `it could not be executed to be rolled back: ${error.message}` }
    }
    if (isOpen(call)) await failTransaction(session)
    record(session, decision, { ...wouldFail(error), preview: { method: 'rollback', rows: 0, diff: [], notes } })
    return { executed: true, error }
  }
  const touched = await countTouched(session)
  await mustSucceed(call, `RELEASE SAVEPOINT ${SAVEPOINT}`)
  pinned.wrote = true
  if (redefines(statement)) pinned.hazards = undefined
  if (!pinned.warned) {
    pinned.warned = true
    notes.push(CAVEATS)
  }
  const tag = answer.tag ?? statement.tag
  notes.push(...secondaryEffects(before, touched, statement))
  const preview: Preview = {
    method: 'rollback',
    rows: affected(tag),
    diff: expected?.diff ?? [],
    ...(notes.length > 0 ? { notes } : {}),
  }
  record(session, decision, { preview, fidelity: 'exact', syntheticIds: expected?.syntheticIds ?? [] })
  deliver(query, call.home.connection, { tag, fields, rows })
  return { executed: true, error: undefined }
}

/** The change by field, worked out on the rows as the run has left them. */
async function expectedChange(
  { session }: PinnedCall,
  statement: Statement,
  values: readonly unknown[],
  notes: string[],
): Promise<{ diff: Preview['diff']; syntheticIds: readonly string[] } | undefined> {
  const { conversation, reader, guard, run } = session
  if (!PREVIEWABLE.has(statement.node) || statement.writes.length === 0 || statement.operation === 'SELECT INTO') {
    return undefined
  }
  try {
    const described = await reader.describe(statement.text, givenTypes(session), false)
    // The execution gives the caller this error itself.
    if (described.error !== undefined) return undefined
    const outcome = await previewWrite(reader, {
      text: statement.text,
      values,
      types: described.parameterTypes,
      syntheticId: () => guard.syntheticId(run, 'integer'),
      madeUp: (value) => isMadeUp(run, value),
      outdated: true,
    })
    notes.push(...(outcome.preview.notes ?? []).filter((note) => !note.startsWith('would fail')))
    if (outcome.syntheticIds.length > 0) notes.push('ids of new rows in the diff are made up')
    return { diff: outcome.preview.diff, syntheticIds: outcome.syntheticIds }
  } catch (error) {
    if (conversation.lost !== undefined) throw error
    if (!(error instanceof PreviewUnsupported) && !(error instanceof session.library.DatabaseError)) throw error
    notes.push(`no diff by field: ${messageOf(error)}`)
    return undefined
  }
}

/** Why a rollback would not take all of it back; undefined when it would. */
async function whyNotExecuted(call: PinnedCall, statement: Statement): Promise<string | undefined> {
  const reason = whyNotContained(statement)
  if (reason !== undefined) return reason
  const { found, escapes } = await call.session.reader.wayOut()
  const culprit =
    hazardOf(statement, found) ?? (statement.node === 'DoStmt' ? namedIn(statement.text, found.functions) : undefined)
  if (culprit !== undefined) return `${culprit} reaches out of the transaction`
  const [way, ...more] = escapes
  if (way === undefined) return undefined
  tellOnce(
    call.session,
    `nothing is executed in this database, because a rollback would not take all back: ${escapes.join(', ')}`,
  )
  return `a write may reach out of the transaction through ${way}${more.length > 0 ? ` and ${more.length} more` : ''}`
}
