import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision } from '../../guard/guard.js'
import { classify, type Statement } from '../../sql/classify.js'
import { deparse, parseOne } from '../../sql/grammar.js'
import { hazardOf, silentIn } from '../../sql/hazards.js'
import { neutralise } from '../../sql/neutralise.js'
import { deliver } from './deliver.js'
import type { RowDescription } from './driver.js'
import { isRead } from './effect.js'
import { forgetKnown } from './known.js'
import { overlaidRead, overlayOf, type ReadPlan, sameColumns, tell } from './overlaid.js'
import { type Described, type Fence, NO_FENCE, type Sink } from './round.js'
import {
  fail,
  givenTypes,
  insideDryTransaction,
  insideLiveTransaction,
  type Planned,
  record,
  type Session,
} from './session.js'
import { Submittable } from './submittable.js'
import { executeAllowed, simulateBlocked, wireValues, wouldFail } from './write.js'

/** SQLSTATE of a write in a READ ONLY transaction. */
const READ_ONLY_VIOLATION = '25006'

/** SQLSTATE of a COMMIT or ROLLBACK where a procedure must not have one. */
const TRANSACTION_TERMINATION = '2D000'

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
  if (culprit !== undefined) return await carryOutWrite(session, statement, culprit, planned.several)
  const plan = await overlaidRead(session, statement, planned.several)
  const text = planned.several ? statement.text : undefined
  // What calls functions only the server knows is written down before it runs.
  if (statement.kind === 'unsure') record(session, decision)
  // The rest while the server works: nothing of the answer reaches the caller before.
  return await runRead(session, statement, text, plan, () => record(session, decision))
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
  const culprit = harmless === undefined ? statement.denied[0] : await culpritOf(session, harmless.statement)
  if (harmless === undefined || culprit !== undefined) {
    // It was decided on as the read that it is without.
    if (isRead(statement)) return await carryOutWrite(session, statement, culprit ?? statement.operation, several)
    return await simulateBlocked(session, statement, decision, true)
  }
  const { notes, syntheticIds } = harmless
  // A parameter of what was taken out is of no type that the server could find.
  const described = hasParameters(session)
    ? await session.reader.describe(statement.text, givenTypes(session))
    : undefined
  if (described?.error !== undefined) {
    record(session, decision, wouldFail(described.error))
    return described.error
  }
  const blocked = decision.verdict !== 'allow'
  const plan = await overlaidRead(session, harmless.statement, several)
  record(session, decision, {
    note: notes.join('; '),
    syntheticIds,
    ...(blocked ? { preview: { method: 'synthesized' as const, rows: 0, diff: [], notes } } : {}),
    ...(blocked ? { fidelity: 'plausible' as const } : {}),
  })
  return await runRead(session, harmless.statement, harmless.statement.text, {
    ...plan,
    types: described?.parameterTypes,
  })
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
  if (session.pinned !== undefined && statement.kind === 'txmode' && !/\brole\b/i.test(statement.relation ?? '')) {
    return `${statement.relation} was not changed: the transaction is the run's`
  }
  if (insideLiveTransaction(session)) return `${statement.operation} was not sent: the transaction belongs to live code`
  return undefined
}

function hasParameters({ query }: Session): boolean {
  return Array.isArray(query.values) && query.values.length > 0
}

async function runRead(
  session: Session,
  statement: Statement,
  text: string | undefined,
  plan: ReadPlan,
  sent: () => void = () => {},
): Promise<Error | undefined> {
  const { conversation, reader, query } = session
  if (session.pinned !== undefined && query instanceof Submittable) return await readWhole(session, statement, sent)
  const { overlaid, relies } = plan
  const alone = !insideDryTransaction(session) && !insideLiveTransaction(session)
  const bare = STICKY.has(statement.node) ? stickyFence(session) : reader.recoverable()
  const assertions = relies ? reader.assertions() : []
  const fence = { before: [...bare.before, ...assertions], after: bare.after }
  // Why the caller must not see the answer: it could not be written down, or is not to the question.
  let refused: 'unrecorded' | 'outdated' | undefined
  // What may turn out to be a write shows nothing to the caller before it has succeeded.
  // A cursor asks for its rows in portions, which cannot be held back.
  const held = statement.kind === 'unsure' && !(query instanceof Submittable) ? new HeldRows() : undefined
  let delivered = false
  const described = (message: RowDescription) =>
    overlaid === undefined ? message : asDescribed(message, overlaid.fields)
  const shown: Sink = held?.sinkFor(session, described) ?? {
    rowDescription: (message) => query.handleRowDescription(described(message)),
    row(fields) {
      delivered = true
      query.handleDataRow({ fields })
    },
    copied() {
      delivered = true
    },
  }
  const sink: Sink = {
    ...shown,
    refused: () => refused !== undefined,
    rowDescription(message, checks) {
      if (overlaid?.check !== undefined && !isAsKnown(overlaid.fields, checks[0], message)) refused ??= 'outdated'
      if (refused === undefined) shown.rowDescription?.(message, checks)
    },
  }
  const checks = overlaid?.check === undefined ? [] : [overlaid.check]
  const answering = conversation.forward(fence, { text, types: plan.types, ...overlaid, sink, checks })
  let unrecorded: unknown
  try {
    sent()
  } catch (error) {
    refused = 'unrecorded'
    unrecorded = error
  }
  const answer = await answering
  if (refused === 'unrecorded') {
    await leaveFence(session, fence, answer)
    throw unrecorded
  }
  const failed = answer.error !== undefined && !answer.lost && answer.error.code !== READ_ONLY_VIOLATION
  if (relies && !delivered && (refused === 'outdated' || failed)) {
    await leaveFence(session, fence, answer)
    forgetKnown()
    if (assertions.length > 0) reader.moved()
    // Outside of a fence the error has failed the application's own transaction, as it would have live.
    if (conversation.status === 'E') return answer.error
    const { types } = plan
    return await runRead(session, statement, text, { ...(await overlaidRead(session, statement, plan.several)), types })
  }
  if (relies && answer.error === undefined) reader.held()
  if (answer.error === undefined || answer.lost) return answer.error
  if (overlaid !== undefined && !delivered && REFUSED.test(answer.error.code ?? '')) {
    await leaveFence(session, fence, answer)
    return await runReadOnDataAsItIs(session, statement, text, answer.error, plan.types)
  }
  const wrote = answer.error.code === READ_ONLY_VIOLATION || (alone && endsTransaction(statement, answer.error))
  // In the application's own dry transaction any other error has failed it, as it would have live.
  if (wrote || !insideDryTransaction(session)) await leaveFence(session, fence, answer)
  if (!wrote) return answer.error
  const culprit = statement.unknown[0] ?? statement.functions[0] ?? statement.relation ?? statement.operation
  if (delivered) {
    const decision = session.decide(statement, culprit)
    record(session, decision, { note: `refused by the server half way: ${answer.error.message}` })
    return decision.error ?? answer.error
  }
  return await carryOutWrite(session, statement, culprit, plan.several)
}

/** A query that turns out to be a write: decided on anew, for what `culprit` does. */
export async function carryOutWrite(
  session: Session,
  statement: Statement,
  culprit: string,
  several: boolean,
): Promise<Error | undefined> {
  const decision = session.decide(statement, culprit)
  if (decision.error !== undefined) {
    record(session, decision)
    return decision.error
  }
  if (decision.verdict === 'allow') return await executeAllowed(session, statement, decision, several)
  return await simulateBlocked(session, statement, decision, true)
}

/** A COMMIT or ROLLBACK in a procedure, which live would not have been inside a transaction. */
function endsTransaction({ node }: Statement, { code }: { readonly code?: string }): boolean {
  return code === TRANSACTION_TERMINATION && /^(Call|Do)Stmt$/.test(node)
}

/** Rows held for a cursor. More of them do not belong into memory. */
const MAX_HELD_ROWS = 100_000

/**
 * A cursor's rows, read at once: while its portal stood open the run could do
 * nothing else on its own connection, and an application may write as it reads.
 */
async function readWhole(session: Session, statement: Statement, sent: () => void): Promise<Error | undefined> {
  const { conversation, reader, query } = session
  const rows: (string | null)[][] = []
  let fields: RowDescription | undefined
  let total = 0
  const values = wireValues(session)
  sent()
  const answer = await reader.query(
    { text: statement.text, values },
    {
      rowDescription: (message) => {
        fields = message
      },
      row: (row) => {
        if (++total <= MAX_HELD_ROWS) rows.push(row)
      },
    },
  )
  if (answer.error?.code === READ_ONLY_VIOLATION) {
    const culprit = statement.unknown[0] ?? statement.functions[0] ?? statement.relation ?? statement.operation
    return await carryOutWrite(session, statement, culprit, false)
  }
  if (answer.error !== undefined) return answer.error
  if (total > MAX_HELD_ROWS) {
    return new DryTraceError('DRY_BLOCKED', `dry run: a cursor over ${total} rows, more than rollback mode holds`)
  }
  deliver(query, conversation.connection, { tag: answer.tag ?? `SELECT ${total}`, fields, rows })
  return undefined
}

/** A cursor of the run's own transaction must outlive its statement. */
function stickyFence({ pinned, reader }: Session): Fence {
  return pinned === undefined ? reader.fence() : NO_FENCE
}

/** SQLSTATEs of a server that does not take a statement, whatever the data. */
const REFUSED = /^(0A|42|54)/

/** The rewrite is ours: what only it is refused for is no error of the caller's. */
async function runReadOnDataAsItIs(
  session: Session,
  statement: Statement,
  text: string | undefined,
  refusal: Error,
  types: ReadPlan['types'],
): Promise<Error | undefined> {
  const error = await runRead(session, statement, text, { overlaid: undefined, relies: false, several: false, types })
  if (error === undefined) {
    tell(session, overlayOf(session.run, session.conversation.client), statement, refusal.message)
  }
  return error
}

function isAsKnown(known: RowDescription, original: Described | undefined, actual: RowDescription): boolean {
  return original?.fields !== undefined && sameColumns(known, original.fields) && sameColumns(known, actual)
}

/** Columns as the original statement has them, in the format this execution gives them in. */
function asDescribed(actual: RowDescription, original: RowDescription): RowDescription {
  const fields = original.fields.map((field, index) => ({ ...field, format: actual.fields[index]?.format }))
  return { ...actual, fields }
}

async function leaveFence(
  { reader, conversation }: Session,
  fence: Fence,
  answer: Parameters<Session['reader']['leave']>[1],
): Promise<void> {
  if (conversation.lost === undefined) await reader.leave(fence, answer)
}

/** The function or view that forbids running the statement at all. */
async function culpritOf(session: Session, statement: Statement): Promise<string | undefined> {
  if (session.conversation.status === 'E') return undefined
  if (statement.functions.length === 0 && statement.relations.length === 0) return undefined
  try {
    const hazards = await session.reader.hazards()
    return hazardOf(statement, hazards) ?? silentIn(statement, hazards)
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

  sinkFor({ query }: Session, described: (message: RowDescription) => RowDescription): Sink {
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
