import type { Node } from '@pgsql/types'
import type { Statement } from '../../../sql/classify.js'
import { parseOne } from '../../../sql/grammar.js'
import { deliver, nativeError } from '../deliver.js'
import { NO_FENCE } from '../round.js'
import { isOpen, mustSucceed, type PinnedCall, tellOnce } from './pinned-call.js'

const SAVEPOINT = 'drytrace_transaction'
const UNDO = `ROLLBACK TO SAVEPOINT ${SAVEPOINT}; RELEASE SAVEPOINT ${SAVEPOINT}`

/** The application's transaction as a savepoint of the run's. Returns the error for the caller. */
export async function controlPinned(call: PinnedCall, statement: Statement): Promise<Error | undefined> {
  const { conversation } = call.session
  const { operation } = statement
  const node = parseOne(statement.text)
  switch (operation) {
    case 'BEGIN':
    case 'START':
      // Inside a transaction it is only a warning.
      if (!isOpen(call)) await begin(call, node)
      return answer(call, statement.tag)
    case 'COMMIT':
    case 'ROLLBACK': {
      if (!isOpen(call)) {
        // Begun on a connection of the run that is gone.
        call.home.state.transaction = undefined
        return answer(call, operation)
      }
      const failed = operation === 'COMMIT' && conversation.status !== 'E' ? await keep(call) : undefined
      // COMMIT of a failed transaction answers ROLLBACK.
      const tag = operation === 'COMMIT' && conversation.status === 'E' ? 'ROLLBACK' : operation
      if (operation === 'ROLLBACK' || tag === 'ROLLBACK' || failed !== undefined) await mustSucceed(call, UNDO)
      leave(call)
      if (failed !== undefined) return failed
      if ('TransactionStmt' in node && node.TransactionStmt.chain) await begin(call, node)
      return answer(call, tag)
    }
    default:
      if (!isOpen(call)) return outsideTransaction(call, operation)
      return (await conversation.forward(NO_FENCE, { text: statement.text })).error
  }
}

/** Ends what a connection of the application has left open: it was closed, or given up. */
export async function abandonTransaction(call: PinnedCall): Promise<void> {
  await mustSucceed(call, UNDO)
  leave(call)
}

async function begin(call: PinnedCall, node: Node): Promise<void> {
  const { pinned, home, session } = call
  await mustSucceed(call, `SAVEPOINT ${SAVEPOINT}`)
  pinned.own(home.client)
  home.state.transaction = session.run
  const modes = 'TransactionStmt' in node ? modesOf(node.TransactionStmt.options ?? []) : undefined
  if (modes?.readOnly) await mustSucceed(call, 'SET TRANSACTION READ ONLY')
  if (modes?.isolation !== undefined && modes.isolation !== 'read committed') {
    tellOnce(session, `transactions asked for ${modes.isolation}; in rollback mode they are read committed`)
  }
}

function leave({ pinned, home }: PinnedCall): void {
  home.state.transaction = undefined
  pinned.disown()
}

/** What COMMIT would check is checked now. Returns the error that COMMIT would have ended with. */
async function keep({ pinned, session: { conversation } }: PinnedCall): Promise<Error | undefined> {
  const failed = await pinned.checkDeferred(conversation)
  if (failed !== undefined) return failed
  return (await conversation.simple(`RELEASE SAVEPOINT ${SAVEPOINT}`)).error
}

function answer(call: PinnedCall, tag: string): undefined {
  deliver(call.session.query, call.home.connection, { tag })
  return undefined
}

function outsideTransaction({ session }: PinnedCall, operation: string): Error {
  const what =
    operation === 'RELEASE' ? 'RELEASE SAVEPOINT' : operation === 'ROLLBACK TO' ? 'ROLLBACK TO SAVEPOINT' : operation
  return nativeError(session.library, { code: '25P01', message: `${what} can only be used in transaction blocks` })
}

function modesOf(options: readonly Node[]): { isolation: string | undefined; readOnly: boolean } {
  let isolation: string | undefined
  let readOnly = false
  for (const option of options) {
    if (!('DefElem' in option)) continue
    const { defname, arg } = option.DefElem
    const constant = arg !== undefined && 'A_Const' in arg ? arg.A_Const : undefined
    if (defname === 'transaction_isolation') isolation = constant?.sval?.sval
    if (defname === 'transaction_read_only') readOnly = (constant?.ival?.ival ?? 0) !== 0
  }
  return { isolation, readOnly }
}
