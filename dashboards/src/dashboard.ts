import {
  DATASOURCES,
  type Dashboard,
  type Panel,
  type PanelDraft,
  type RowDraft,
  SCHEMA_VERSION,
  type Variable,
} from './schema.js'

/** Text the reader types in; also set by links (`?var-<name>=`). */
export function textbox(name: string, label: string, description: string): Variable {
  return { name, type: 'textbox', label, description, query: '', current: { text: '', value: '' }, options: [] }
}

/** A value for links, changed by whoever serves the dashboards from somewhere else. */
export function constant(name: string, value: string): Variable {
  return { name, type: 'constant', query: value, current: { text: value, value }, hide: 2, skipUrlSync: true }
}

/** The values of one label of one metric, all of them selected at first. */
export function labelValues(
  name: string,
  label: string,
  description: string,
  metric: string,
  metricLabel: string,
  regex: string,
): Variable {
  const query = `label_values(${metric}, ${metricLabel})`
  return {
    name,
    type: 'query',
    label,
    description,
    datasource: DATASOURCES.prometheus,
    definition: query,
    query: { query, refId: 'variable' },
    regex,
    multi: true,
    includeAll: true,
    current: { text: ['All'], value: ['$__all'] },
    options: [],
    refresh: 2,
    sort: 1,
  }
}

export interface DashboardOptions {
  readonly uid: string
  readonly title: string
  readonly description: string
  readonly variables: readonly Variable[]
  readonly rows: readonly RowDraft[]
  readonly from: string
  readonly refresh: string
  readonly links?: readonly unknown[]
}

/** Places rows and panels from top to bottom and left to right; ids follow the order. */
export function dashboard(options: DashboardOptions): Dashboard {
  const panels: Panel[] = []
  let id = 0
  let y = 0
  for (const draft of options.rows) {
    const header = { type: 'row', id: ++id, title: draft.title, gridPos: { x: 0, y, w: 24, h: 1 } }
    const repeat = draft.repeat ? { repeat: draft.repeat } : {}
    y += 1
    const placed = place(draft.panels, y, () => ++id)
    if (draft.collapsed) {
      panels.push({ ...header, ...repeat, collapsed: true, panels: placed.panels })
    } else {
      panels.push({ ...header, ...repeat, collapsed: false, panels: [] }, ...placed.panels)
      y = placed.bottom
    }
  }
  return {
    uid: options.uid,
    title: options.title,
    description: options.description,
    tags: ['drytrace'],
    schemaVersion: SCHEMA_VERSION,
    editable: false,
    graphTooltip: 1,
    refresh: options.refresh,
    time: { from: options.from, to: 'now' },
    timezone: 'browser',
    links: options.links ?? [],
    templating: { list: options.variables },
    annotations: { list: [] },
    panels,
  }
}

function place(drafts: readonly PanelDraft[], top: number, nextId: () => number): { panels: Panel[]; bottom: number } {
  const panels: Panel[] = []
  let x = 0
  let y = top
  let lineHeight = 0
  for (const draft of drafts) {
    const { width, height } = draft.options
    if (x + width > 24) {
      x = 0
      y += lineHeight
      lineHeight = 0
    }
    panels.push(panel(draft, nextId(), { x, y, w: width, h: height }))
    x += width
    lineHeight = Math.max(lineHeight, height)
  }
  return { panels, bottom: y + lineHeight }
}

function panel(draft: PanelDraft, id: number, gridPos: Panel['gridPos']): Panel {
  const { options } = draft
  return {
    id,
    type: draft.type,
    title: options.title,
    description: options.description,
    gridPos,
    ...(options.targets?.[0] ? { datasource: options.targets[0].datasource, targets: options.targets } : {}),
    ...(options.repeat ? { repeat: options.repeat, repeatDirection: 'h', maxPerRow: 2 } : {}),
    options: draft.settings,
    fieldConfig: {
      defaults: {
        unit: options.unit,
        ...(options.decimals === undefined ? {} : { decimals: options.decimals }),
        ...(options.min === undefined ? {} : { min: options.min }),
        ...(options.max === undefined ? {} : { max: options.max }),
        ...(options.noValue === undefined ? {} : { noValue: options.noValue }),
        color: { mode: options.thresholds ? 'thresholds' : 'palette-classic' },
        thresholds: { mode: 'absolute', steps: options.thresholds ?? [{ color: 'text', value: null }] },
        mappings: options.mappings ?? [],
        links: options.links ?? [],
        ...(draft.custom ? { custom: draft.custom } : {}),
      },
      overrides: options.overrides ?? [],
    },
  }
}
