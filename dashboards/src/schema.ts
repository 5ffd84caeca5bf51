/**
 * The part of Grafana's dashboard schema that our dashboards use. Classic
 * schema (v1), because file provisioning takes it in every Grafana from 10 on.
 */
export const SCHEMA_VERSION = 42

/** Matches `uid` in `dashboards/provisioning/datasources/drytrace.yaml`. */
export const DATASOURCES = {
  prometheus: { type: 'prometheus', uid: 'prometheus' },
  jaeger: { type: 'jaeger', uid: 'jaeger' },
} as const

export type Datasource = (typeof DATASOURCES)[keyof typeof DATASOURCES]

export interface PrometheusTarget {
  readonly refId: string
  readonly datasource: Datasource
  readonly expr: string
  readonly instant: boolean
  readonly range: boolean
  readonly legendFormat?: string
  readonly format?: 'time_series' | 'table'
}

/** With `queryType` absent, `query` is a trace id. */
export interface JaegerTarget {
  readonly refId: string
  readonly datasource: Datasource
  readonly queryType?: 'search'
  readonly query?: string
  readonly service?: string
  /** logfmt: `key=value key=value`, all of them on one span. */
  readonly tags?: string
  readonly limit?: number
}

export type Target = PrometheusTarget | JaegerTarget

export interface ThresholdStep {
  readonly color: string
  readonly value: number | null
}

export interface DataLink {
  readonly title: string
  readonly url: string
  readonly targetBlank: boolean
}

export interface FieldOverride {
  readonly matcher: { readonly id: 'byName'; readonly options: string }
  readonly properties: readonly { readonly id: string; readonly value: unknown }[]
}

export interface PanelOptions {
  readonly title: string
  readonly description: string
  /** A Grafana unit id: `short`, `percentunit`, `s`, … */
  readonly unit: string
  readonly targets?: readonly Target[]
  /** In twenty-fourths of the width. */
  readonly width: number
  /** In grid rows of about 38 pixels. */
  readonly height: number
  readonly thresholds?: readonly ThresholdStep[]
  readonly decimals?: number
  readonly min?: number
  readonly max?: number
  readonly noValue?: string
  readonly mappings?: readonly unknown[]
  readonly overrides?: readonly FieldOverride[]
  readonly links?: readonly DataLink[]
  /** Name of a variable: one copy of the panel for each of its values. */
  readonly repeat?: string
}

export interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly [property: string]: unknown
}

/** A panel that has not been placed yet. */
export interface PanelDraft {
  readonly type: string
  readonly options: PanelOptions
  readonly settings: Readonly<Record<string, unknown>>
  readonly custom?: Readonly<Record<string, unknown>>
}

export interface RowDraft {
  readonly type: 'row'
  readonly title: string
  readonly repeat?: string
  /** A collapsed row queries nothing until it is opened. */
  readonly collapsed: boolean
  readonly panels: readonly PanelDraft[]
}

export interface Variable {
  readonly name: string
  readonly type: 'query' | 'textbox' | 'constant'
  readonly [property: string]: unknown
}

export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly Variable[] }
  readonly [property: string]: unknown
}
