import { createHash } from 'node:crypto'
import type { Effect, EffectDetail } from '../../guard/effect.js'
import { ATTR_MESSAGING_DESTINATION, ATTR_MESSAGING_OPERATION_NAME, ATTR_MESSAGING_SYSTEM } from '../../semconv.js'
import type { Call } from './call.js'

export const SYSTEM = 'pg-boss'

export function classifyCall(call: Call): Effect {
  const { method, action, kind, destination } = call
  const target = destination ?? 'all queues'
  return {
    system: SYSTEM,
    kind,
    action,
    target,
    summary: `${method} ${describe(call, target)}`,
    fingerprint: `pg-boss:${method}:${target}`,
    match: { destination, operation: method },
    attributes: {
      [ATTR_MESSAGING_SYSTEM]: SYSTEM,
      [ATTR_MESSAGING_OPERATION_NAME]: method,
      ...(destination === undefined ? {} : { [ATTR_MESSAGING_DESTINATION]: destination }),
    },
  }
}

/** The call with what was made up to answer it. */
export interface AnsweredCall extends Call {
  /** Ids of {@link Call.jobs}, in order: the caller's own, or made-up ones. */
  readonly assigned: readonly string[]
  /** Existing jobs `update` and `upsert` would change. */
  readonly matched: readonly string[]
  /** What `redrive` would have moved. */
  readonly moved: number
}

/** The value pg-boss would have resolved to. */
export function simulateCall(call: AnsweredCall): unknown {
  const { method, assigned, matched, ids, options, jobs } = call
  switch (method) {
    case 'send':
    case 'sendAfter':
    case 'sendThrottled':
    case 'sendDebounced':
      return assigned[0]
    case 'insert':
      // Only `returnId` makes the statement return its rows.
      return options['returnId'] && assigned.length > 0 ? [...assigned] : null
    case 'flow':
      return Object.fromEntries(jobs.map(({ ref }, index) => [ref, assigned[index]]))
    case 'update':
      return { jobs: [...matched], updated: matched.length }
    case 'upsert':
      return matched.length > 0
        ? { jobs: [...matched], updated: matched.length, inserted: 0 }
        : { jobs: [...assigned], updated: 0, inserted: assigned.length }
    case 'complete':
    case 'fail':
    case 'cancel':
    case 'touch':
    case 'deleteJob':
      return { jobs: [...ids], requested: ids.length, affected: ids.length, settled: [...ids] }
    case 'resume':
    case 'retry':
      return { jobs: [...ids], requested: ids.length, affected: ids.length, settled: undefined }
    case 'redrive':
      return call.moved
    case 'fetch':
      return []
    default:
      return undefined
  }
}

export function detailOf(call: AnsweredCall, syntheticIds: readonly string[], notes: readonly string[]): EffectDetail {
  return {
    ...payloadOf(call),
    fidelity: simulateCall(call) === undefined ? 'exact' : 'plausible',
    syntheticIds,
    ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
  }
}

/** What the call would have stored, for calls that get no simulated result too. */
export function payloadOf({ payload }: Call): EffectDetail {
  if (payload === undefined) return {}
  const text = JSON.stringify(payload)
  const digest = createHash('sha256').update(text).digest('hex')
  return {
    payload: { digest, size: Buffer.byteLength(text), contentType: 'application/json', excerpt: payload },
  }
}

function describe({ jobs, ids, method }: Call, target: string): string {
  if (method === 'publish') return `event ${target}`
  if (jobs.length > 1) return `${jobs.length} jobs to ${target}`
  if (jobs.length === 1) return `to ${target}`
  if (ids.length > 0) return `${ids.length} ${ids.length === 1 ? 'job' : 'jobs'} of ${target}`
  return target
}
