import type { EffectDetail } from '../../../guard/effect.js'
import type { Decision, Guard } from '../../../guard/guard.js'
import { HEADER_FLAG } from '../../../semconv.js'
import type { HttpCall } from '../http-effect.js'
import type { SendHeld } from '../send-held.js'
import type { Exchange, SimulatedResponse } from '../wire-peer.js'
import { NotOverlaid } from './planned-change.js'
import { readJson, wholeRead } from './real-read.js'
import { isOwn, lastSegment, parentOf, type ResourceKey, resourceKey } from './resource-key.js'
import { asPlanned, type Resource, type ResourceOverlay } from './resource-overlay.js'
import { callerOf, resourcesOf, tellNotOverlaid } from './run-resources.js'

/** Told apart from every real answer. */
const MARK = { [HEADER_FLAG]: 'overlaid' }

/** What is not true of a body that is not the service's own. */
const OF_THE_REAL_BODY =
  /^(content-(length|encoding|md5|digest|range)|repr-digest|digest|etag|last-modified|accept-ranges|cache-control|expires|age|pragma)$/

/** A cache of the client's may be shared with live traffic. */
const UNSHARED = { 'cache-control': 'no-store' }

/**
 * The resource that a read of this call must be answered with, when the run
 * would have changed it; undefined for every other read, which is to go on
 * untouched. A read that may show what the run would have changed and cannot
 * be given it is put on record.
 * @throws DryTraceError `DRY_JOURNAL` when that fails
 */
export function plannedRead(guard: Guard, decision: Decision, call: HttpCall): Resource | undefined {
  const { run, effect } = decision
  const overlay = resourcesOf(run)
  if (overlay === undefined || effect.kind !== 'read' || call.upgrade) return undefined
  const { headers = {}, method } = call
  if (/^(OPTIONS|TRACE)$/i.test(method)) return undefined
  const key = resourceKey(call, call.path, headers['host'])
  const resource = overlay.find(key)
  const reason =
    resource === undefined
      ? whyNotSeen(overlay, key)
      : /^(GET|HEAD)$/i.test(method)
        ? whyNotHeld(resource, headers)
        : `it may ask for what ${resource.writes.at(-1)?.summary} would change`
  if (reason === undefined) return resource
  tellNotOverlaid(guard, run, effect.summary, reason)
  return undefined
}

/** For a read whose client cannot be answered. Gives the error of what could not be put on record; never throws. */
export function tellUnanswered(guard: Guard, decision: Decision, call: HttpCall): Error | undefined {
  try {
    if (plannedRead(guard, decision, call) !== undefined)
      tellNotOverlaid(guard, decision.run, decision.effect.summary, 'this client cannot be answered')
    return undefined
  } catch (error) {
    return error as Error
  }
}

const SEARCH = /^_?(search|query|find|list|all|count|export|filter)$/i

function whyNotSeen(overlay: ResourceOverlay, key: ResourceKey): string | undefined {
  const entry = overlay.entriesOf(key)
  if (entry !== undefined) return `it may list what ${entry.summary} would change`
  const parent = SEARCH.test(lastSegment(key)) ? parentOf(key) : undefined
  const found = parent === undefined ? undefined : overlay.entriesUnder(parent)
  if (found !== undefined) return `it may find what ${found.summary} would change`
  const other = overlay.besides(key)
  if (other !== undefined) return `${other.summary} was made with another query`
  const above = overlay.goneAbove(key)
  return above === undefined ? undefined : `${above.summary} would delete what it lies in`
}

function whyNotHeld({ key, unknown, caller }: Resource, headers: Readonly<Record<string, string>>): string | undefined {
  if (unknown !== undefined) return unknown
  if (/text\/event-stream/i.test(headers['accept'] ?? '')) return 'it is read as a stream of events'
  return isOwn(key) && callerOf(headers) !== caller ? 'it was written with other credentials' : undefined
}

export interface HeldRead {
  readonly decision: Decision
  readonly exchange: Exchange
  readonly resource: Resource
  readonly send: SendHeld
  readonly signal: AbortSignal
}

/** Answers a held read with what the run would have made of the resource. The read goes on record before it is sent. */
export async function answerRead(guard: Guard, held: HeldRead): Promise<SimulatedResponse> {
  const { decision, exchange, resource, send, signal } = held
  const { base, writes } = resource
  const overlaidBy = writes.map(({ summary, spanId }) => ({ summary, spanId }))
  const record = (detail: EffectDetail) => guard.record(decision, { fidelity: 'plausible', overlaidBy, ...detail })
  if (base.kind !== 'real') {
    record({ note: 'answered with what this run would have written, without a call', unsent: true })
    if (base.kind === 'gone') return notFound(exchange, resource)
    return document(exchange, { 'content-type': base.contentType }, base.value)
  }
  record({ note: 'the real answer, with what this run would have changed' })
  const real = await send(decision, wholeRead(exchange), signal)
  const missing = real.status === 404 || real.status === 410
  if (exchange.method.toUpperCase() === 'HEAD') return head(exchange, resource, real, missing)
  const relay = (reason: string, answer: SimulatedResponse) => {
    tellNotOverlaid(guard, decision.run, decision.effect.summary, reason)
    return answer
  }
  if (real.status !== 200 && !missing) return relay(`the answer was ${real.status}`, real)
  const read = missing ? { json: undefined, answer: real } : await readJson(real)
  try {
    // What is no JSON is no list: it is gone, and not emptied.
    if ('reason' in read) return deletes(resource) ? notFound(exchange, resource) : relay(read.reason, read.answer)
    const value = asPlanned(resource, read.json)
    if (value === undefined) return missing ? read.answer : notFound(exchange, resource)
    return missing ? document(exchange, JSON_HEADERS, value) : document(exchange, bodiless(real), value)
  } catch (error) {
    if (!(error instanceof NotOverlaid)) throw error
    return relay(error.message, read.answer)
  }
}

const JSON_HEADERS = { 'content-type': 'application/json' }

function deletes({ changes }: Resource): boolean {
  return changes.at(-1)?.change.kind === 'delete'
}

/** What a HEAD says of a body that is not fetched. */
function head(exchange: Exchange, resource: Resource, real: SimulatedResponse, missing: boolean): SimulatedResponse {
  if (deletes(resource)) return missing ? real : notFound(exchange, resource)
  const replaced = resource.changes.some(({ change }) => change.kind === 'replace')
  if (missing) return replaced ? { status: 200, headers: { ...JSON_HEADERS, ...MARK } } : real
  return { ...real, headers: { ...bodiless(real), ...MARK } }
}

function bodiless({ headers = {} }: SimulatedResponse): Record<string, string | string[]> {
  const kept = Object.entries(headers).filter(([name]) => !OF_THE_REAL_BODY.test(name))
  return { ...Object.fromEntries(kept), ...UNSHARED }
}

function document(
  { method }: Exchange,
  headers: Readonly<Record<string, string | string[]>>,
  value: unknown,
  status = 200,
): SimulatedResponse {
  const body = JSON.stringify(value)
  const length: Record<string, string> =
    method.toUpperCase() === 'HEAD' ? { 'content-length': String(Buffer.byteLength(body)) } : {}
  return { status, headers: { ...headers, ...UNSHARED, ...length, ...MARK }, body }
}

function notFound(exchange: Exchange, { writes }: Resource): SimulatedResponse {
  const message = `dry run: ${writes.at(-1)?.summary ?? 'this run'} would have deleted it`
  return document(exchange, JSON_HEADERS, { error: { code: 'not_found', message } }, 404)
}
