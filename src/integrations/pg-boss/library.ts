/** The parts of pg-boss's public objects this integration relies on, the same from 12.20 to 12.38. */
export interface Boss {
  getDb(): Database
  emit(event: string, ...args: unknown[]): boolean
}

export interface Database {
  /** True for pg-boss's own pool, absent on an adapter of the application. */
  readonly _pgbdb?: boolean
  readonly opened?: boolean
  readonly config?: Readonly<Record<string, unknown>>
  open?(): Promise<unknown>
  close?(): Promise<unknown>
  executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
}

/** The pg-boss methods as they were before patching, by name. */
export type Originals = Readonly<Record<string, Method | undefined>>
export type Method = (this: Boss, ...args: unknown[]) => unknown

/** pg-boss's own argument checks: a bad argument must fail dry as it fails live. */
export interface Attorney {
  checkSendArgs?(args: readonly unknown[]): { name: string; data: unknown; options: Options }
  checkUpdateArgs?(
    args: readonly unknown[],
    mode: { upsert: boolean },
  ): { name: string; data: unknown; options: Options }
  checkFetchArgs?(name: unknown, options: unknown): void
  validateFlowJobs?(jobs: unknown): void
  validateGroupConfig?(job: unknown): void
  validateQueueArgs?(options: unknown): void
  assertQueueName?(name: unknown): void
}

export type Options = Readonly<Record<string, unknown>>

/** A row of `getQueue()`. */
export type QueueRow = Readonly<Record<string, unknown>>

/** What a worker's handler is given. */
export interface Job {
  readonly id: string
  readonly name: string
  data: unknown
  readonly retryCount?: number
}

export type Handler = (jobs: Job[], transaction?: Transaction) => unknown

/** Second argument of a handler registered with `transactional`. */
export interface Transaction {
  executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
}
