import { context } from '@opentelemetry/api'
import type { HttpCall } from './http-effect.js'

const SUPPRESSED = Symbol.for('OpenTelemetry SDK Context Key SUPPRESS_TRACING')
const ENDPOINTS = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
  'OTEL_EXPORTER_OTLP_METRICS_ENDPOINT',
  'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT',
] as const
const DEFAULT_ENDPOINT = 'http://localhost:4318'

/**
 * True for an OTLP export: tracing is suppressed AND the target is a
 * configured endpoint; either alone would be a hole. A batch is exported from
 * the context of whoever ended its first span, so blocking it would lose the
 * spans of live traffic too.
 */
export function isTelemetryExport(call: HttpCall): boolean {
  if (context.active().getValue(SUPPRESSED) !== true) return false
  return endpoints().some((endpoint) => sameOrigin(endpoint, call))
}

function endpoints(): string[] {
  const configured = ENDPOINTS.flatMap((name) => {
    const value = process.env[name]
    return value === undefined || value === '' ? [] : [value]
  })
  return configured.length > 0 ? configured : [DEFAULT_ENDPOINT]
}

function sameOrigin(endpoint: string, call: HttpCall): boolean {
  const url = URL.parse(endpoint)
  if (url === null || url.protocol !== call.protocol) return false
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  return port === call.port && hostOf(url.hostname) === hostOf(call.host)
}

function hostOf(host: string): string {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || bare === '127.0.0.1' ? 'loopback' : bare
}
