import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision } from '../../guard/guard.js'
import { type Statement, unparsedStatement } from '../../sql/classify.js'
import { loadGrammar } from '../../sql/grammar.js'
import { overlayTime } from '../../sql/overlay.js'
import { noteConstraintModes } from './constraint-modes.js'
import { isLetThrough, isRead } from './effect.js'
import { carryOutWrite, executeNeutralised, executeRead, executeSession } from './read.js'
import { NO_FENCE } from './round.js'
import { fail, forgetEndedTransaction, type Planned, record, type Session } from './session.js'
import { Submittable } from './submittable.js'
import { controlTransaction } from './transaction.js'
import { executeAllowed, simulateBlocked, wouldFail } from './write.js'

/**
 * Carries one dry call out, from the moment pg would have sent it to the moment
 * pg may send the next one. Never rejects.
 */
export async function runScript(session: Session, plan: () => readonly Planned[]): Promise<void> {
  const { conversation } = session
  const startedIdle = conversation.status === 'I'
  conversation.hold()
  let error: Error | undefined
  try {
    await loadGrammar()
    error = await executeAll(session, plan())
  } catch (cause) {
    error = failure(session, cause)
  }
  if (
    conversation.lost === undefined &&
    startedIdle &&
    conversation.status !== 'I' &&
    !conversation.state.transaction
  ) {
    // Only after an error of ours half way: the connection goes back as it came.
    await conversation.simple('ROLLBACK')
  }
  forgetEndedTransaction(conversation.state)
  // A setting, a transaction's end or a function of the database may have changed how names are resolved.
  if (!session.plain) conversation.state.placeHolds = false
  if (error === undefined && session.query instanceof Submittable) {
    await session.query.settled(conversation.gone)
    error = conversation.lost
  }
  finish(session, error)
}

export function failure(session: Session, cause: unknown): Error {
  const { lost } = session.conversation
  if (lost !== undefined) return lost
  if (session.current !== undefined) return fail(session, session.current, cause)
  // Nothing was decided yet: the journal must hold the call all the same.
  const { text } = session.query
  const decision = session.decide(unparsedStatement(typeof text === 'string' ? text : '', messageOf(cause)))
  return decision.error ?? fail(session, decision, cause)
}

export async function executeAll(session: Session, plan: readonly Planned[]): Promise<Error | undefined> {
  if (plan.length === 0) return (await session.conversation.forward(NO_FENCE, { text: '' })).error
  const refused = await refusedScript(session, plan)
  if (refused !== undefined) return refused
  const { conversation } = session
  // A script without transaction control is one transaction.
  const atomic =
    plan.length > 1 && conversation.status === 'I' && plan.every(({ statement }) => statement.kind !== 'tx')
  const since = overlayTime()
  for (const planned of plan) {
    const error = await executeOne(session, planned)
    if (error === undefined) continue
    if (atomic) conversation.state.undo.undoSince(since)
    // The server drops the rest of a script after an error.
    return error
  }
  return undefined
}

/** Several statements cannot be prepared, so with parameters or a name the server refuses them all. */
async function refusedScript(session: Session, plan: readonly Planned[]): Promise<Error | undefined> {
  const { query, reader } = session
  if (plan.length < 2 || query.requiresPreparation?.() !== true) return undefined
  const answer = await reader.describe(String(query.text))
  if (answer.error === undefined) throw new DryTraceError('DRY_GUARD_FAILED', 'the server prepared several statements')
  for (const { decision } of plan) if (decision !== undefined) record(session, decision, wouldFail(answer.error))
  return answer.error
}

async function executeOne(session: Session, planned: Planned): Promise<Error | undefined> {
  const { statement } = planned
  session.plain &&= statement.kind === 'read' || statement.kind === 'write'
  noteConstraintModes(session, statement)
  if (statement.kind === 'tx') {
    return await (session.pinned?.control(statement) ?? controlTransaction(session, statement))
  }
  const decision = planned.decision ?? session.decide(statement)
  session.current = decision
  if (decision.error !== undefined) return await refuse(session, statement, decision, decision.error)
  noteSyntheticIds(session, statement, decision)
  if (isRead(statement) && decision.verdict !== 'allow')
    return await simulateBlocked(session, statement, decision, true)
  if (isLetThrough(statement, decision)) {
    return await carryOutWrite(session, statement, statement.functions[0] ?? statement.operation, planned.several)
  }
  switch (statement.kind) {
    case 'read':
    case 'unsure':
      return await executeRead(session, planned, decision)
    case 'session':
    case 'txmode':
      return await executeSession(session, planned, decision)
    case 'lock':
    case 'xid':
    case 'deny':
      if (!isRead(statement) && decision.verdict === 'allow') {
        return await executeAllowed(session, statement, decision, planned.several)
      }
      return await executeNeutralised(session, statement, decision, planned.several)
    default:
      return decision.verdict === 'allow'
        ? await executeAllowed(session, statement, decision, planned.several)
        : await simulateBlocked(session, statement, decision)
  }
}

async function refuse(session: Session, statement: Statement, decision: Decision, error: Error): Promise<Error> {
  record(session, decision)
  if (statement.kind !== 'unparsed') return error
  // What is no SQL to us is usually none to the server, and its own words are the ones the application expects.
  const answer = await session.reader.describe(statement.text)
  return answer.error ?? error
}

/** Reads have no diff in which the recorder would find them. */
function noteSyntheticIds({ guard, run, query }: Session, statement: Statement, decision: Decision): void {
  if (run.syntheticIds.size === 0 || !isRead(statement) || !Array.isArray(query.values)) return
  const used = query.values.map(String).filter((value) => run.syntheticIds.has(value))
  if (used.length === 0) return
  guard.problem(
    run,
    'synthetic_used',
    `${decision.effect.summary} asks for what was made up: ${used.slice(0, 10).join(', ')}`,
  )
}

/** Hands the result or the error to the application's query, then the connection back to pg. */
export function finish(session: Session, error: Error | undefined): void {
  const { conversation, query } = session
  const { client, connection } = conversation
  conversation.release()
  if (conversation.lost !== undefined) client.readyForQuery = false
  try {
    if (error === undefined) query.handleReadyForQuery(connection)
    else query.handleError(error, connection)
  } catch (thrown) {
    // As from a socket's event: not ours to swallow, and not to take the queue down with it.
    process.nextTick(() => {
      throw thrown
    })
  }
  if (conversation.lost === undefined) client._pulseQueryQueue()
}
