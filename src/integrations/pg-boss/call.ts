import assert from 'node:assert'
import type { Action } from '../../journal/record.js'
import type { Attorney, Options } from './library.js'

/** One call of a public method of pg-boss that would change something. */
export interface Call {
  readonly method: string
  readonly action: Action
  /** `unknown`: a method this version of the integration has not seen. */
  readonly kind: 'write' | 'unknown'
  /** Queue or event; undefined when the call is about all of them. */
  readonly destination: string | undefined
  /** Queues that must exist for the live call to succeed. */
  readonly queues: readonly string[]
  /** Jobs it would make. */
  readonly jobs: readonly NewJob[]
  /** Jobs it would change. */
  readonly ids: readonly string[]
  /** What the report shows of the arguments. */
  readonly payload: unknown
  /** Arguments of the call that the result depends on. */
  readonly options: Options
}

export interface NewJob {
  readonly queue: string
  readonly data: unknown
  readonly options: Options
  /** Name of a job within a flow. */
  readonly ref?: string
}

type Reader = (args: readonly unknown[], attorney: Attorney) => Partial<Omit<Call, 'method'>>

/**
 * How each writing method is read. Throws what the library throws for bad
 * arguments, because such a call changes nothing live either.
 */
const READERS: Readonly<Record<string, Reader>> = {
  send: (args, attorney) => enqueue(args, attorney),
  sendAfter: ([name, data, options, after], attorney) =>
    enqueue([name, data, { ...asOptions(options), startAfter: after }], attorney),
  sendThrottled: ([name, data, options, seconds, key], attorney) =>
    enqueue([name, data, singleton(options, seconds, key, false)], attorney),
  sendDebounced: ([name, data, options, seconds, key], attorney) =>
    enqueue([name, data, singleton(options, seconds, key, true)], attorney),
  insert: insertJobs,
  flow: flowOfJobs,
  update: (args, attorney) => updateJob(args, attorney, false),
  upsert: (args, attorney) => updateJob(args, attorney, true),
  publish([event, data, options]) {
    assert(event, 'Missing required argument')
    return {
      action: 'publish',
      destination: String(event),
      payload: { data, options: withoutDb(options) },
    }
  },
  subscribe: ([event, name]) => subscription('create', event, name),
  unsubscribe: ([event, name]) => subscription('delete', event, name),
  schedule([name, cron, data, options], attorney) {
    const { tz: _tz, key: _key, missed: _missed, ...rest } = asOptions(options)
    attorney.checkSendArgs?.([name, data, rest])
    return {
      action: 'schedule',
      destination: String(name),
      queues: [String(name)],
      payload: { cron, data, options: withoutDb(options) },
      options: { ...asOptions(options), cron },
    }
  },
  unschedule: ([name, key]) => ({ action: 'delete', destination: String(name), payload: { key } }),
  createQueue([name, options], attorney) {
    const given = asOptions(options)
    const queue = String(name || given['name'])
    attorney.assertQueueName?.(name || given['name'])
    attorney.validateQueueArgs?.(given)
    const { deadLetter } = given
    return {
      action: 'create',
      destination: queue,
      queues: typeof deadLetter === 'string' ? [deadLetter] : [],
      payload: { options: given },
    }
  },
  updateQueue([name, options], attorney) {
    attorney.assertQueueName?.(name)
    assert(Object.keys(asOptions(options)).length > 0, 'no properties found to update')
    attorney.validateQueueArgs?.(asOptions(options))
    return { action: 'update', destination: String(name), payload: { options } }
  },
  deleteQueue: (args, attorney) => ({ ...onQueue('delete', args, attorney), queues: [] }),
  deleteQueuedJobs: (args, attorney) => onQueue('delete', args, attorney),
  deleteStoredJobs: (args, attorney) => onQueue('delete', args, attorney),
  deleteAllJobs: (args, attorney) => (args[0] ? onQueue('delete', args, attorney) : { action: 'delete' }),
  redrive: (args, attorney) => ({ ...onQueue('update', args, attorney), options: asOptions(args[1]) }),
  complete: (args, attorney) => onJobs('complete', 'settle', args, attorney),
  fail: (args, attorney) => onJobs('fail', 'settle', args, attorney),
  cancel: (args, attorney) => onJobs('cancel', 'update', args, attorney),
  resume: (args, attorney) => onJobs('resume', 'update', args, attorney),
  retry: (args, attorney) => onJobs('retry', 'update', args, attorney),
  touch: (args, attorney) => onJobs('touch', 'update', args, attorney),
  deleteJob: (args, attorney) => onJobs('deleteJob', 'delete', args, attorney),
  fetch([name, options], attorney) {
    attorney.checkFetchArgs?.(name, asOptions(options))
    return { action: 'update', destination: String(name), queues: [String(name)] }
  },
  supervise: ([name]) => ({ action: 'execute', destination: name === undefined ? undefined : String(name) }),
  resolveFlow: () => ({ action: 'execute' }),
}

/** @throws the library's own error when the arguments are wrong. */
export function readCall(method: string, args: readonly unknown[], attorney: Attorney): Call {
  const reader = READERS[method]
  const base = {
    method,
    destination: undefined,
    queues: [],
    jobs: [],
    ids: [],
    payload: undefined,
    options: {},
  }
  if (reader === undefined) {
    const destination = typeof args[0] === 'string' ? args[0] : undefined
    return { ...base, kind: 'unknown', action: 'execute', destination }
  }
  return { ...base, kind: 'write', action: 'execute', ...reader(args, attorney) }
}

function enqueue(args: readonly unknown[], attorney: Attorney): Partial<Call> {
  const { name, data, options } = attorney.checkSendArgs?.(args) ?? looseArgs(args)
  return {
    action: 'enqueue',
    destination: name,
    queues: [name],
    jobs: [{ queue: name, data: data ?? null, options }],
    payload: { data: data ?? null, options: withoutDb(options) },
    options,
  }
}

function insertJobs([name, jobs, options]: readonly unknown[], attorney: Attorney): Partial<Call> {
  assert(Array.isArray(jobs), 'jobs argument should be an array')
  const given = jobs as readonly Options[]
  const seen = new Set<unknown>()
  for (const job of given) {
    const { id } = job
    if (id !== undefined && id !== null && seen.has(id)) throw new Error(`duplicate job id in insert batch: ${id}`)
    seen.add(id)
    attorney.validateGroupConfig?.(job)
  }
  const queue = String(name)
  return {
    action: 'enqueue',
    destination: queue,
    queues: [queue],
    jobs: given.map(({ data, ...rest }) => ({ queue, data: data ?? null, options: rest })),
    payload: { jobs: given.map(withoutDb) },
    options: asOptions(options),
  }
}

function flowOfJobs([jobs]: readonly unknown[], attorney: Attorney): Partial<Call> {
  attorney.validateFlowJobs?.(jobs)
  const given = jobs as readonly {
    ref: string
    name: string
    data?: unknown
    options?: Options
    dependsOn?: string[]
  }[]
  const made = given.map(({ ref, name, data, options }) => {
    const checked = attorney.checkSendArgs?.([{ name, data, options }])
    return { queue: name, data: data ?? null, options: checked?.options ?? options ?? {}, ref }
  })
  const queues = [...new Set(made.map(({ queue }) => queue))]
  return {
    action: 'enqueue',
    destination: queues.length === 1 ? queues[0] : 'mixed',
    queues,
    jobs: made,
    payload: { jobs: given.map((job) => ({ ...job, options: withoutDb(job.options) })) },
  }
}

function updateJob(args: readonly unknown[], attorney: Attorney, upsert: boolean): Partial<Call> {
  const { name, data, options } = attorney.checkUpdateArgs?.(args, { upsert }) ?? looseArgs(args)
  return {
    action: upsert ? 'upsert' : 'update',
    destination: name,
    queues: [name],
    jobs: upsert ? [{ queue: name, data: data ?? null, options }] : [],
    payload: { data, options: withoutDb(options) },
    options,
  }
}

function onQueue(action: Action, [name]: readonly unknown[], attorney: Attorney): Partial<Call> {
  attorney.assertQueueName?.(name)
  return { action, destination: String(name), queues: [String(name)] }
}

function onJobs(
  method: string,
  action: Action,
  [name, id, data]: readonly unknown[],
  attorney: Attorney,
): Partial<Call> {
  attorney.assertQueueName?.(name)
  const items = (Array.isArray(id) ? id : [id]) as readonly (string | { id: string })[]
  assert(id && items.length > 0, `${method}() requires an id`)
  const ids = items.map((item) => (typeof item === 'string' ? item : item.id))
  const output = action === 'settle' ? { output: data instanceof Error ? { message: data.message } : data } : {}
  return { action, destination: String(name), queues: [String(name)], ids, payload: { ids, ...output } }
}

function subscription(action: Action, event: unknown, name: unknown): Partial<Call> {
  assert(event, 'Missing required argument')
  assert(name, 'Missing required argument')
  return { action, destination: String(name), payload: { event } }
}

function singleton(options: unknown, seconds: unknown, key: unknown, nextSlot: boolean): Options {
  return { ...asOptions(options), singletonSeconds: seconds, singletonNextSlot: nextSlot, singletonKey: key }
}

function looseArgs(args: readonly unknown[]): { name: string; data: unknown; options: Options } {
  const [first, data, options] = args
  if (typeof first !== 'object' || first === null) return { name: String(first), data, options: asOptions(options) }
  const request = first as { name?: unknown; data?: unknown; options?: unknown }
  return { name: String(request.name), data: request.data, options: asOptions(request.options) }
}

function asOptions(options: unknown): Options {
  return typeof options === 'object' && options !== null ? (options as Options) : {}
}

/** A `db` option is the caller's connection: nothing for a report, and nothing a dry run may use. */
function withoutDb(options: unknown): Options {
  const { db: _db, ...rest } = asOptions(options)
  return rest
}
