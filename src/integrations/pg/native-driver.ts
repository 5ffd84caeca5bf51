import { createRequire } from 'node:module'
import type { PgLibrary } from './deliver.js'
import type { PgClient, PgQuery } from './driver.js'

/** libpq's binding: the result of the last command stays readable until the next. */
export interface Libpq {
  cmdStatus(): string
  nfields(): number
  fname(column: number): string
  ftype(column: number): number
  ftable(column: number): number
  ftablecol(column: number): number
  ntuples(): number
  getvalue(row: number, column: number): string
  getisnull(row: number, column: number): boolean
  nparams(): number
  paramtype(index: number): number
  describePrepared(name: string): void
  resultErrorFields(): Record<string, string | undefined>
  resultErrorMessage(): string
}

type Callback = (error: Error | null | undefined) => void

/** pg-native's client. */
export interface NativeConnection {
  readonly pq: Libpq
  _types: unknown
  query(text: string, values: readonly unknown[] | Callback, callback?: Callback): void
  prepare(name: string, text: string, parameters: number, callback: Callback): void
  execute(name: string, values: readonly unknown[], callback: Callback): void
  getTransactionStatus?(): string | null
  _stopReading(): void
  on(event: 'error', listener: (error: Error) => void): unknown
  off(event: 'error', listener: (error: Error) => void): unknown
}

/** pg's client over it. */
export interface NativeClient extends Omit<PgClient, 'connection'> {
  readonly native: NativeConnection
  readonly namedQueries: Record<string, string>
  readonly _queryQueue: NativeQuery[]
}

/** pg's query over it; it sends itself to the client. */
export interface NativeQuery extends PgQuery {
  state: string
  readonly _arrayMode: boolean
  readonly _emitRowEvents?: boolean
}

/** A result as pg-native makes it, of anything that answers like libpq. */
export type BuildResult = (pq: object, types: unknown, arrayMode: boolean) => { rows: unknown[] }

export interface NativeLibrary extends PgLibrary {
  readonly buildResult: BuildResult
}

/** What the server refused, with its fields as pg gives them to errors of the native client. */
class NativeDatabaseError extends Error {}

export function loadNativeLibrary(file: string): NativeLibrary {
  const require = createRequire(file)
  const { prepareValue } = require('../utils') as { prepareValue: PgLibrary['prepareValue'] }
  const buildResult = require('pg-native/lib/build-result.js') as BuildResult
  if (typeof prepareValue !== 'function' || typeof buildResult !== 'function') {
    throw new TypeError('pg/lib/utils or pg-native/lib/build-result has changed')
  }
  return { prepareValue, buildResult, DatabaseError: NativeDatabaseError as PgLibrary['DatabaseError'] }
}

/** Names of libpq's fields where pg's are others. */
const FIELDS: Readonly<Record<string, string>> = {
  sqlState: 'code',
  statementPosition: 'position',
  messagePrimary: 'message',
  messageDetail: 'detail',
  messageHint: 'hint',
  context: 'where',
  schemaName: 'schema',
  tableName: 'table',
  columnName: 'column',
  dataTypeName: 'dataType',
  constraintName: 'constraint',
  sourceFile: 'file',
  sourceLine: 'line',
  sourceFunction: 'routine',
}

/** The error of the last command, or undefined when it was not the server that refused it. */
export function serverError(pq: Libpq): Error | undefined {
  const fields = Object.entries(pq.resultErrorFields() ?? {})
  const named = Object.fromEntries(fields.map(([name, value]) => [FIELDS[name] ?? name, value]))
  if (!named['code']) return undefined
  return Object.assign(new NativeDatabaseError(named['message'] ?? pq.resultErrorMessage()), named)
}

/** True for pg's own native query; others speak the wire protocol, which this client does not. */
export function isNativeQuery(query: PgQuery): query is NativeQuery {
  return typeof (query as NativeQuery)._arrayMode === 'boolean' && typeof (query as NativeQuery).state === 'string'
}
