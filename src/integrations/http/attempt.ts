import { createHash } from 'node:crypto'
import type { Span } from '@opentelemetry/api'
import type { Decision } from '../../guard/guard.js'
import type { Attempt } from '../../journal/record.js'
import { otel } from '../../otel-api.js'
import type { Run } from '../../run/run.js'
import type { Exchange } from './wire-peer.js'

/** What clients give all attempts of one call: Stripe and others, AWS, Azure, Google Cloud Storage. */
const INTENT_HEADERS = [
  'idempotency-key',
  'x-idempotency-key',
  'amz-sdk-invocation-id',
  'x-ms-client-request-id',
  'x-goog-gcs-idempotency-token',
] as const

const clocks = new WeakMap<Run, number>()

/** A point in time of a run that no other call of it shares. */
export function tick(run: Run): number {
  const now = (clocks.get(run) ?? 0) + 1
  clocks.set(run, now)
  return now
}

/**
 * What the record of a blocked request says for telling its retries from a second request.
 *
 * @param answer status the caller gets
 * @param began {@link tick} at the time the request was decided
 */
export function attemptOf(decision: Decision, exchange: Exchange, answer: number | null, began: number): Attempt {
  const { run, effect } = decision
  const { method, path, headers, body } = exchange
  const { host = '', port = '' } = effect.match
  const intent = INTENT_HEADERS.flatMap((name) => (headers[name] === undefined ? [] : [`${name}: ${headers[name]}`]))
  const number = numberOf(headers)
  return {
    request: digest([method, host, port, headers['host'] ?? '', path, body.digest]),
    ...(intent.length === 0 ? {} : { intent: digest(intent) }),
    ...(number === undefined ? {} : { number }),
    caller: callerSpan(decision),
    answer,
    began,
    recorded: tick(run),
  }
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32)
}

/** `x-stainless-retry-count` of OpenAI's and Anthropic's clients counts from 0, `amz-sdk-request` from 1. */
function numberOf(headers: Exchange['headers']): number | undefined {
  const stainless = headers['x-stainless-retry-count']
  if (stainless !== undefined && /^\d+$/.test(stainless)) return Number(stainless)
  const aws = /\battempt=(\d+)/.exec(headers['amz-sdk-request'] ?? '')?.[1]
  return aws === undefined ? undefined : Math.max(0, Number(aws) - 1)
}

/** The library's own span is made for every attempt anew; SDK 1.x and 2.x name its parent differently. */
function callerSpan({ context, librarySpan, entry }: Decision): string | null {
  const active = otel().trace.getSpan(context)
  if (active === undefined) return entry?.parentSpanId ?? null
  if (active !== librarySpan) return active.spanContext().spanId
  const { parentSpanContext, parentSpanId } = active as Span & {
    parentSpanContext?: { spanId: string }
    parentSpanId?: string
  }
  return parentSpanContext?.spanId ?? parentSpanId ?? null
}
