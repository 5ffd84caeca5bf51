import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace'
import { register as registerEsmHooks } from 'import-in-the-middle/register-hooks.mjs'

// Instrumentations meet ES modules through these; without them an `import pg` makes no spans.
registerEsmHooks()

const sdk = new NodeSDK({
  instrumentations: [
    new HttpInstrumentation(),
    new UndiciInstrumentation(),
    // A span for a pooled connection that merely waits tells nobody anything.
    new PgInstrumentation({ requireParentSpan: true, ignoreConnectSpans: true }),
  ],
  spanProcessors: [
    // A second, not the default five: what a kill -9 loses of the picture. The journal loses nothing.
    new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), scheduledDelayMillis: 1_000 }),
  ],
})
sdk.start()

// Never a SIGTERM listener: it would take away Node's own default and keep the service alive.
process.once('beforeExit', () => {
  sdk.shutdown().catch((error: unknown) => process.emitWarning(String(error), { type: 'DryTraceWarning' }))
})
