// A service's own OpenTelemetry: SDK and instrumentations, spans written to SPANS_FILE as they end.
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

register()
new NodeSDK({
  instrumentations: [new HttpInstrumentation(), new UndiciInstrumentation(), new PgInstrumentation()],
  spanProcessors: [writer],
  autoDetectResources: false,
}).start()
