import { messageOf } from '../../errors.js'
import type { Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { Boss, Job, Options, QueueRow } from './library.js'
import type { RegisteredWorker } from './registry.js'

/** Deliveries per run: a handler that enqueues its own kind again would go on for ever. */
export const MAX_LOOPBACKS = 100

const deliveries = new WeakMap<Run, number>()

export function loopbacksLeft(run: Run): number {
  return MAX_LOOPBACKS - (deliveries.get(run) ?? 0)
}

/** A job that was simulated, as its worker would have fetched it. */
export interface LoopedJob {
  readonly id: string
  readonly queue: string
  /** As JSON holds it. */
  readonly data: unknown
  readonly options: Options
}

/**
 * Hands simulated jobs to the handler of this process, inside the run, after
 * the sender has its answer. Delays (`startAfter`) are not waited for. The run
 * stays open until the handler is done.
 */
export function loopBack(
  run: Run,
  boss: Boss,
  worker: RegisteredWorker,
  jobs: readonly LoopedJob[],
  queue: QueueRow | undefined,
  guard: Guard,
): void {
  const batchSize = Number(worker.options['batchSize'] ?? 1)
  for (let start = 0; start < jobs.length; start += batchSize) {
    deliveries.set(run, (deliveries.get(run) ?? 0) + 1)
    const controller = new AbortController()
    const batch = jobs
      .slice(start, start + batchSize)
      .map((job) => fetched(job, queue, worker.options['includeMetadata'] === true, controller.signal))
    const release = guard.hold(run)
    guard.within(run, () => setImmediate(() => void deliver(run, boss, worker, batch, controller, guard).then(release)))
  }
}

async function deliver(
  run: Run,
  boss: Boss,
  worker: RegisteredWorker,
  batch: Job[],
  controller: AbortController,
  guard: Guard,
): Promise<void> {
  const seconds = Math.max(...batch.map((job) => Number((job as { expireInSeconds?: number }).expireInSeconds)))
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`handler execution exceeded ${seconds}s`))
      controller.abort()
    }, seconds * 1000)
    timer.unref()
  })
  try {
    // There is no transaction to hand over: its statements meet the Postgres hook like any other.
    const transaction = { executeSql: (text: string, values?: unknown[]) => boss.getDb().executeSql(text, values) }
    const handling =
      worker.options['transactional'] === true ? worker.handler(batch, transaction) : worker.handler(batch)
    report(run, worker, await Promise.race([handling, expired]), guard)
  } catch (error) {
    note(run, `pg-boss handler of queue ${worker.queue} failed: ${messageOf(error)}`, guard)
  } finally {
    clearTimeout(timer)
  }
}

/** With `perJobResults` a handler fails jobs by saying so. */
function report(run: Run, { options, queue }: RegisteredWorker, result: unknown, guard: Guard): void {
  if (options['perJobResults'] !== true || !Array.isArray(result)) return
  for (const { id, status, output } of result as { id?: string; status?: string; output?: unknown }[]) {
    if (status === 'completed') continue
    note(run, `pg-boss handler of queue ${queue} reported job ${id} as ${status}: ${messageOf(output)}`, guard)
  }
}

function note(run: Run, message: string, guard: Guard): void {
  try {
    guard.problem(run, 'run_error', message)
  } catch (error) {
    // Nobody waits for this job, so nobody can be given the error.
    process.emitWarning(messageOf(error), { type: 'DryTraceWarning' })
  }
}

/** The columns of a fetched job, in the order and with the defaults of the library's own query. */
function fetched(
  { id, queue: name, data, options }: LoopedJob,
  queue: QueueRow | undefined,
  includeMetadata: boolean,
  signal: AbortSignal,
): Job {
  const pick = (key: string, fallback: unknown) => options[key] ?? queue?.[key] ?? fallback
  const group = options['group'] as { id?: string; tier?: string } | undefined
  const job = {
    id,
    name,
    data,
    retryCount: 0,
    expireInSeconds: pick('expireInSeconds', 15 * 60) as number,
    heartbeatSeconds: pick('heartbeatSeconds', null),
    groupId: group?.id ?? null,
    groupTier: group?.tier ?? null,
  }
  if (!includeMetadata) return Object.assign(job, { signal })
  const now = new Date()
  const keep = Number(pick('retentionSeconds', 14 * 24 * 60 * 60))
  return Object.assign(job, {
    policy: queue?.['policy'] ?? null,
    state: 'active',
    priority: options['priority'] ?? 0,
    retryLimit: pick('retryLimit', 2),
    retryDelay: pick('retryDelay', 0),
    retryBackoff: pick('retryBackoff', false),
    retryDelayMax: pick('retryDelayMax', null),
    startAfter: now,
    startedOn: now,
    singletonKey: options['singletonKey'] ?? null,
    singletonOn: null,
    deleteAfterSeconds: pick('deleteAfterSeconds', 7 * 24 * 60 * 60),
    heartbeatOn: null,
    createdOn: now,
    completedOn: null,
    keepUntil: new Date(now.getTime() + keep * 1000),
    deadLetter: pick('deadLetter', null),
    blocked: false,
    blocking: false,
    pendingDependencies: 0,
    output: null,
    sourceName: null,
    sourceId: null,
    sourceCreatedOn: null,
    sourceRetryCount: null,
    sourceOutput: null,
    sourceRootId: null,
    signal,
  })
}
