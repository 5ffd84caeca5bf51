import type { Boss, Database, Handler, Options } from './library.js'

/** A handler registered with `work()` in this process. */
export interface RegisteredWorker {
  readonly id: string
  readonly boss: Boss
  readonly queue: string
  /** The application's own function, not our wrapper. */
  readonly handler: Handler
  readonly options: Options
  /** The dry run it was registered in, if any. */
  readonly runId: string | undefined
}

/** Where a boss keeps its queues: two of them in one process often share it, one to send and one to work. */
type Store = string | Database

const workers = new Map<Store, RegisteredWorker[]>()

export function addWorker(worker: RegisteredWorker): void {
  const store = storeOf(worker.boss)
  workers.set(store, [...(workers.get(store) ?? []), worker])
}

/** Forgets the workers of a queue (or the one with this id), as `offWork` does; of all queues when none is given. */
export function removeWorkers(boss: Boss, queue?: string, id?: string): void {
  const store = storeOf(boss)
  const kept = (workers.get(store) ?? []).filter((worker) => !matches(worker, boss, queue, id))
  if (kept.length === 0) workers.delete(store)
  else workers.set(store, kept)
}

export function workersOf(boss: Boss, queue?: string, id?: string): readonly RegisteredWorker[] {
  return (workers.get(storeOf(boss)) ?? []).filter((worker) => matches(worker, boss, queue, id))
}

/** Who would get a job of this queue: a worker of the same boss, else of another boss on the same queues. */
export function findWorker(boss: Boss, queue: string): RegisteredWorker | undefined {
  const candidates = (workers.get(storeOf(boss)) ?? []).filter((worker) => worker.queue === queue)
  return candidates.find((worker) => worker.boss === boss) ?? candidates[0]
}

function matches(worker: RegisteredWorker, boss: Boss, queue: string | undefined, id: string | undefined): boolean {
  return (
    worker.boss === boss && (queue === undefined || worker.queue === queue) && (id === undefined || worker.id === id)
  )
}

function storeOf(boss: Boss): Store {
  const db = boss.getDb()
  // An adapter of the application tells us nothing about where it leads: it is its own store.
  if (db._pgbdb !== true || db.config === undefined) return db
  const { connectionString, host, port, database, schema } = db.config
  return JSON.stringify([connectionString, host, port, database, schema])
}
