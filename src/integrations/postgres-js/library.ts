/**
 * The part of postgres.js that we rely on, checked against 3.4. It has no
 * public seam below `sql`, so {@link assertInstance} and the patches look at
 * the shape and refuse what they do not know.
 */

/** `sql.options`: what was given, completed by the library. */
export interface PostgresOptions {
  readonly host: readonly string[]
  readonly port: readonly number[]
  readonly path?: string | false
  readonly database: string
  readonly user: string
  readonly max: number
  readonly ssl: unknown
  readonly sslnegotiation?: string | null
  readonly keep_alive?: number
  readonly fetch_types: boolean
  readonly connection: Readonly<Record<string, unknown>>
  readonly parsers: Record<string, unknown>
  readonly serializers: Record<string, unknown>
  /** The library takes an object that has this as options it completed before. */
  readonly shared: { retries: number; typeArrayMap: Record<string, unknown> }
  readonly socket?: unknown
}

export type Handler = (query: LibraryQuery) => unknown

/** A query of the library: lazy, a promise, sent by its handler when it is first asked for. */
export interface LibraryQuery extends Promise<unknown> {
  handler: Handler
  canceller: unknown
  readonly executed: boolean
  readonly strings: readonly string[]
  /** The text, once it was built. */
  readonly string?: string
  readonly options: Readonly<Record<string, unknown>>
  readonly onlyDescribe?: boolean
  forEachFn?: (...args: never[]) => unknown
  cursorFn?: (...args: never[]) => unknown
  /** The backend that it was given to. */
  state: unknown
  resolve(value: unknown): void
  reject(error: unknown): void
  handle(): unknown
}

export interface QueryClass {
  readonly prototype: LibraryQuery
}

type Method = (...args: never[]) => unknown

/** What `sql`, a transaction and a reserved connection have in common. */
export interface Scope {
  unsafe(text: string, ...rest: unknown[]): LibraryQuery
  file(...args: unknown[]): LibraryQuery
  savepoint?: (...args: unknown[]) => Promise<unknown>
  release?: () => unknown
}

/** What `postgres()` returns. */
export interface Instance extends Scope {
  readonly options: PostgresOptions
  begin(...args: unknown[]): Promise<unknown>
  reserve(...args: unknown[]): Promise<Scope>
  listen(name: string, fn: Method, onlisten?: () => unknown): Promise<unknown>
  subscribe(...args: unknown[]): Promise<unknown>
  end(options?: { timeout?: number | null }): Promise<unknown>
  close(): Promise<unknown>
}

export type Factory = ((...args: unknown[]) => Instance) & Record<string, unknown>

const METHODS = ['unsafe', 'file', 'begin', 'reserve', 'listen', 'subscribe', 'end', 'close'] as const

/** @throws TypeError when this is not what we know. */
export function assertInstance(instance: unknown): asserts instance is Instance {
  if (typeof instance !== 'function') throw new TypeError('postgres() does not return a function')
  const sql = instance as unknown as Record<string, unknown>
  for (const method of METHODS) {
    if (typeof sql[method] !== 'function') throw new TypeError(`postgres.js has no sql.${method}`)
  }
  const { host, port, shared, parsers, serializers, connection, max } = Object(sql['options']) as Record<
    string,
    unknown
  >
  const { typeArrayMap } = Object(shared) as Record<string, unknown>
  const objects = [typeArrayMap, parsers, serializers, connection].every((value) => typeof value === 'object')
  if (!objects || !Array.isArray(host) || !Array.isArray(port) || !Number.isInteger(Number(max))) {
    throw new TypeError('the options of postgres.js have changed')
  }
}
