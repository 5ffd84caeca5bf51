import { messageOf } from '../../../errors.js'
import { shared } from '../../../run/store.js'
import { loadGrammar } from '../../../sql/grammar.js'
import type { PgQuery } from '../driver.js'
import { executeAll, failure, finish } from '../script.js'
import { insideLiveTransaction, type Pinned, type Planned, type Session } from '../session.js'
import { Submittable } from '../submittable.js'
import { executePinned } from './execute.js'
import { isOpen, mustSucceed, type PinnedCall, tellOnce } from './pinned-call.js'
import { closePinned, type PinnedConnection, pinLost, pinnedConnection, SETTINGS_QUERY } from './pinned-connection.js'
import { PinnedReader } from './pinned-reader.js'
import { abandonTransaction, controlPinned } from './transaction.js'

/** True when policy wants writes executed and rolled back, and this call's can be. */
export function isPinned(session: Session): boolean {
  const { guard, run, query } = session
  if (guard.preview !== 'rollback') return false
  const copies = query instanceof Submittable && (query.shape.copiesIn || query.shape.copiesOut)
  if (!copies && !insideLiveTransaction(session)) return true
  tellOnce({ guard, run }, copies ? COPIES : IN_LIVE_TRANSACTION)
  return false
}

const COPIES = 'COPY between client and server is worked out by reading, without what the run has changed before'

const IN_LIVE_TRANSACTION =
  'a transaction that live code opened is not visible elsewhere: what the run does in it is worked out by reading'

/**
 * Carries one dry call out on the run's own connection, in the place of
 * {@link runScript}, while the connection it was made on waits. Never rejects.
 */
export async function runPinned(session: Session, plan: () => readonly Planned[]): Promise<void> {
  const { conversation: home, guard, run, reader } = session
  // One listener for the process, however often this is said.
  shared.endListeners.add(closePinned)
  home.hold()
  let error: Error | undefined
  let elsewhere: Session | undefined
  let planned: readonly Planned[] = []
  try {
    await loadGrammar()
    planned = plan()
    const pinned = await pinnedConnection(guard, run, home.client)
    const settings = await reader.rows({ text: SETTINGS_QUERY })
    error = await pinned.exclusively(home.client, async (joined) => {
      if (pinned.lost !== undefined) throw pinLost(pinned.lost)
      const call = callOn(session, pinned)
      elsewhere = call.session
      try {
        if (joined) tellOnce(session, JOINED)
        if (!(await pinned.adopt(settings, call.session.conversation))) tellOnce(session, SETTINGS_DIFFER)
        const wasOpen = isOpen(call)
        const failed = await executeScript(call, planned)
        if (!wasOpen && isOpen(call)) watchOwner(call)
        return failed
      } finally {
        call.session.conversation.release()
      }
    })
  } catch (cause) {
    error = failure({ ...session, current: elsewhere?.current }, cause)
    // Its transaction is gone with the run's connection: what the application sends once it has ended it may be live.
    if (planned.some(endsTransaction)) home.state.transaction = undefined
  }
  if (error === undefined && session.query instanceof Submittable) {
    // The rows are held: the application reads them while the run goes on.
    await session.query.settled(home.gone)
    error = home.lost
  }
  finish(session, error)
}

/** For a driver that has no such mode. */
export function tellNoRollback(session: Pick<Session, 'guard' | 'run'>, driver: string): void {
  if (session.guard.preview === 'rollback') {
    tellOnce(session, `${driver} has no rollback mode: what its statements write is worked out by reading`)
  }
}

const JOINED =
  'two connections of the run are at work at once: one waited for the transaction of the other, then went on inside it'
const SETTINGS_DIFFER =
  'the connections of the run have different session settings (search_path, role, …); in rollback mode the first one counts'

function endsTransaction({ statement: { kind, operation } }: Planned): boolean {
  return kind === 'tx' && /^(COMMIT|ROLLBACK)$/.test(operation)
}

const SCRIPT = 'drytrace_script'

/** Several statements in one text are one transaction, unless they say otherwise or are in one. */
async function executeScript(call: PinnedCall, plan: readonly Planned[]): Promise<Error | undefined> {
  const atomic = plan.length > 1 && !isOpen(call) && plan.every(({ statement }) => statement.kind !== 'tx')
  if (!atomic) return await executeAll(call.session, plan)
  await mustSucceed(call, `SAVEPOINT ${SCRIPT}`)
  const failed = await executeAll(call.session, plan)
  if (failed !== undefined) await mustSucceed(call, `ROLLBACK TO SAVEPOINT ${SCRIPT}`)
  await mustSucceed(call, `RELEASE SAVEPOINT ${SCRIPT}`)
  return failed
}

function callOn(session: Session, pinned: PinnedConnection): PinnedCall {
  const home = session.conversation
  const conversation = pinned.converse(session.query)
  const reader = new PinnedReader(pinned, conversation)
  const elsewhere = { ...session, conversation, reader, current: undefined, pinned: undefined as Pinned | undefined }
  const call: PinnedCall = { session: elsewhere, pinned, home }
  elsewhere.pinned = {
    home,
    get open() {
      return isOpen(call)
    },
    execute: (statement, decision) => executePinned(call, statement, decision),
    control: (statement) => controlPinned(call, statement),
  }
  return call
}

/** A connection that goes with its transaction open has rolled it back. */
function watchOwner({ session, pinned, home }: PinnedCall): void {
  const { client } = home
  client.once('end', () => {
    if (pinned.owner !== client || pinned.lost !== undefined) return
    void pinned
      .exclusively(client, async () => {
        const conversation = pinned.converse(NOBODY as PgQuery)
        try {
          await abandonTransaction({ session: { ...session, conversation }, pinned, home })
        } finally {
          conversation.release()
        }
      })
      .catch((error: unknown) => {
        session.guard.problem(session.run, 'gap', `a transaction was not rolled back: ${messageOf(error)}`)
      })
  })
}

const NOBODY: Pick<PgQuery, 'name' | 'text'> = { name: undefined, text: undefined }
