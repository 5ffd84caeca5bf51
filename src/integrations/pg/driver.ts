import type { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'

/**
 * The part of pg's internals we rely on, checked against 8.11 to 8.23. Names
 * with an underscore moved within pg 8: see {@link queueOf} and {@link setActive}.
 */
export interface PgConnection extends EventEmitter {
  readonly stream: Duplex
  readonly parsedStatements: Record<string, string>
  readonly submittedNamedStatements?: Record<string, string>
  parse(message: { text: string; name?: string; types?: readonly number[] }): void
  bind(message: { portal?: string; statement?: string; values?: readonly unknown[]; binary?: boolean }): void
  describe(message: { type: 'S' | 'P'; name?: string }): void
  execute(message: { portal?: string; rows?: number }): void
  query(text: string): void
  flush(): void
  sync(): void
  close(message: { type: 'S' | 'P'; name?: string }): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
  sendCopyFail(message: string): void
}

export interface RowDescription {
  readonly fields: readonly Field[]
}

/** One column of a RowDescription. */
export interface Field {
  readonly name: string
  readonly tableID: number
  readonly columnID: number
  readonly dataTypeID: number
  readonly dataTypeModifier?: number
  readonly format?: string
}

export interface CommandComplete {
  name: string
  text: string
}

/** What pg calls on the query that owns the connection. */
export interface QueryHandlers {
  handleRowDescription(message: RowDescription): void
  handleDataRow(message: { fields: (string | null)[] }): void
  handlePortalSuspended(connection: PgConnection): void
  handleEmptyQuery(connection: PgConnection): void
  handleCommandComplete(message: CommandComplete, connection: PgConnection): void
  handleCopyInResponse(connection: PgConnection): void
  handleCopyData(message: unknown, connection: PgConnection): void
  handleError(error: Error, connection: PgConnection): void
  handleReadyForQuery(connection: PgConnection): void
}

/** pg's own Query, or anything else with `submit` that was handed to `client.query`. */
export interface PgQuery extends QueryHandlers {
  text?: unknown
  name?: string
  values?: unknown
  types?: unknown
  callback?: (...args: never[]) => unknown
  emit?: (...args: never[]) => unknown
  requiresPreparation?: () => boolean
  prepare?: unknown
  _result?: unknown
  submit(connection: PgConnection): Error | null | undefined
  /** Ours only: takes a simulated result in the portions its reader asks for. */
  answer?(result: WireResult): void
}

/** A result as the server would send it. */
export interface WireResult {
  readonly tag: string
  readonly fields?: RowDescription
  readonly rows?: readonly (string | null)[][]
}

export type QueryMethod = (this: PgClient, config: unknown, values?: unknown, callback?: unknown) => unknown

export interface PgClient extends EventEmitter {
  readonly connection?: PgConnection
  readonly host?: string
  readonly port?: number
  readonly database?: string
  readonly user?: string
  /** Of the server process the connection was opened to, or of what a pooler says in its place. */
  readonly processID?: number | null
  readonly pipeline?: boolean
  readonly _Promise?: PromiseConstructor
  readyForQuery: boolean
  query: QueryMethod
  connect(callback?: (...args: never[]) => unknown): unknown
  _pulseQueryQueue(): void
  _poolUseCount?: number
}

interface Renamed {
  _queryQueue?: PgQuery[]
  queryQueue?: PgQuery[]
  _activeQuery?: QueryHandlers | null
  activeQuery?: QueryHandlers | null
}

/** The queries that wait for the connection, or undefined when this is no client we know. */
export function queueOf(client: PgClient): PgQuery[] | undefined {
  const { _queryQueue } = client as Renamed
  if (_queryQueue !== undefined) return Array.isArray(_queryQueue) ? _queryQueue : undefined
  const { queryQueue } = client as Renamed
  return Array.isArray(queryQueue) ? queryQueue : undefined
}

/** Makes `owner` the receiver of what the server sends. */
export function setActive(client: PgClient, owner: QueryHandlers | null): void {
  // Newer versions keep `activeQuery` as a deprecated accessor, which would warn.
  if ('_activeQuery' in client) (client as Renamed)._activeQuery = owner
  else (client as Renamed).activeQuery = owner
}

/** pg's own Query; not a cursor, a query stream or a COPY stream. */
export function isPlainQuery(query: PgQuery): boolean {
  return (
    typeof query.requiresPreparation === 'function' &&
    typeof query.prepare === 'function' &&
    typeof query.handleReadyForQuery === 'function' &&
    query._result !== undefined
  )
}
