import type { EffectDetail } from '../../guard/effect.js'
import type { Decision, Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { Statement } from '../../sql/classify.js'
import type { ClientState } from './client-state.js'
import type { PgLibrary } from './deliver.js'
import type { Dialogue } from './dialogue.js'
import type { PgQuery } from './driver.js'
import type { ReadOnly } from './read-only.js'

/** One statement of a call, with the decision made for it in the caller's context. */
export interface Planned {
  readonly statement: Statement
  readonly decision: Decision | undefined
  /** Other statements came in the same text. */
  readonly several: boolean
}

/** Everything one dry call needs while it owns the connection. */
export interface Session {
  readonly guard: Guard
  readonly run: Run
  readonly library: PgLibrary
  readonly conversation: Dialogue
  readonly reader: ReadOnly
  readonly query: PgQuery
  /** Decides in the caller's context. `culprit` is the function or view that makes a query a write. */
  decide(statement: Statement, culprit?: string): Decision
  /** The decision being carried out, for an error that nobody expected. */
  current: Decision | undefined
  /** Only statements that leave the session's settings alone have been carried out. */
  plain: boolean
  /** A statement that sets the connection up was not carried out. */
  setupSkipped: boolean
  /** Set when the call is carried out on the run's own connection, to be rolled back with it. */
  pinned?: Pinned
}

/** What a blocked write came to on the run's own connection. */
export type PinnedOutcome =
  | { readonly executed: true; readonly error: Error | undefined }
  /** It may not or could not be executed there; why, in one sentence. */
  | { readonly executed: false; readonly reason: string }

/** How a call on the run's own connection differs. */
export interface Pinned {
  /** The connection the call was made on. */
  readonly home: Dialogue
  /** That connection has a transaction open. */
  readonly open: boolean
  execute(statement: Statement, decision: Decision): Promise<PinnedOutcome>
  control(statement: Statement): Promise<Error | undefined>
}

/** Writes the decision down; call it before the caller sees anything. */
export function record(session: Session, decision: Decision, detail?: EffectDetail): void {
  session.current = decision
  // The connection is worked in the root context; samplers and processors look for the run in the ambient one.
  session.guard.within(session.run, () => session.guard.record(decision, detail))
}

/** Records that the statement was not executed because of `error`, and gives the error for the caller. */
export function fail(session: Session, decision: Decision, error: unknown): Error {
  session.current = decision
  return session.guard.within(session.run, () => session.guard.fail(decision, error))
}

/** A dry statement inside a transaction that live code opened. */
export function insideLiveTransaction({ conversation, pinned }: Session): boolean {
  if (pinned !== undefined) return false
  return conversation.status !== 'I' && conversation.state.transaction === undefined
}

/** Inside a transaction that a dry run opened, which is READ ONLY or will be rolled back. */
export function insideDryTransaction({ conversation, pinned }: Session): boolean {
  if (pinned !== undefined) return pinned.open
  return conversation.status !== 'I' && conversation.state.transaction !== undefined
}

/** The transaction ended on its own, for example by COMMIT or a timeout. */
export function forgetEndedTransaction(state: ClientState): void {
  if (state.status !== 'I') return
  state.transaction = undefined
  state.constraintsSet = undefined
  state.undo.rollBack()
}

/** Fails the dry transaction as a failed write would have, so that what follows gets 25P02. */
export async function failTransaction(session: Session): Promise<void> {
  if (session.conversation.status === 'T' && insideDryTransaction(session)) {
    await session.conversation.simple('ROLLBACK TO SAVEPOINT drytrace_simulated_error')
  }
}

/** Parameter types given by the caller. pg uses the same property for result parsers. */
export function givenTypes({ query }: Session): readonly number[] | undefined {
  const { types } = query
  return Array.isArray(types) && types.every((type) => typeof type === 'number') ? types : undefined
}
