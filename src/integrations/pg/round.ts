import type { PgConnection, PgQuery, RowDescription } from './driver.js'

/** One statement of a round, in the extended protocol. */
export interface Step {
  readonly text: string
  /** Already in the driver's wire form. */
  readonly values?: readonly unknown[]
  readonly types?: readonly number[]
  /** Parse and describe only: nothing is executed. */
  readonly describe?: boolean
  /** Prepared once per connection, where {@link Dialogue.checks} says so. */
  readonly keep?: boolean
}

/** What the server says of a statement that is only prepared. */
export interface Described {
  readonly parameterTypes: readonly number[]
  readonly fields: RowDescription | undefined
}

/** Where the rows of a round's main statement go. */
export interface Sink {
  /** `checks` are the answers to the statements that were described before this one in the same round. */
  rowDescription?(message: RowDescription, checks: readonly Described[]): void
  /** True when the application's query must not hear of the rest: neither rows nor the command tag. */
  refused?(): boolean
  row?(fields: (string | null)[]): void
  /** Data of COPY TO STDOUT has gone to the application. */
  copied?(): void
  /** The statement succeeded; what the application's query gets next is the command tag. */
  complete?(): void
}

/** What the server answered to one round. */
export interface Answer {
  readonly fields: RowDescription | undefined
  readonly parameterTypes: readonly number[] | undefined
  readonly checks: readonly Described[]
  readonly tag: string | undefined
  readonly error: DatabaseError | undefined
  /** The error came before anything of the fence was in effect. */
  readonly failedEarly: boolean
  /** The connection is gone. */
  readonly lost: boolean
}

export interface DatabaseError extends Error {
  readonly code?: string
  readonly severity?: string
}

/** One round trip under way. */
export interface Round {
  readonly sink: Sink
  readonly before: number
  readonly forward: PgQuery | undefined
  readonly retag: ((tag: string) => string) | undefined
  readonly view: PgConnection
  /** Name and text the query went out under. */
  sent: { name: string | undefined; text: unknown }
  readonly onParameters: (message: { dataTypeIDs: number[] }) => void
  /** How many statements are described before the main one, and what the server has said of them. */
  readonly checks: number
  readonly checked: { parameterTypes: readonly number[]; fields: RowDescription | undefined; open: boolean }[]
  readonly onNoData: () => void
  /** The application may close its portal before all rows are read. */
  readonly portal: boolean
  /** Rows of the portal have been asked for and their end was not seen. */
  executing: boolean
  /** What the application copies in may reach the server. */
  readonly copyIn: boolean
  /** Command tags seen so far. */
  completed: number
  synced: boolean
  mainDone: boolean
  fields: RowDescription | undefined
  parameterTypes: readonly number[] | undefined
  tag: string | undefined
  error: DatabaseError | undefined
  failedEarly: boolean
  readonly resolve: (answer: Answer) => void
}

/** How a statement is fenced: what is sent before and after it under the same Sync. */
export interface Fence {
  readonly before: readonly string[]
  readonly after: readonly string[]
  /** Its statements are prepared once per connection. */
  readonly keep?: boolean
}

export const NO_FENCE: Fence = { before: [], after: [] }

export const NOTHING: Answer = {
  fields: undefined,
  parameterTypes: undefined,
  checks: [],
  tag: undefined,
  error: undefined,
  failedEarly: false,
  lost: false,
}

export function answerOf({ fields, parameterTypes, checked, tag, error, failedEarly }: Round): Omit<Answer, 'lost'> {
  return { fields, parameterTypes, checks: checked, tag, error, failedEarly }
}
