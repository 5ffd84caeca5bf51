import type { Admission } from '../../carriers/admission.js'
import { type Decoded, hasEnvelope, unwrapBody } from '../../carriers/message-envelope.js'
import { DryTraceError, messageOf } from '../../errors.js'
import type { Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { shared } from '../../run/store.js'
import type { Boss, Handler, Job, Options, Originals, Transaction } from './library.js'

interface Group {
  /** Undefined: the live jobs. */
  readonly run: Run | undefined
  readonly jobs: Job[]
}

interface Sorted {
  readonly groups: readonly Group[]
  readonly refused: readonly { readonly job: Job; readonly error: Error }[]
}

export interface Consumer {
  readonly boss: Boss
  readonly queue: string
  readonly options: Options
  readonly handler: Handler
  readonly originals: Originals
  readonly guard: Guard
}

/**
 * The handler pg-boss is given. What a job runs in comes from the job alone:
 * without an envelope it is live, whatever context the worker was made in;
 * with one it runs in that run, or is failed when the envelope cannot be
 * trusted. It is never run live and never dropped.
 */
export function consume(consumer: Consumer): Handler {
  return (jobs, transaction) => {
    if (!jobs.some((job) => hasEnvelope(job.data))) return handle(consumer, { run: undefined, jobs }, transaction)
    return consumeMixed(consumer, sortJobs(jobs, consumer.queue), transaction)
  }
}

/** Takes dry jobs out of what a live `fetch()` returns: there is no handler to run them in, so they are failed. */
export async function withholdDryJobs(
  boss: Boss,
  queue: string,
  jobs: Job[],
  originals: Originals,
  db: unknown,
): Promise<Job[]> {
  const dry = jobs.filter((job) => hasEnvelope(job.data))
  if (dry.length === 0) return jobs
  const error = refusal(
    queue,
    'fetch() hands jobs to code that is live; register a handler with work() to run them dry',
  )
  await settle(originals, boss, 'fail', queue, dry, error, db === undefined ? undefined : { db })
  return jobs.filter((job) => !dry.includes(job))
}

/**
 * pg-boss settles a batch as a whole: with the handler's result or with its
 * error. So a batch is split only when it must be. Jobs whose outcome differs
 * from the batch's are settled one by one first; pg-boss's own settling then
 * touches only the jobs that are still active. Live jobs keep the batch's
 * outcome, so for them nothing changes.
 */
async function consumeMixed(
  consumer: Consumer,
  { groups, refused }: Sorted,
  transaction?: Transaction,
): Promise<unknown> {
  const [only, ...others] = groups
  if (only === undefined) throw refused[0]?.error
  if (others.length === 0 && refused.length === 0) return handle(consumer, only, transaction)

  const { boss, queue, originals } = consumer
  const perJob = consumer.options['perJobResults'] === true
  const within = transaction === undefined ? undefined : { db: transaction }
  const results: { id: string; status: string; output?: unknown }[] = []
  const succeeded: Job[] = []
  let failed: { error: unknown } | undefined
  for (const { job, error } of refused) {
    if (perJob) results.push({ id: job.id, status: 'failed', output: error })
    else await settle(originals, boss, 'fail', queue, [job], error, within)
  }
  for (const group of groups) {
    try {
      const result = await handle(consumer, group, transaction)
      if (perJob && Array.isArray(result)) results.push(...(result as typeof results))
      if (group.run !== undefined) succeeded.push(...group.jobs)
    } catch (error) {
      if (perJob) results.push(...group.jobs.map(({ id }) => ({ id, status: 'failed', output: error })))
      else if (group.run === undefined) failed = { error }
      else await settle(originals, boss, 'fail', queue, group.jobs, error, within)
    }
  }
  if (perJob) return results
  if (failed === undefined) return undefined
  if (succeeded.length > 0) await settle(originals, boss, 'complete', queue, succeeded, undefined, within)
  throw failed.error
}

function handle({ guard, handler, queue }: Consumer, { run, jobs }: Group, transaction?: Transaction): unknown {
  const call = () => (transaction === undefined ? handler(jobs) : handler(jobs, transaction))
  if (run === undefined) return guard.run() === undefined ? call() : guard.within(undefined, call)
  const release = guard.hold(run)
  return guard.root(() =>
    guard.within(run, async () => {
      try {
        return await call()
      } catch (error) {
        guard.problem(run, 'run_error', `pg-boss handler of queue ${queue} failed: ${messageOf(error)}`)
        throw error
      } finally {
        release()
      }
    }),
  )
}

/** Strips the envelopes and groups the jobs by what they run in; live jobs come first. */
function sortJobs(jobs: readonly Job[], queue: string): Sorted {
  const live: Job[] = []
  const dry = new Map<Run, Job[]>()
  const refused: { job: Job; error: Error }[] = []
  for (const job of jobs) {
    const unwrapped = unwrapBody(job.data)
    if (unwrapped === undefined) {
      live.push(job)
      continue
    }
    try {
      const run = admit(unwrapped.decoded, queue)
      job.data = unwrapped.body
      dry.set(run, [...(dry.get(run) ?? []), job])
    } catch (error) {
      refused.push({ job, error: error as Error })
    }
  }
  const groups = [...dry].map(([run, members]): Group => ({ run, jobs: members }))
  return { groups: live.length === 0 ? groups : [{ run: undefined, jobs: live }, ...groups], refused }
}

function admit({ malformed, runId, token }: Decoded, queue: string): Run {
  if (malformed) throw refusal(queue, 'its envelope cannot be read')
  const admission = shared.slots.get('admission') as Admission | undefined
  if (admission === undefined) throw refusal(queue, 'the guard of this process is not armed')
  const flag = { runId, token, carriers: ['message'], conflict: false }
  return admission.admit(flag, { loopback: false, name: `a job of pg-boss queue ${queue}` }, 'message')
}

function refusal(queue: string, why: string): DryTraceError {
  return new DryTraceError('DRY_FLAG_REFUSED', `a dry job of pg-boss queue ${queue} was not handled: ${why}`, {
    details: { queue },
  })
}

/** Settles some jobs of a batch before pg-boss settles the rest. */
async function settle(
  originals: Originals,
  boss: Boss,
  how: 'complete' | 'fail',
  queue: string,
  jobs: readonly Job[],
  outcome: unknown,
  options: Options | undefined,
): Promise<void> {
  await originals[how]?.call(
    boss,
    queue,
    jobs.map(({ id }) => id),
    outcome,
    options,
  )
}
