const NAMES = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
  'OTEL_EXPORTER_OTLP_METRICS_ENDPOINT',
  'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT',
] as const

/** Where exporters go when nothing is configured (OTLP exporter specification): HTTP and gRPC. */
const DEFAULTS = ['http://localhost:4318', 'http://localhost:4317'] as const

/** True when host and port are a configured OTLP endpoint of this process. */
export function isOtlpEndpoint(host: string, port: number | undefined): boolean {
  return endpoints().some((endpoint) => {
    const url = URL.parse(endpoint)
    if (url === null) return false
    const expected = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
    return expected === port && hostOf(url.hostname) === hostOf(host)
  })
}

function endpoints(): readonly string[] {
  const configured = NAMES.flatMap((name) => (process.env[name] ? [process.env[name]] : []))
  return configured.length > 0 ? configured : DEFAULTS
}

function hostOf(host: string): string {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || bare === '127.0.0.1' ? 'loopback' : bare
}
