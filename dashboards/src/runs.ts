import { constant, dashboard, labelValues } from './dashboard.js'
import { barGauge, row, stat, stateTimeline, table, timeSeries, variable } from './panels.js'
import { grown, instant, METRICS, NOT_CANARY, overTime, search, TAGS, zeroWhileCounting } from './queries.js'
import type { DataLink, FieldOverride } from './schema.js'

const GREEN_RED = [
  { color: 'green', value: null },
  { color: 'red', value: 1 },
]

export const jaegerUrl = constant('jaeger_url', 'http://localhost:16686')

export const service = labelValues(
  'service',
  'Service',
  'Services that took part in dry runs.',
  METRICS.spans,
  'service',
  '/^(?!drytrace-canary$).*/',
)

const openTrace: readonly DataLink[] = [
  {
    title: 'This trace, with its run',
    url: `/d/drytrace-run?var-trace=${variable('__value.raw')}&${variable('__url_time_range')}`,
    targetBlank: false,
  },
  { title: 'In Jaeger', url: `${variable('jaeger_url')}/trace/${variable('__value.raw')}`, targetBlank: true },
]

/** What a row of a Jaeger search leads to. */
export const traceLinks: readonly FieldOverride[] = [
  { matcher: { id: 'byName', options: 'Trace ID' }, properties: [{ id: 'links', value: openTrace }] },
]

const verdict = row('Is it safe?', [
  stat({
    title: 'Un-blocked writes',
    description:
      'Write operations that reached a live system inside a dry run, in the time range. Must be 0. "not counting" means that no gateway is being scraped: then nothing is known.',
    unit: 'short',
    decimals: 0,
    noValue: 'not counting',
    thresholds: GREEN_RED,
    width: 6,
    height: 5,
    targets: [instant(zeroWhileCounting(grown(METRICS.unblockedWrites, NOT_CANARY)))],
    links: [
      {
        title: 'Find them in Jaeger',
        url: `${variable('jaeger_url')}/search?service=__all_services__&tags=%7B%22dry_run.outcome%22%3A%22unblocked%22%7D&lookback=1h&limit=50`,
        targetBlank: true,
      },
    ],
  }),
  stat({
    title: 'Blocked share of writes',
    description:
      'Blocked writes as a share of all writes seen in dry runs. The rest was forwarded to a dry peer, allowed by a rule with an owner, failed closed, or un-blocked.',
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    max: 1,
    noValue: 'no writes',
    thresholds: [{ color: 'blue', value: null }],
    width: 4,
    height: 5,
    targets: [
      instant(`${grown(METRICS.writes, `${NOT_CANARY},outcome="blocked"`)} / ${grown(METRICS.writes, NOT_CANARY)}`),
    ],
  }),
  stat({
    title: 'Guard failures',
    description:
      'Errors in drytrace itself, as the guards count them. It fails closed: the calls were not executed. Not the application’s own errors.',
    unit: 'short',
    decimals: 0,
    noValue: 'no metrics',
    thresholds: GREEN_RED,
    width: 4,
    height: 5,
    targets: [instant(grown(METRICS.hookFailures, ''))],
  }),
  stat({
    title: 'Writes that lost the flag',
    description:
      'Writes without the marker inside a trace that is a dry run. Either the flag was lost on the way, or the span belongs to the live work around it: look at each.',
    unit: 'short',
    decimals: 0,
    noValue: 'not counting',
    thresholds: [
      { color: 'green', value: null },
      { color: 'orange', value: 1 },
    ],
    width: 4,
    height: 5,
    targets: [instant(zeroWhileCounting(grown(METRICS.flagLostSpans, 'write="true"')))],
  }),
  stat({
    title: 'Canary writes in 5 minutes',
    description:
      'Deliberately un-blocked writes of the service drytrace-canary that detection has seen. With a canary running, 0 means that detection is broken somewhere.',
    unit: 'short',
    decimals: 0,
    noValue: 'no canary',
    thresholds: [
      { color: 'red', value: null },
      { color: 'green', value: 1 },
    ],
    width: 3,
    height: 5,
    targets: [instant(`sum(increase(${METRICS.unblockedWrites}{service="drytrace-canary"}[5m]))`)],
  }),
  stat({
    title: 'Audit queue',
    description:
      'How full the on-disk queue between the gateway and the trace store is. A full queue holds the services back.',
    unit: 'percentunit',
    decimals: 0,
    min: 0,
    max: 1,
    noValue: 'not scraped',
    thresholds: [
      { color: 'green', value: null },
      { color: 'orange', value: 0.5 },
      { color: 'red', value: 0.7 },
    ],
    width: 3,
    height: 5,
    targets: [
      instant(`max(${METRICS.queueSize}{exporter=~".*audit"} / ${METRICS.queueCapacity}{exporter=~".*audit"})`),
    ],
  }),
])

const writes = row('What would have happened', [
  barGauge({
    title: 'Writes by system and outcome',
    description:
      'Every write seen in dry runs in the time range, each counted once, by the system it was for and by what became of it.',
    unit: 'short',
    decimals: 0,
    noValue: 'no writes',
    width: 12,
    height: 8,
    targets: [instant(grown(METRICS.writes, NOT_CANARY, ['system', 'outcome']), '{{system}} {{outcome}}')],
  }),
  barGauge({
    title: 'Writes by service',
    description: 'Every write seen in dry runs in the time range, by the service that tried it.',
    unit: 'short',
    decimals: 0,
    noValue: 'no writes',
    width: 12,
    height: 8,
    targets: [instant(grown(METRICS.writes, NOT_CANARY, ['service']), '{{service}}')],
  }),
  timeSeries({
    title: 'Writes per minute by outcome',
    description: 'The pace of dry runs. A counter’s very first write is not in a rate: the bars above have it.',
    unit: 'wpm',
    min: 0,
    width: 12,
    height: 8,
    targets: [
      overTime(`60 * sum by (outcome) (rate(${METRICS.writes}{${NOT_CANARY}}[$__rate_interval]))`, '{{outcome}}'),
    ],
  }),
  timeSeries({
    title: 'Effects: said by guards, seen in spans',
    description:
      'Blocked effects as the guards count them, beside blocked writes as the gateway counts them from spans. Lines that drift apart mean that spans are lost on the way.',
    unit: 'short',
    min: 0,
    width: 12,
    height: 8,
    targets: [
      overTime(`sum by (service) (increase(${METRICS.effects}{outcome="blocked"}[5m]))`, '{{service}} said'),
      overTime(
        `sum by (service) (increase(${METRICS.writes}{outcome="blocked",${NOT_CANARY}}[5m]))`,
        '{{service}} seen',
        'B',
      ),
    ],
  }),
])

const health = row('Are the guards alive?', [
  stateTimeline({
    title: 'Guard heartbeat',
    description: 'One line for each service whose guard reports. A gap while dry runs go on raises DryRunGuardSilent.',
    unit: 'none',
    noValue: 'no guard reports metrics',
    mappings: [{ type: 'value', options: { '1': { text: 'up', color: 'green', index: 0 } } }],
    width: 12,
    height: 7,
    targets: [overTime(`max by (service) (${METRICS.guardUp})`, '{{service}}')],
  }),
  timeSeries({
    title: 'Guard failures by hook',
    description: 'Errors in drytrace itself within five minutes, by service and hook.',
    unit: 'short',
    min: 0,
    noValue: 'none',
    width: 12,
    height: 7,
    targets: [overTime(`sum by (service, hook) (increase(${METRICS.hookFailures}[5m])) > 0`, '{{service}} {{hook}}')],
  }),
])

const traces = row('Runs', [
  table({
    title: 'Dry runs of $service',
    description:
      'The newest traces of dry runs that this service took part in. The trace id opens the trace and its run.',
    unit: 'none',
    noValue: 'none in this time range',
    overrides: traceLinks,
    width: 24,
    height: 9,
    repeat: 'service',
    targets: [search('$service', TAGS.enabled, 100)],
  }),
])

/** All dry runs: is it safe, what would have happened, are the guards alive, which runs were there. */
export const runs = dashboard({
  uid: 'drytrace-runs',
  title: 'Dry runs',
  description: 'All dry runs of all services: what would have happened, and whether anything got through.',
  from: 'now-6h',
  refresh: '10s',
  variables: [service, jaegerUrl],
  rows: [verdict, writes, health, traces],
})
