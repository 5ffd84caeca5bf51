import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parse } from 'yaml'
import * as semconv from '../../src/semconv.js'

export const ROOT = join(import.meta.dirname, '../..')

export type Tree = { readonly [key: string]: Tree } & { readonly [Symbol.iterator]?: never }

export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** A YAML file as plain data. Keys given twice are an error. */
export function yaml<T = Tree>(path: string): T {
  return parse(read(path), { merge: false, uniqueKeys: true, strict: true }) as T
}

/** Paths, relative to the repository, of all files in a folder and below it. */
export function filesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort()
}

const CONSTANTS = Object.entries(semconv as Record<string, unknown>).filter(
  (entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1].startsWith('dry_run.'),
)

/** `dry_run.*` attributes of the guard, and the baggage keys a collector sees as attributes. */
export const GUARD_ATTRIBUTES = CONSTANTS.filter(([name]) => !name.startsWith('METRIC_')).map(([, value]) => value)
export const GUARD_METRICS = CONSTANTS.filter(([name]) => name.startsWith('METRIC_')).map(([, value]) => value)

/** What the gateway adds to spans. */
export const COLLECTOR_ATTRIBUTES = ['dry_run.marker.source', 'dry_run.write', 'dry_run.confidence']

/** Every complete `dry_run.…` name in a text, whatever it names. */
export function dottedNames(text: string): string[] {
  return [...new Set(text.match(/(?<![\w.])dry_run\.[a-z]+(?:[._][a-z]+)*/g) ?? [])]
}

/** Every Prometheus metric name of ours or of the collector itself in a text. */
export function metricNames(text: string): string[] {
  return [...new Set(text.match(/(?<![\w.])(?:dry_run|otelcol)_[a-z_]+/g) ?? [])]
}

interface SpanMetric {
  readonly name: string
  readonly sum?: { readonly monotonic?: boolean }
}

interface Gateway {
  readonly connectors: Readonly<Record<string, { readonly spans?: readonly SpanMetric[] }>>
}

/** Metrics that the gateway counts from spans, by their OpenTelemetry names. */
export function spanMetrics(): SpanMetric[] {
  return Object.values(yaml<Gateway>('collector/gateway.yaml').connectors).flatMap((connector) => connector.spans ?? [])
}

/** Prometheus names of all our metrics: counters end in `_total`. */
export function prometheusNames(): string[] {
  const counted = spanMetrics().map((metric) => `${underscored(metric.name)}_total`)
  const sent = GUARD_METRICS.map((name) =>
    name === semconv.METRIC_GUARD_UP ? underscored(name) : `${underscored(name)}_total`,
  )
  return [...counted, ...sent]
}

function underscored(name: string): string {
  return name.replaceAll('.', '_')
}

/** What the collector says of itself, as a running gateway serves it (gateway.test.ts proves it). */
export const SELF_METRICS = [
  'otelcol_exporter_queue_size',
  'otelcol_exporter_queue_capacity',
  'otelcol_exporter_enqueue_failed_spans_total',
  'otelcol_exporter_send_failed_spans_total',
]
