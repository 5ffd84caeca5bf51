import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { type Call, readCall } from './call.js'
import { type AnsweredCall, classifyCall, detailOf, payloadOf, simulateCall } from './call-effect.js'
import type { Attorney, Boss, Options, Originals } from './library.js'
import { type LoopedJob, loopBack, loopbacksLeft } from './loopback.js'
import { knownQueues, missingQueue } from './queue-lookup.js'
import { findWorker } from './registry.js'

/** What the answers to dry calls need of one copy of the library. */
export interface Copied {
  readonly guard: Guard
  readonly hook: Hook
  readonly originals: Originals
  readonly attorney: Attorney
}

/** What reads told about the call. */
type Found = Pick<AnsweredCall, 'matched' | 'moved'> & { readonly notes: readonly string[] }

const LOOPABLE: ReadonlySet<string> = new Set(['send', 'sendAfter', 'sendThrottled', 'sendDebounced', 'insert'])

/**
 * Answers one writing call of a dry run. Nothing of it reaches the database:
 * the library's own statements are never made, so a `db` given by the caller
 * is not touched either.
 */
export async function answerCall(
  copied: Copied,
  run: Run,
  boss: Boss,
  method: string,
  args: unknown[],
): Promise<unknown> {
  const { guard, hook, attorney } = copied
  const call = snapshot(readCall(method, args, attorney))
  const decision = guard.decide(run, hook, () => classifyCall(call))
  if (decision.verdict === 'allow') return allowed(copied, decision, call, boss, args)
  if (decision.error !== undefined) {
    guard.record(decision, payloadOf(call))
    throw decision.error
  }
  if (call.kind === 'unknown') {
    guard.record(asBlocked(decision), { note: 'no result is known for this method' })
    throw new DryTraceError(
      'DRY_BLOCKED',
      `dry run: pg-boss ${method}() was blocked, and its result cannot be simulated`,
    )
  }
  // Nobody has to wait for a job to be stored: the request it belongs to may end meanwhile.
  const release = guard.hold(run)
  try {
    return await simulated(copied, decision, run, boss, call)
  } finally {
    release()
  }
}

async function simulated(
  { guard, originals }: Copied,
  decision: Decision,
  run: Run,
  boss: Boss,
  call: Call,
): Promise<unknown> {
  let failure: unknown
  let found: Found = { matched: [], moved: 0, notes: [] }
  try {
    failure = await missingQueue(run, boss, call, originals)
    if (failure === undefined) found = await preview(call, boss, originals)
  } catch (error) {
    // The reads pg-boss makes itself fail dry as they fail live; a read that was refused on our behalf is no failure.
    if (error instanceof DryTraceError) found = { ...found, notes: ['the queue could not be looked at'] }
    else failure = error
  }
  if (failure !== undefined) {
    guard.record(asBlocked(decision), { ...payloadOf(call), note: `would fail: ${messageOf(failure)}` })
    throw failure
  }
  try {
    return answer(guard, decision, run, boss, call, found)
  } catch (error) {
    throw guard.fail(decision, error)
  }
}

function answer(
  guard: Guard,
  decision: Decision,
  run: Run,
  boss: Boss,
  call: Call,
  { notes: seen, ...found }: Found,
): unknown {
  const made = found.matched.length > 0 ? [] : call.jobs
  const syntheticIds: string[] = []
  const assigned = made.map(({ options }) => {
    if (typeof options['id'] === 'string') return options['id']
    const id = guard.syntheticId(run, 'uuid')
    syntheticIds.push(id)
    return id
  })
  const answered: AnsweredCall = { ...call, ...found, assigned }
  const notes = [...seen, ...notesOn(call, knownQueues(run, boss).rows.get(call.destination ?? '')?.['policy'])]
  const looped = decision.verdict === 'loopback' ? loopbackOf(run, boss, call, guard) : undefined
  if (typeof looped === 'string') notes.push(looped)
  // The record says `forwarded` only of what a handler is really given.
  guard.record(typeof looped === 'string' ? asBlocked(decision) : decision, detailOf(answered, syntheticIds, notes))
  if (call.method === 'createQueue' && call.destination !== undefined) {
    knownQueues(run, boss).created.add(call.destination)
  }
  if (looped !== undefined && typeof looped !== 'string') {
    const jobs = made.map(({ queue, data, options }, index): LoopedJob => {
      return { id: assigned[index] as string, queue, data, options }
    })
    loopBack(run, boss, looped, jobs, knownQueues(run, boss).rows.get(looped.queue), guard)
  }
  const respond = decision.respond?.json
  return respond === undefined ? simulateCall(answered) : respond
}

/**
 * The call as it is now: the caller may change its objects while we look up
 * the queue. Throws for what JSON cannot hold, as pg-boss does.
 */
function snapshot(call: Call): Call {
  const copy = (value: unknown): unknown => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)))
  return { ...call, payload: copy(call.payload), jobs: call.jobs.map((job) => ({ ...job, data: copy(job.data) })) }
}

/** The worker that is given the jobs, or why none is. */
function loopbackOf(run: Run, boss: Boss, call: Call, guard: Guard) {
  if (!LOOPABLE.has(call.method)) return `${call.method} cannot be looped back: blocked instead`
  const worker = findWorker(boss, call.destination as string)
  if (worker === undefined)
    return `no handler for queue ${call.destination} is registered in this process: blocked instead`
  const batches = Math.ceil(call.jobs.length / Number(worker.options['batchSize'] ?? 1))
  if (batches <= loopbacksLeft(run)) return worker
  const message = `more than 100 jobs were looped back in this run: the job for queue ${call.destination} was not handled`
  guard.problem(run, 'run_error', message)
  return message
}

/** Reads that tell what the call would have done to existing jobs. */
async function preview(call: Call, boss: Boss, originals: Originals): Promise<Found> {
  const { method, destination, options } = call
  if (method === 'update' || method === 'upsert') {
    const { id, singletonKey: key, match = 'newest' } = options
    const by = typeof id === 'string' ? { id } : { key }
    const rows = ((await originals['findJobs']?.call(boss, destination, { ...by, queued: true })) ?? []) as {
      id: string
      createdOn: Date
    }[]
    const newestFirst = rows.toSorted((a, b) => b.createdOn.getTime() - a.createdOn.getTime()).map((row) => row.id)
    return {
      matched: match === 'all' ? newestFirst : newestFirst.slice(...(match === 'oldest' ? [-1] : [0, 1])),
      moved: 0,
      notes: [],
    }
  }
  if (method === 'redrive') {
    const seen = (await originals['previewRedrive']?.call(boss, destination, withoutLimit(options))) as
      | { total: number; unroutable: number }
      | undefined
    const routable = seen === undefined ? 0 : seen.total - seen.unroutable
    return { matched: [], moved: Math.min(routable, Number(options['limit'] ?? 1000)), notes: [] }
  }
  if (method === 'schedule') {
    // Synchronous arithmetic that throws for the expressions schedule() throws for.
    originals['previewSchedule']?.call(boss, options['cron'], { tz: options['tz'] || 'UTC', count: 1 })
  }
  return { matched: [], moved: 0, notes: [] }
}

function withoutLimit({ limit: _limit, db: _db, ...rest }: Options): Options {
  return rest
}

function notesOn({ method, options, ids }: Call, policy: unknown): string[] {
  const notes: string[] = []
  const deduplicated =
    options['singletonKey'] !== undefined ||
    options['singletonSeconds'] !== undefined ||
    (typeof policy === 'string' && policy !== 'standard')
  if (LOOPABLE.has(method) && deduplicated) {
    notes.push('a live call may return null (throttled, or deduplicated by its key or the policy of the queue)')
  }
  if (ids.length > 0) notes.push('assumes that every job is in a state the call applies to')
  if (method === 'fetch') notes.push('a dry run takes no live jobs')
  return notes
}

/**
 * A write a rule allows: made for real, outside the run, because inside it the
 * Postgres hook would meet the statements and block them.
 */
function allowed(
  { guard, originals }: Copied,
  decision: Decision,
  call: Call,
  boss: Boss,
  args: unknown[],
): Promise<unknown> {
  if (decision.run.processWide) {
    throw guard.fail(
      decision,
      new DryTraceError(
        'DRY_BLOCKED',
        `dry run: rule ${decision.rule} allows pg-boss ${call.method}(), but a process-wide dry run (DRY_RUN=1) has no live side to make it on`,
      ),
    )
  }
  guard.record(decision, payloadOf(call))
  return guard.within(undefined, () =>
    guard.permit(`pg-boss ${decision.rule}`, async (permit) => {
      try {
        return await originals[call.method]?.apply(boss, args)
      } finally {
        permit.open = false
      }
    }),
  )
}

function asBlocked(decision: Decision): Decision {
  return decision.verdict === 'block' ? decision : { ...decision, verdict: 'block' }
}
