import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision } from '../../guard/guard.js'
import { classify, type Statement } from '../../sql/classify.js'
import { deparse, parseOne } from '../../sql/grammar.js'
import { hazardOf } from '../../sql/hazards.js'
import { neutralise } from '../../sql/neutralise.js'
import { deliver } from './deliver.js'
import type { RowDescription } from './driver.js'
import { type OverlaidRead, overlaidRead, overlayOf, tell } from './overlaid.js'
import { NO_FENCE, type Sink } from './round.js'
import { fail, insideDryTransaction, insideLiveTransaction, type Planned, record, type Session } from './session.js'
import { Submittable } from './submittable.js'
import { simulateBlocked } from './write.js'

/** SQLSTATE of a write in a READ ONLY transaction. */
const READ_ONLY_VIOLATION = '25006'

const NEUTRALISABLE = new Set(['SelectStmt', 'DeclareCursorStmt', 'ExplainStmt', 'CopyStmt'])

/** Statements whose effect on a cursor or a constraint no savepoint undoes. */
const STICKY = new Set(['FetchStmt', 'ClosePortalStmt', 'DeclareCursorStmt', 'ConstraintsSetStmt'])

/** A query, executed READ ONLY. Returns the error for the caller. */
export async function executeRead(session: Session, planned: Planned, decision: Decision): Promise<Error | undefined> {
  const { statement } = planned
  session.current = decision
  if (insideLiveTransaction(session) && STICKY.has(statement.node)) {
    return fail(
      session,
      decision,
      new DryTraceError(
        'DRY_BLOCKED',
        `dry run: ${statement.operation} in a transaction that was opened outside the run`,
      ),
    )
  }
  const culprit = await culpritOf(session, statement)
  if (culprit !== undefined) return await simulateBlocked(session, statement, session.decide(statement, culprit), true)
  const overlaid = await overlaidRead(session, statement, planned.several)
  record(session, decision)
  return await runRead(session, statement, planned.several ? statement.text : undefined, overlaid)
}

/** A query with locks or calls that must not happen: the rest of it is executed READ ONLY. */
export async function executeNeutralised(
  session: Session,
  statement: Statement,
  decision: Decision,
  several: boolean,
): Promise<Error | undefined> {
  session.current = decision
  const harmless = NEUTRALISABLE.has(statement.node) ? neutralised(session, statement) : undefined
  const culprit = harmless === undefined ? undefined : await culpritOf(session, harmless.statement)
  if (harmless === undefined || culprit !== undefined) return await simulateBlocked(session, statement, decision, true)
  const { notes, syntheticIds } = harmless
  const blocked = decision.verdict !== 'allow'
  const overlaid = await overlaidRead(session, harmless.statement, several)
  record(session, decision, {
    note: notes.join('; '),
    syntheticIds,
    ...(blocked ? { preview: { method: 'synthesized' as const, rows: 0, diff: [], notes } } : {}),
    ...(blocked ? { fidelity: 'plausible' as const } : {}),
  })
  return await runRead(session, harmless.statement, harmless.statement.text, overlaid)
}

/** A statement that changes the session: sent as it is, unless that would outlast the run. */
export async function executeSession(
  session: Session,
  planned: Planned,
  decision: Decision,
): Promise<Error | undefined> {
  const { statement } = planned
  const reason = whyFaked(session, statement)
  if (reason !== undefined) {
    record(session, decision, { note: reason })
    session.setupSkipped = true
    deliver(session.query, session.conversation.connection, { tag: statement.tag })
    return undefined
  }
  record(session, decision)
  const answer = await session.conversation.forward(NO_FENCE, planned.several ? { text: statement.text } : {})
  return answer.error
}

/** Settings that decide whether live statements on this connection may write. */
const MODE = /^((default_)?transaction_read_only|session characteristics|session_replication_role)$/

function whyFaked(session: Session, statement: Statement): string | undefined {
  if (/^(Discard|Listen|Unlisten)Stmt$/.test(statement.node)) return `${statement.operation} was not sent`
  if (statement.kind === 'txmode') {
    const setting = statement.relation ?? ''
    if (MODE.test(setting) || /\bread\s+(only|write)\b/i.test(statement.safeText)) return `${setting} was not changed`
  }
  if (insideLiveTransaction(session)) return `${statement.operation} was not sent: the transaction belongs to live code`
  return undefined
}

async function runRead(
  session: Session,
  statement: Statement,
  text: string | undefined,
  overlaid: OverlaidRead | undefined,
): Promise<Error | undefined> {
  const { conversation, reader, query } = session
  const fence = STICKY.has(statement.node) ? reader.fence() : reader.recoverable()
  // What may turn out to be a write shows nothing to the caller before it has succeeded.
  // A cursor asks for its rows in portions, which cannot be held back.
  const held = statement.kind === 'unsure' && !(query instanceof Submittable) ? new HeldRows() : undefined
  let delivered = false
  const described =
    overlaid === undefined ? undefined : (message: RowDescription) => asDescribed(message, overlaid.fields)
  const sink: Sink = held?.sinkFor(session, described) ?? {
    ...(described ? { rowDescription: (message) => query.handleRowDescription(described(message)) } : {}),
    row(fields) {
      delivered = true
      query.handleDataRow({ fields })
    },
    copied() {
      delivered = true
    },
  }
  const answer = await conversation.forward(fence, { text, ...overlaid, sink })
  if (answer.error === undefined || answer.lost) return answer.error
  if (overlaid !== undefined && !delivered && REFUSED.test(answer.error.code ?? '')) {
    await leaveFence(session, fence, answer)
    return await runReadOnDataAsItIs(session, statement, text, answer.error)
  }
  const wrote = answer.error.code === READ_ONLY_VIOLATION
  // In the application's own dry transaction any other error has failed it, as it would have live.
  if (wrote || !insideDryTransaction(session)) await leaveFence(session, fence, answer)
  if (!wrote) return answer.error
  const culprit = statement.unknown[0] ?? statement.functions[0] ?? statement.relation ?? statement.operation
  const decision = session.decide(statement, culprit)
  if (decision.error !== undefined) {
    record(session, decision)
    return decision.error
  }
  if (delivered) {
    record(session, decision, { note: `refused by the server half way: ${answer.error.message}` })
    return answer.error
  }
  return await simulateBlocked(session, statement, decision, true)
}

/** SQLSTATEs of a server that does not take a statement, whatever the data. */
const REFUSED = /^(0A|42|54)/

/** The rewrite is ours: what only it is refused for is no error of the caller's. */
async function runReadOnDataAsItIs(
  session: Session,
  statement: Statement,
  text: string | undefined,
  refusal: Error,
): Promise<Error | undefined> {
  const error = await runRead(session, statement, text, undefined)
  if (error === undefined) {
    tell(session, overlayOf(session.run, session.conversation.client), statement, refusal.message)
  }
  return error
}

/** Columns as the original statement has them, in the format this execution gives them in. */
function asDescribed(actual: RowDescription, original: RowDescription): RowDescription {
  const fields = original.fields.map((field, index) => ({ ...field, format: actual.fields[index]?.format }))
  return { ...actual, fields }
}

async function leaveFence(
  { reader, conversation }: Session,
  fence: Parameters<Session['reader']['leave']>[0],
  answer: Parameters<Session['reader']['leave']>[1],
): Promise<void> {
  if (conversation.lost === undefined) await reader.leave(fence, answer)
}

/** The function or view that forbids running the statement at all. */
async function culpritOf(session: Session, statement: Statement): Promise<string | undefined> {
  if (session.conversation.status === 'E') return undefined
  if (statement.functions.length === 0 && statement.relations.length === 0) return undefined
  try {
    return hazardOf(statement, await session.reader.hazards())
  } catch (error) {
    if (session.conversation.lost !== undefined) throw error
    // Without the scan only functions we know by name may run.
    if (statement.kind !== 'unsure') return undefined
    session.guard.problem(session.run, 'gap', `user functions could not be checked: ${messageOf(error)}`)
    return statement.unknown[0] ?? statement.operation
  }
}

function neutralised(session: Session, statement: Statement) {
  const node = parseOne(statement.text)
  const taken = neutralise(node, () => session.guard.syntheticId(session.run, 'integer'))
  const text = deparse(node)
  const [result, ...more] = classify(text)
  const harmless = more.length === 0 && (result?.kind === 'read' || result?.kind === 'unsure')
  return result !== undefined && harmless ? { ...taken, statement: result } : undefined
}

class HeldRows {
  #fields: RowDescription | undefined
  readonly #rows: (string | null)[][] = []

  sinkFor({ query }: Session, described = (message: RowDescription) => message): Sink {
    return {
      rowDescription: (message) => {
        this.#fields = described(message)
      },
      row: (fields) => {
        this.#rows.push(fields)
      },
      complete: () => {
        if (this.#fields === undefined) return
        query.handleRowDescription(this.#fields)
        for (const fields of this.#rows) query.handleDataRow({ fields })
      },
    }
  }
}
