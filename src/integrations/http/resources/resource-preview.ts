import { messageOf } from '../../../errors.js'
import type { Decision, Guard, Hook } from '../../../guard/guard.js'
import type { FieldChange, Preview } from '../../../journal/record.js'
import { otel } from '../../../otel-api.js'
import { VERSION } from '../../../version.js'
import { BodyCapture } from '../body-capture.js'
import { classifyHttp, type HttpCall, suspicion } from '../http-effect.js'
import type { SendHeld } from '../send-held.js'
import type { Exchange } from '../wire-peer.js'
import { fieldChanges } from './field-changes.js'
import { isItem } from './json-value.js'
import { applyChange, methodOf, NotOverlaid, type PlannedChange, plannedChange } from './planned-change.js'
import { readJson, wholeRead } from './real-read.js'
import { lastSegment, namesItem, type ResourceKey, resourceKey } from './resource-key.js'
import { asPlanned, type Resource } from './resource-overlay.js'
import { resourcesOf } from './run-resources.js'

const HOOK: Hook = { name: 'preview', version: VERSION }

/** Milliseconds a blocked request waits for the read before it; its caller waits with it. */
const DEADLINE = 3_000

/** Headers about a body, about conditions on the change, or that mark this very request. */
const OF_THE_WRITE =
  /^(content-.*|digest|expect|transfer-encoding|trailer|te|prefer|x-http-method.*|(x-)?idempotency-key|x-stainless-.*|amz-sdk-.*|x-amz-content-sha256)$/

export interface ChangePreview {
  readonly preview: Preview
  /** The resource as it would be; absent where that is not known, or it would be gone. */
  readonly after?: unknown
}

/** What a request is, before anything of it is simulated. */
export interface Previewed {
  readonly decision: Decision
  readonly call: HttpCall
  readonly exchange: Exchange
  readonly send: SendHeld | undefined
  readonly signal: AbortSignal
}

/**
 * The difference a blocked request would have made, field by field, over what
 * the run has changed before. Needs the real resource, which is read once where
 * the policy says `preview: get`, or one that only this run knows. Undefined
 * where there is nothing to compare; never an error but the journal's.
 */
export async function previewChange(guard: Guard, previewed: Previewed): Promise<ChangePreview | undefined> {
  const { decision, call, exchange, send } = previewed
  const key = resourceKey(call, exchange.path, exchange.headers['host'])
  const known = resourcesOf(decision.run)?.find(key)
  // The body is taken apart only where there is something to compare it with.
  if (exchange.upgrade || known?.base.kind === 'gone') return undefined
  if (known?.base.kind !== 'planned' && decision.mayRead !== true) return undefined
  const change = plannedChange(exchange)
  if (change === undefined || !/^(create|update|upsert|delete)$/.test(decision.effect.action ?? '')) return undefined
  if (known?.base.kind === 'planned') return compare(guard, decision, change, known.base.value, 'synthesized')
  const post = methodOf(exchange) === 'POST'
  // A POST to a collection makes something new.
  if (post && !namesItem(key)) return undefined
  if (change.kind === 'unknown') return noDiff(change.reason)
  if (send === undefined) return noDiff('this client cannot make the read')
  const read = await readFirst(guard, previewed, send)
  if ('reason' in read) return noDiff(read.reason)
  return compareWithReal(guard, decision, { change, key, known, post }, read.json)
}

interface Comparison {
  readonly change: PlannedChange
  readonly key: ResourceKey
  readonly known: Resource | undefined
  readonly post: boolean
}

function compareWithReal(
  guard: Guard,
  decision: Decision,
  { change, key, known, post }: Comparison,
  real: unknown,
): ChangePreview | undefined {
  if (post && !isItem(real, lastSegment(key))) return undefined
  try {
    const before = known === undefined ? real : asPlanned(known, real)
    return compare(guard, decision, change, before, 'select')
  } catch (error) {
    if (!(error instanceof NotOverlaid)) throw error
    return noDiff(error.message)
  }
}

function compare(
  guard: Guard,
  { effect }: Decision,
  change: PlannedChange,
  before: unknown,
  method: 'select' | 'synthesized',
): ChangePreview {
  try {
    const after = applyChange(before, change)
    const { diff, left } = fieldChanges(before, after, { target: effect.target, redact: guard.redact })
    const rows = before === undefined && after === undefined ? 0 : 1
    return { preview: { method, rows, diff, notes: notesOf(change, diff, left) }, after }
  } catch (error) {
    if (!(error instanceof NotOverlaid)) throw error
    return noDiff(error.message)
  }
}

function notesOf(change: PlannedChange, diff: readonly FieldChange[], left: number): string[] {
  const dropped = change.kind === 'replace' && diff.some((each) => 'before' in each && !('after' in each))
  return [
    ...(dropped ? ['a PUT replaces: fields it does not name are taken to be gone'] : []),
    ...(left > 0 ? [`the diff has ${MORE(left)}`] : []),
  ]
}

const MORE = (left: number) => (left === 1 ? '1 more field' : `${left} more fields`)

function noDiff(reason: string): ChangePreview {
  return { preview: { method: 'synthesized', rows: 1, diff: [], notes: [`no diff: ${reason}`] } }
}

/** One GET of our own, by the caller's client and in the caller's name; on record like any read. */
async function readFirst(
  guard: Guard,
  { decision, call, exchange, signal }: Previewed,
  send: SendHeld,
): Promise<{ readonly json: unknown } | { readonly reason: string }> {
  const { run, effect } = decision
  const headers = Object.fromEntries(Object.entries(exchange.headers).filter(([name]) => !OF_THE_WRITE.test(name)))
  const get: Exchange = wholeRead({ ...exchange, method: 'GET', headers, body: new BodyCapture().finish() })
  const read: HttpCall = { ...call, method: 'GET', path: exchange.path, headers: get.headers, headersFinal: true }
  const asked = classifyHttp(read)
  if (!guard.isPlainRead(asked) || suspicion(read, guard) !== undefined) {
    return { reason: `the policy does not take ${asked.summary} for a plain read` }
  }
  const reading = otel().context.with(decision.context, () => guard.decide(run, HOOK, () => asked))
  if (reading.verdict !== 'allow') return { reason: `${asked.summary} was not let through` }
  guard.record(reading, { note: `read by drytrace, for the diff of ${effect.summary}`, ownRead: true })
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE)])
    const { promise: late, reject } = Promise.withResolvers<never>()
    deadline.addEventListener('abort', () => reject(new Error(`no whole answer in ${DEADLINE} ms`)), { once: true })
    late.catch(() => {})
    return await Promise.race([answerOf(send(reading, get, deadline), asked.summary), late])
  } catch (error) {
    return { reason: `${asked.summary} failed: ${messageOf(error)}` }
  }
}

async function answerOf(sent: ReturnType<SendHeld>, summary: string) {
  const answer = await sent
  const read = await readJson(answer)
  if (!('json' in read) || answer.status !== 200) await discard(read.answer.body)
  if (answer.status === 404 || answer.status === 410) return { json: undefined }
  if (answer.status !== 200) return { reason: `${summary} answered ${answer.status}` }
  return 'json' in read ? { json: read.json } : { reason: read.reason }
}

/** What nobody reads would keep its connection. */
async function discard(body: Awaited<ReturnType<SendHeld>>['body']): Promise<void> {
  if (typeof body !== 'object' || !(Symbol.asyncIterator in body)) return
  await body[Symbol.asyncIterator]().return?.()
}
