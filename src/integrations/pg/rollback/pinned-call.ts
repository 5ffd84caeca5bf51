import type { Dialogue } from '../dialogue.js'
import type { Session } from '../session.js'
import type { PinnedConnection } from './pinned-connection.js'
import type { PinnedReader } from './pinned-reader.js'

/** One dry call while it is carried out on the run's own connection. */
export interface PinnedCall {
  /** Its conversation is with the run's own connection. */
  readonly session: Session & { readonly reader: PinnedReader }
  readonly pinned: PinnedConnection
  /** The connection the call was made on, which waits. */
  readonly home: Dialogue
}

/** The connection the call was made on has a transaction open. */
export function isOpen({ pinned, home }: PinnedCall): boolean {
  return pinned.owner === home.client
}

const told = new WeakMap<object, Set<string>>()

/** Puts on record, once a run, what this mode cannot give. */
export function tellOnce({ guard, run }: Pick<Session, 'guard' | 'run'>, message: string): void {
  const known = told.get(run) ?? new Set()
  told.set(run, known)
  if (known.has(message)) return
  known.add(message)
  guard.within(run, () => guard.problem(run, 'gap', message))
}

/** For statements of ours that only a lost connection refuses. @throws the server's error. */
export async function mustSucceed({ session }: PinnedCall, text: string): Promise<void> {
  const { error } = await session.conversation.simple(text)
  if (error !== undefined) throw error
}
