import type { Run } from '../../run/run.js'
import type { ConstraintModes } from '../../sql/constraint-modes.js'
import type { PgClient } from './driver.js'
import { KeptStatements } from './kept-statements.js'
import { noteTag } from './known.js'
import { UndoLog } from './undo-log.js'

/** `I` idle, `T` in a transaction, `E` in a failed one. */
export type TransactionStatus = 'I' | 'T' | 'E'

/** What we keep for one connection. */
export interface ClientState {
  /** From the server's last ReadyForQuery. */
  status: TransactionStatus | undefined
  /** The run that opened the transaction the connection is in; every statement in it is dry. */
  transaction: Run | undefined
  /** Why texts cannot be judged on this connection, if they cannot. */
  unreadable: string | undefined
  /** Our own statements are under way. */
  conversing: boolean
  /** How names were resolved here when we last looked; undefined when we never did. */
  place: string | undefined
  /** Nothing that could have changed {@link place} has run since. */
  placeHolds: boolean
  /** A pooler hands each transaction to some session: none of them is known to be as we left it. */
  pooled: boolean
  /** How often {@link place} turned out to be another one. */
  moves: number
  /** Its command tags are listened to. */
  followed: boolean
  /** Live code has changed definitions and may not have committed them. */
  defining: boolean
  /** SET CONSTRAINTS has run in this transaction. */
  constraintsSet?: { readonly modes: ConstraintModes } | undefined
  /** Opened by a dry run and not yet handed out by the pool. */
  newborn: boolean
  /** Statements of ours the server has prepared here. */
  readonly kept: KeptStatements
  /** What the server says of its settings. */
  readonly settings: Map<string, string>
  /** Takes back what a dry transaction would have written. */
  readonly undo: UndoLog
}

const STATE = Symbol.for('drytrace.pg.state')

interface Stateful {
  [STATE]?: ClientState
}

export function stateOf(client: object): ClientState | undefined {
  return (client as Stateful)[STATE]
}

/** Encodings in which a byte of ASCII may be half of a character, so that quotes are not where they seem to be. */
const AMBIGUOUS_ENCODINGS = new Set(['BIG5', 'GB18030', 'GBK', 'JOHAB', 'SJIS', 'SHIFT_JIS_2004', 'UHC'])

interface Ready {
  readonly status?: TransactionStatus
}

interface Handling {
  _handleReadyForQuery?: unknown
}

const met = new WeakSet<object>()

function meets(handler: unknown): boolean {
  return typeof handler === 'function' && met.has(handler)
}

function noteReady(state: ClientState, message: Ready | undefined): void {
  state.status = message?.status ?? 'I'
  if (!state.conversing) state.placeHolds = false
}

/**
 * Has pg's own handler tell us when the server is ready, before it goes on: a
 * second listener would make every event of a live connection cost more.
 */
export function followReadiness(prototype: object): void {
  const { _handleReadyForQuery: original } = prototype as Handling
  if (typeof original !== 'function' || meets(original)) return
  const patched = function handleReadyForQuery(this: object, message?: Ready): unknown {
    const state = stateOf(this)
    if (state !== undefined) noteReady(state, message)
    return Reflect.apply(original, this, [message])
  }
  met.add(patched)
  ;(prototype as Handling)._handleReadyForQuery = patched
}

/** Follows what the server says of itself. Call it before the connection is opened. */
export function followConnection(client: PgClient): ClientState {
  const known = stateOf(client)
  if (known !== undefined) return known
  const settings = new Map<string, string>()
  const undo = new UndoLog()
  const state: ClientState = {
    status: undefined,
    transaction: undefined,
    unreadable: undefined,
    conversing: false,
    place: undefined,
    placeHolds: false,
    pooled: false,
    moves: 0,
    followed: false,
    defining: false,
    newborn: false,
    kept: new KeptStatements(),
    settings,
    undo,
  }
  Object.defineProperty(client, STATE, { value: state, enumerable: false })
  client.connection?.on('end', () => undo.rollBack())
  if (!meets((client as Handling)._handleReadyForQuery)) {
    client.connection?.on('readyForQuery', (message?: Ready) => noteReady(state, message))
  }
  client.connection?.on('parameterStatus', (message: { parameterName: string; parameterValue: string }) => {
    settings.set(message.parameterName, message.parameterValue)
    state.unreadable = whyUnreadable(settings)
  })
  return state
}

/** Hears when live code changes definitions: from the first statement on after a dry run has remembered any. */
export function followDefinitions(client: PgClient): void {
  const state = followConnection(client)
  if (state.followed) return
  state.followed = true
  client.connection?.on('commandComplete', (message: { text: string }) => {
    if (state.conversing) return
    noteTag(state, message.text)
    state.kept.noteTag(message.text)
  })
}

/** Why quotes and backslashes in a text may mean something else than we think, if they may. */
export function whyUnreadable(settings: ReadonlyMap<string, string>): string | undefined {
  if (settings.get('standard_conforming_strings') === 'off') return 'standard_conforming_strings is off'
  const encoding = settings.get('client_encoding') ?? ''
  return AMBIGUOUS_ENCODINGS.has(encoding) ? `client_encoding is ${encoding}` : undefined
}
