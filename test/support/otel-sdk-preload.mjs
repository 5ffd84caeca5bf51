// A service's own tracer provider on the SDK that SDK_MODULE names (1.x, 2.x or 3.x), without instrumentations:
// spans go to SPANS_FILE as they end, sampled by the ratio RATIO. Registered at once, or by globalThis.startSdk().
import { openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { context, propagation, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core'

const sdk = createRequire(import.meta.url)(process.env.SDK_MODULE)
const fd = openSync(process.env.SPANS_FILE, 'a')
const writer = {
  onStart() {},
  onEnd(span) {
    const { traceId, spanId, traceFlags, traceState } = span.spanContext()
    const parentSpanId = span.parentSpanContext?.spanId ?? span.parentSpanId
    const { name, kind, attributes } = span
    const line = {
      name,
      kind,
      attributes,
      traceId,
      spanId,
      traceFlags,
      parentSpanId,
      traceState: traceState?.serialize(),
    }
    if ((traceFlags & 1) === 1) writeSync(fd, `${JSON.stringify(line)}\n`)
  },
  async forceFlush() {},
  async shutdown() {},
}

globalThis.startSdk = () => {
  const Provider = sdk.TracerProvider ?? sdk.BasicTracerProvider
  const sampler = new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(Number(process.env.RATIO)) })
  const provider = new Provider({ sampler, spanProcessors: [writer] })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(
    new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
  )
  trace.setGlobalTracerProvider(provider)
}
// A tracer taken before there is a provider is a proxy, and must be met too.
globalThis.earlyTracer = trace.getTracer('early')
if (process.env.SDK_START !== 'later') globalThis.startSdk()
