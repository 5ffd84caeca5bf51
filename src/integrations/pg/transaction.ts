import type { Node } from '@pgsql/types'
import { DryTraceError } from '../../errors.js'
import type { Statement } from '../../sql/classify.js'
import { parseOne } from '../../sql/grammar.js'
import { deliver } from './deliver.js'
import { NO_FENCE } from './round.js'
import { fail, forgetEndedTransaction, insideDryTransaction, insideLiveTransaction, type Session } from './session.js'

/**
 * Transaction control. A dry BEGIN is real but READ ONLY, a dry COMMIT is sent
 * as ROLLBACK; savepoints work in between. Returns the error for the caller.
 */
export async function controlTransaction(session: Session, statement: Statement): Promise<Error | undefined> {
  const { conversation } = session
  const { state } = conversation
  if (insideLiveTransaction(session)) return controlLiveTransaction(session, statement)
  if (/^(BEGIN|START)$/.test(statement.operation)) {
    // Inside a transaction it is only a warning, but READ WRITE would still take effect.
    state.transaction ??= session.run
    return await send(session, statement, { text: beginReadOnly(parseOne(statement.text)) })
  }
  if (statement.operation === 'COMMIT' && insideDryTransaction(session)) {
    // COMMIT of a failed transaction answers ROLLBACK.
    const tag = conversation.status === 'E' ? 'ROLLBACK' : 'COMMIT'
    const chain = /\band\s+chain\b/i.test(statement.safeText) ? ' AND CHAIN' : ''
    return await send(session, statement, { text: `ROLLBACK${chain}`, tag })
  }
  return await send(session, statement, { text: statement.text })
}

async function send(
  session: Session,
  statement: Statement,
  { text, tag }: { text: string; tag?: string },
): Promise<Error | undefined> {
  const { state } = session.conversation
  const retag = tag === undefined ? undefined : () => tag
  const answer = await session.conversation.forward(NO_FENCE, { text, retag })
  if (answer.error === undefined) state.undo.control(parseOne(statement.text), (tag ?? answer.tag) === 'ROLLBACK')
  forgetEndedTransaction(state)
  return answer.error
}

/**
 * The transaction belongs to live code. Its end is not the dry run's to decide,
 * and savepoints would only hold statements that are undone one by one anyway.
 */
function controlLiveTransaction(session: Session, statement: Statement): Error | undefined {
  const { operation } = statement
  if (operation === 'COMMIT' || operation === 'ROLLBACK') {
    const decision = session.decide(statement)
    session.current = decision
    return fail(
      session,
      decision,
      new DryTraceError('DRY_BLOCKED', `dry run: ${operation} of a transaction that was opened outside the run`),
    )
  }
  session.conversation.state.undo.control(parseOne(statement.text), false)
  const tag = operation === 'ROLLBACK TO' ? 'ROLLBACK' : operation === 'START' ? 'START TRANSACTION' : operation
  deliver(session.query, session.conversation.connection, { tag })
  return undefined
}

const ISOLATION = /^(serializable|repeatable read|read committed|read uncommitted)$/

/** `BEGIN` with the modes of the original, but READ ONLY. */
function beginReadOnly(node: Node): string {
  const modes: string[] = []
  const options = 'TransactionStmt' in node ? (node.TransactionStmt.options ?? []) : []
  for (const option of options) {
    if (!('DefElem' in option)) continue
    const { defname, arg } = option.DefElem
    const constant = arg !== undefined && 'A_Const' in arg ? arg.A_Const : undefined
    const level = constant?.sval?.sval ?? ''
    if (defname === 'transaction_isolation' && ISOLATION.test(level)) modes.push(`ISOLATION LEVEL ${level}`)
    if (defname === 'transaction_deferrable') modes.push(constant?.ival?.ival ? 'DEFERRABLE' : 'NOT DEFERRABLE')
  }
  return `BEGIN ${[...modes, 'READ ONLY'].join(', ')}`
}
