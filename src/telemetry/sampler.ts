import type { Attributes, Context, Link, SpanKind, TraceState } from '@opentelemetry/api'
import { mergeTracestate } from '../carriers/environment.js'
import { runOfContext } from '../carriers/propagator.js'
import { otel } from '../otel-api.js'

/** The SDK's sampler, structurally: the SDK is never imported on the guard path. */
export interface Sampler {
  shouldSample(
    context: Context,
    traceId: string,
    spanName: string,
    spanKind: SpanKind,
    attributes: Attributes,
    links: Link[],
  ): SamplingResult
  toString(): string
}

export interface SamplingResult {
  decision: number
  attributes?: Readonly<Attributes>
  traceState?: TraceState
}

const RECORD_AND_SAMPLED = 2

/**
 * Records every span of a dry run whatever the inner sampler says, and sets
 * tracestate, which every stock SDK in every language inherits and exports:
 * so a collector sees the run in services that know nothing of drytrace.
 *
 * @since 0.1.0
 */
export class DryRunSampler implements Sampler {
  readonly #inner: Sampler

  constructor(inner: Sampler) {
    this.#inner = inner
  }

  shouldSample(...args: Parameters<Sampler['shouldSample']>): SamplingResult {
    const result = this.#inner.shouldSample(...args)
    const run = runOfContext(args[0])
    if (run === undefined) return result
    const { createTraceState, trace } = otel()
    const before = result.traceState ?? trace.getSpanContext(args[0])?.traceState
    return {
      ...result,
      decision: RECORD_AND_SAMPLED,
      traceState: createTraceState(mergeTracestate(run, before?.serialize())),
    }
  }

  toString(): string {
    return `DryRunSampler{${this.#inner.toString()}}`
  }
}
