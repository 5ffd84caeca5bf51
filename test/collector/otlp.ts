import { randomBytes } from 'node:crypto'

/** OTLP JSON by hand: what a service of any language would send, with no SDK of ours in between. */
export interface OtlpAttribute {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly boolValue?: boolean; readonly intValue?: string | number }
}

export interface OtlpSpan {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly traceState?: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly OtlpAttribute[]
}

export const KIND = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 } as const

export interface SpanOptions {
  readonly kind?: keyof typeof KIND
  readonly traceState?: string
  /** A span without a parent is the root of its trace. */
  readonly parent?: string | null
}

export type Values = Readonly<Record<string, string | number | boolean>>

/** The spans of one trace of one service. */
export class Trace {
  readonly traceId = randomBytes(16).toString('hex')
  readonly rootId = randomBytes(8).toString('hex')
  readonly spans: OtlpSpan[] = []

  add(name: string, attributes: Values, options: SpanOptions = {}): this {
    const root = options.parent === null
    this.spans.push({
      name,
      traceId: this.traceId,
      spanId: root ? this.rootId : randomBytes(8).toString('hex'),
      ...(root ? {} : { parentSpanId: options.parent ?? this.rootId }),
      ...(options.traceState === undefined ? {} : { traceState: options.traceState }),
      kind: KIND[options.kind ?? 'client'],
      startTimeUnixNano: `${Date.now()}000000`,
      endTimeUnixNano: `${Date.now() + 1}000000`,
      attributes: otlpAttributes(attributes),
    })
    return this
  }

  request(service: string): unknown {
    return {
      resourceSpans: [
        { resource: { attributes: otlpAttributes({ 'service.name': service }) }, scopeSpans: [{ spans: this.spans }] },
      ],
    }
  }
}

export function otlpAttributes(values: Values): OtlpAttribute[] {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value:
      typeof value === 'string'
        ? { stringValue: value }
        : typeof value === 'boolean'
          ? { boolValue: value }
          : { intValue: String(value) },
  }))
}

/** Cumulative counters and gauges, as a stock metrics SDK sends them. */
export function metricsRequest(
  resource: Values,
  metrics: readonly { name: string; kind: 'gauge' | 'sum'; value: number; attributes?: Values }[],
): unknown {
  const time = `${Date.now()}000000`
  return {
    resourceMetrics: [
      {
        resource: { attributes: otlpAttributes(resource) },
        scopeMetrics: [
          {
            metrics: metrics.map(({ name, kind, value, attributes = {} }) => {
              const dataPoints = [
                {
                  attributes: otlpAttributes(attributes),
                  startTimeUnixNano: time,
                  timeUnixNano: time,
                  asInt: String(value),
                },
              ]
              return kind === 'gauge'
                ? { name, gauge: { dataPoints } }
                : { name, sum: { dataPoints, aggregationTemporality: 2, isMonotonic: true } }
            }),
          },
        ],
      },
    ],
  }
}
