import { EventEmitter } from 'node:events'
import type { Guard } from '../../guard/guard.js'
import type { CommandComplete, Field, PgQuery, RowDescription } from './driver.js'
import type { NativeClient, NativeLibrary, NativeQuery } from './native-driver.js'

interface WireRows {
  readonly fields: readonly Field[]
  readonly rows: (string | null)[][]
}

/**
 * A query of the native client as the rest of the integration sees it: like
 * one of pg's JavaScript client, which is given its rows one by one. Its
 * result is made of them by pg-native itself.
 */
export class NativeAdapter implements PgQuery {
  text: unknown
  values: unknown
  types: unknown
  readonly name = undefined
  readonly #query: NativeQuery
  readonly #client: NativeClient
  readonly #library: NativeLibrary
  readonly #guard: Guard
  readonly #results: { rows: unknown[] }[] = []
  #open: WireRows | undefined

  constructor(query: NativeQuery, client: NativeClient, library: NativeLibrary, guard: Guard) {
    this.#query = query
    this.#client = client
    this.#library = library
    this.#guard = guard
    const known = query.name === undefined ? undefined : client.namedQueries[query.name]
    this.text = known ?? query.text
    this.values = query.values ?? undefined
  }

  requiresPreparation(): boolean {
    return this.#query.name !== undefined || (Array.isArray(this.values) && this.values.length > 0)
  }

  /** Never called: the native dialogue sends the text itself. */
  submit(): Error {
    return new Error('dry run: a native query sends nothing itself')
  }

  handleRowDescription({ fields }: RowDescription): void {
    this.#open = { fields, rows: [] }
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    this.#open?.rows.push(fields)
  }

  handleCommandComplete({ text }: CommandComplete): void {
    const { fields, rows } = this.#open ?? { fields: [], rows: [] }
    this.#open = undefined
    const pq = {
      cmdStatus: () => text,
      cmdTuples: () => / (\d+)$/.exec(text)?.[1] ?? '',
      nfields: () => fields.length,
      fname: (column: number) => fields[column]?.name,
      ftype: (column: number) => fields[column]?.dataTypeID,
      ntuples: () => rows.length,
      getvalue: (row: number, column: number) => rows[row]?.[column] ?? '',
      getisnull: (row: number, column: number) => (rows[row]?.[column] ?? null) === null,
    }
    this.#results.push(this.#library.buildResult(pq, this.#client.native._types, this.#query._arrayMode))
  }

  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}

  handleError(error: Error): void {
    this.#done()
    // pg has told it already when the connection was lost.
    if (this.#query.state === 'error') return
    failNative(this.#query, error)
  }

  /** As pg's native query does when libpq has all results. */
  handleReadyForQuery(): void {
    this.#done()
    const query = this.#query
    if (query.state === 'error') return
    const results = this.#results.length > 1 ? this.#results : this.#results[0]
    if (query._emitRowEvents) {
      for (const result of this.#results) for (const row of result.rows) this.#emit('row', row, result)
    }
    query.state = 'end'
    this.#emit('end', results)
    const { callback } = query as { callback?: (...args: unknown[]) => unknown }
    callback?.(null, results)
  }

  #emit(event: string, ...args: unknown[]): void {
    const query = this.#query as unknown as EventEmitter
    query.emit(event, ...args)
  }

  /** What waits in the queue is somebody else's: it goes on in the root context. */
  #done(): void {
    this.#guard.root(() => setImmediate(() => EventEmitter.prototype.emit.call(this.#query as never, '_done')))
  }
}

/** Tells a query of its error. pg's own way would add the fields of libpq's last result, which is one of ours. */
export function failNative(query: NativeQuery, error: Error): void {
  const { callback } = query as { callback?: (error: Error) => unknown }
  if (callback === undefined) (query as unknown as EventEmitter).emit('error', error)
  else callback.call(query, error)
  query.state = 'error'
}
