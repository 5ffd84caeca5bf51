import { isOtlpEndpoint } from '../../guard/otlp-endpoints.js'
import { activeContext } from '../../otel-api.js'
import type { HttpCall } from './http-effect.js'

const SUPPRESSED = Symbol.for('OpenTelemetry SDK Context Key SUPPRESS_TRACING')

/**
 * True for an OTLP export: tracing is suppressed AND the target is a
 * configured endpoint; either alone would be a hole. A batch is exported from
 * the context of whoever ended its first span, so blocking it would lose the
 * spans of live traffic too.
 */
export function isTelemetryExport(call: HttpCall): boolean {
  return activeContext()?.getValue(SUPPRESSED) === true && isOtlpEndpoint(call.host, call.port)
}
