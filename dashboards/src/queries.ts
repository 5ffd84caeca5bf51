import {
  ATTR_ENABLED,
  ATTR_FLAG_LOST,
  ATTR_OUTCOME,
  ATTR_RUN_ID,
  METRIC_EFFECTS,
  METRIC_GUARD_UP,
  METRIC_HOOK_FAILURES,
} from '../../src/semconv.js'
import { DATASOURCES, type JaegerTarget, type PrometheusTarget } from './schema.js'

/** Where the gateway's own writes are told from those of the canary that tests it (collector/README.md). */
export const NOT_CANARY = 'service!="drytrace-canary"'

/** Prometheus names: what the gateway counts from spans, what guards send, what the gateway says of itself. */
export const METRICS = {
  spans: 'dry_run_spans_total',
  writes: 'dry_run_writes_total',
  unblockedWrites: 'dry_run_unblocked_writes_total',
  flagLostSpans: 'dry_run_flag_lost_spans_total',
  guardUp: prometheusName(METRIC_GUARD_UP),
  hookFailures: `${prometheusName(METRIC_HOOK_FAILURES)}_total`,
  effects: `${prometheusName(METRIC_EFFECTS)}_total`,
  queueSize: 'otelcol_exporter_queue_size',
  queueCapacity: 'otelcol_exporter_queue_capacity',
  up: 'up',
} as const

function prometheusName(name: string): string {
  return name.replaceAll('.', '_')
}

/**
 * How much a counter grew within the dashboard's time range. A counter that
 * is born within the range starts at its first value and not at 0, so
 * increase() misses exactly the first write: the one that matters.
 */
export function grown(metric: string, selector: string, by: readonly string[] = []): string {
  const series = `${metric}{${selector}}`
  const existing = `increase(${series}[$__range]) and ${series} offset $__range`
  const born = `max_over_time(${series}[$__range]) unless ${series} offset $__range`
  return `sum${by.length > 0 ? ` by (${by.join(', ')})` : ''} ((${existing}) or (${born}))`
}

/** 0 where nothing was counted, but only while a gateway is counting: no data is not the same as no write. */
export function zeroWhileCounting(expr: string): string {
  return `(${expr}) or (0 * (sum(${METRICS.up}{job="drytrace-gateway"}) > 0))`
}

export function instant(expr: string, legendFormat?: string): PrometheusTarget {
  return { refId: 'A', datasource: DATASOURCES.prometheus, expr, instant: true, range: false, ...legend(legendFormat) }
}

export function overTime(expr: string, legendFormat?: string, refId = 'A'): PrometheusTarget {
  return { refId, datasource: DATASOURCES.prometheus, expr, instant: false, range: true, ...legend(legendFormat) }
}

function legend(legendFormat?: string): { legendFormat?: string } {
  return legendFormat === undefined ? {} : { legendFormat }
}

/** Traces that have one span of `service` with all of `tags`, newest first. Jaeger searches one service at a time. */
export function search(service: string, tags: Readonly<Record<string, string>>, limit = 50): JaegerTarget {
  const logfmt = Object.entries(tags).map(([key, value]) => `${key}=${value}`)
  return { refId: 'A', datasource: DATASOURCES.jaeger, queryType: 'search', service, tags: logfmt.join(' '), limit }
}

export function byId(traceId: string): JaegerTarget {
  return { refId: 'A', datasource: DATASOURCES.jaeger, query: traceId }
}

export const TAGS = {
  enabled: { [ATTR_ENABLED]: 'true' },
  run: { [ATTR_RUN_ID]: '"$run"' },
  outcome: (outcome: 'blocked' | 'allowed' | 'forwarded' | 'failed' | 'unblocked') => ({ [ATTR_OUTCOME]: outcome }),
  flagLost: { [ATTR_FLAG_LOST]: 'true' },
} as const
