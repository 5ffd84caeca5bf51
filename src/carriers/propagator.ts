import type { Baggage, Context, TextMapGetter, TextMapPropagator, TextMapSetter } from '@opentelemetry/api'
import { otel } from '../otel-api.js'
import { withoutFlag } from '../run/bind.js'
import { type Flag, readFlag, versionedFlag } from '../run/flag.js'
import { createRunId, type Run } from '../run/run.js'
import { BAGGAGE_KEY, rememberFlag, runFromBaggage, shared } from '../run/store.js'
import { BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN, HEADER_FLAG, TRACESTATE_KEY } from '../semconv.js'
import { mergeBaggage, mergeTracestate } from './environment.js'
import { injectionMuted } from './outgoing.js'

/**
 * Carries the flag of a dry run in three carriers (baggage, tracestate, a
 * header) around any propagator, so that any one that survives restores the
 * others. `OTEL_PROPAGATORS` cannot switch it off.
 *
 * `drytrace/register` wraps the service's propagator with it. Use it by hand
 * only where a propagator is called directly.
 *
 * @since 0.1.0
 */
export class DryRunPropagator implements TextMapPropagator {
  readonly #inner: TextMapPropagator | undefined

  constructor(inner?: TextMapPropagator) {
    this.#inner = inner
  }

  inject(context: Context, carrier: unknown, setter: TextMapSetter): void {
    const run = runOfContext(context)
    if (run === undefined || injectionMuted()) {
      this.#inner?.inject(run === undefined ? context : withoutRun(context), carrier, setter)
      return
    }
    const written = new Map<string, string>()
    // What the inner propagator writes is merged, not overwritten: it may carry members of its own.
    const spy: TextMapSetter = {
      set(target, key, value) {
        written.set(key.toLowerCase(), value)
        setter.set(target, key, value)
      },
    }
    this.#inner?.inject(sampled(context), carrier, spy)
    setter.set(carrier, 'baggage', mergeBaggage(run, written.get('baggage')))
    if (written.has('traceparent')) setter.set(carrier, 'tracestate', mergeTracestate(run, written.get('tracestate')))
    setter.set(carrier, HEADER_FLAG, versionedFlag(run.id))
  }

  extract(context: Context, carrier: unknown, getter: TextMapGetter): Context {
    const inner = this.#inner?.extract(context, carrier, getter) ?? context
    const read = (name: string): readonly string[] => {
      const value = getter.get(carrier, name)
      return value === undefined ? [] : Array.isArray(value) ? value : [value]
    }
    const flag = readFlag({ baggage: read('baggage'), tracestate: read('tracestate'), header: read(HEADER_FLAG) })
    return flag === undefined ? inner : withFlag(inner, flag)
  }

  fields(): string[] {
    return [...new Set([...(this.#inner?.fields() ?? []), 'baggage', 'tracestate', HEADER_FLAG])]
  }
}

/** The run a context stands for; the ambient one when the context itself is silent. */
export function runOfContext(context: Context): Run | undefined {
  const baggage = context.getValue(BAGGAGE_KEY) as Baggage | undefined
  return (baggage === undefined ? undefined : runFromBaggage(baggage)) ?? shared.runs.getStore() ?? shared.processRun
}

function withFlag(context: Context, flag: Flag): Context {
  const { propagation } = otel()
  const baggage = (propagation.getBaggage(context) ?? propagation.createBaggage())
    .setEntry(BAGGAGE_FLAG, { value: 'true' })
    // Where our own ingress came first, it has made up the id already.
    .setEntry(BAGGAGE_RUN_ID, { value: flag.runId ?? shared.runs.getStore()?.id ?? createRunId() })
  const signed = flag.token === undefined ? baggage : baggage.setEntry(BAGGAGE_TOKEN, { value: flag.token })
  rememberFlag(signed, flag)
  return sampled(propagation.setBaggage(context, signed))
}

function withoutRun(context: Context): Context {
  const { createTraceState, propagation, trace } = otel()
  const baggage = propagation.getBaggage(context)
  const bare = baggage === undefined ? context : propagation.setBaggage(context, withoutFlag(baggage))
  const span = trace.getSpanContext(bare)
  if (span?.traceState?.get(TRACESTATE_KEY) === undefined) return bare
  const state = createTraceState(span.traceState.unset(TRACESTATE_KEY).serialize())
  return trace.setSpanContext(bare, { ...span, traceState: state })
}

/** Parent-based samplers downstream then record the run, whatever the ratio is. */
function sampled(context: Context): Context {
  const { isSpanContextValid, TraceFlags, trace } = otel()
  const span = trace.getSpanContext(context)
  if (span === undefined || !isSpanContextValid(span) || (span.traceFlags & TraceFlags.SAMPLED) !== 0) return context
  return trace.setSpanContext(context, { ...span, traceFlags: span.traceFlags | TraceFlags.SAMPLED })
}
