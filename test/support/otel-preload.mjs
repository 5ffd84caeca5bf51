// A service's own OpenTelemetry: SDK and instrumentations, spans written to SPANS_FILE as they end.
// OTEL_HTTP_INGRESS switches its server side off, or has it ignore every route.
import { openSync, writeSync } from 'node:fs'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { register } from 'import-in-the-middle/register-hooks.mjs'

const fd = openSync(process.env.SPANS_FILE, 'a')
const writer = {
  onStart() {},
  onEnd(span) {
    const { name, kind, attributes, instrumentationScope, parentSpanContext } = span
    const { traceId, spanId, traceState } = span.spanContext()
    const line = {
      name,
      kind,
      attributes,
      scope: instrumentationScope.name,
      traceId,
      spanId,
      parentSpanId: parentSpanContext?.spanId,
      traceState: traceState?.serialize(),
    }
    writeSync(fd, `${JSON.stringify(line)}\n`)
  },
  async forceFlush() {},
  async shutdown() {},
}

const ingress = {
  off: { disableIncomingRequestInstrumentation: true },
  ignore: { ignoreIncomingRequestHook: () => true },
}
register()
new NodeSDK({
  instrumentations: [
    new HttpInstrumentation(ingress[process.env.OTEL_HTTP_INGRESS]),
    new UndiciInstrumentation(),
    new PgInstrumentation(),
  ],
  spanProcessors: [writer],
  autoDetectResources: false,
}).start()
