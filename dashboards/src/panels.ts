import type { PanelDraft, PanelOptions, RowDraft } from './schema.js'

/** How a dashboard's text refers to a variable: `${name}`. */
export function variable(name: string): string {
  return `$\{${name}}`
}

/** A number with a verdict colour. */
export function stat(options: PanelOptions, calculation: { calc: string; fields: string } = LAST): PanelDraft {
  return {
    type: 'stat',
    options,
    settings: {
      colorMode: 'background',
      graphMode: 'none',
      justifyMode: 'center',
      orientation: 'auto',
      textMode: 'auto',
      reduceOptions: { calcs: [calculation.calc], fields: calculation.fields, values: false },
    },
  }
}

const LAST = { calc: 'lastNotNull', fields: '' }

export function timeSeries(options: PanelOptions): PanelDraft {
  return {
    type: 'timeseries',
    options,
    settings: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
    custom: { drawStyle: 'line', fillOpacity: 10, lineWidth: 1, showPoints: 'auto', spanNulls: false },
  }
}

export function barGauge(options: PanelOptions): PanelDraft {
  return {
    type: 'bargauge',
    options,
    settings: {
      displayMode: 'basic',
      orientation: 'horizontal',
      showUnfilled: true,
      valueMode: 'text',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  }
}

export function stateTimeline(options: PanelOptions): PanelDraft {
  return {
    type: 'state-timeline',
    options,
    settings: {
      alignValue: 'left',
      mergeValues: true,
      rowHeight: 0.9,
      showValue: 'never',
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
      tooltip: { mode: 'single', sort: 'none' },
    },
    custom: { fillOpacity: 70, lineWidth: 0 },
  }
}

export function table(options: PanelOptions): PanelDraft {
  return { type: 'table', options, settings: { cellHeight: 'sm', showHeader: true } }
}

/** The spans of one trace as a waterfall, with their attributes. */
export function trace(options: PanelOptions): PanelDraft {
  return { type: 'traces', options, settings: {} }
}

export function markdown(options: PanelOptions, content: string): PanelDraft {
  return { type: 'text', options, settings: { mode: 'markdown', content } }
}

export function row(title: string, panels: readonly PanelDraft[], options: Partial<RowDraft> = {}): RowDraft {
  return { type: 'row', title, collapsed: false, ...options, panels }
}
