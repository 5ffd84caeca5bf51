import { classify, type Statement } from '../../sql/classify.js'
import { type ConstraintModes, modesAfter } from '../../sql/constraint-modes.js'
import { insideDryTransaction, type Session } from './session.js'

/** When deferrable constraints would be checked for a statement that is sent now. */
export function constraintModes(session: Session): ConstraintModes {
  const { conversation, pinned, query } = session
  if (pinned !== undefined) return undefined
  // Statements of one text are one transaction.
  if (conversation.status === 'I') {
    return typeof query.text === 'string' && classify(query.text).length === 1 ? 'now' : undefined
  }
  if (!insideDryTransaction(session)) return undefined
  const { constraintsSet } = conversation.state
  return constraintsSet === undefined ? 'initial' : constraintsSet.modes
}

/** Follows SET CONSTRAINTS to the end of the transaction. */
export function noteConstraintModes({ conversation: { state } }: Session, { node, operation, text }: Statement): void {
  if (node === 'ConstraintsSetStmt') state.constraintsSet = { modes: modesAfter(text) }
  else if (operation === 'COMMIT' || operation === 'ROLLBACK') state.constraintsSet = undefined
  // It takes back what was set since.
  else if (operation === 'ROLLBACK TO' && state.constraintsSet !== undefined)
    state.constraintsSet = { modes: undefined }
}
