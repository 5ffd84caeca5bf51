import { dashboard, textbox } from './dashboard.js'
import { markdown, row, stat, table, trace } from './panels.js'
import { byId, search, TAGS } from './queries.js'
import { jaegerUrl, service, traceLinks } from './runs.js'
import type { PanelDraft } from './schema.js'

const HOW_TO_READ = `**Run \`$run\`.** Everything below \`Un-blocked\` and \`Guard failed\` must be empty. A trace id opens the trace further down, where each blocked call has its target, its rule and the change it would have made (\`dry_run.preview.diff\`).

Record by record, with old and new values: \`drytrace report $run\`. Proof that the record is whole: \`drytrace verify $run\`.`

interface Finding {
  readonly title: string
  readonly description: string
  readonly tags: Readonly<Record<string, string>>
}

function findings({ title, description, tags }: Finding): PanelDraft {
  return table({
    title,
    description: `${description} Traces of this run with such a span of $service, newest first.`,
    unit: 'none',
    noValue: 'none',
    overrides: traceLinks,
    width: 12,
    height: 7,
    targets: [search('$service', { ...TAGS.run, ...tags })],
  })
}

const verdict = stat(
  {
    title: 'Traces with an un-blocked write',
    description: 'How many traces of this run hold a write of $service that reached a live system. Must be 0.',
    unit: 'short',
    decimals: 0,
    noValue: '0',
    thresholds: [
      { color: 'green', value: null },
      { color: 'red', value: 1 },
    ],
    width: 6,
    height: 5,
    targets: [search('$service', { ...TAGS.run, ...TAGS.outcome('unblocked') })],
  },
  { calc: 'count', fields: '/^(Trace ID|traceID)$/' },
)

const allTraces = table({
  title: 'Traces of the run',
  description: 'Every trace of this run that $service took part in, newest first.',
  unit: 'none',
  noValue: 'none: is the run id right, and the time range?',
  overrides: traceLinks,
  width: 18,
  height: 5,
  targets: [search('$service', TAGS.run)],
})

const perService = row(
  '$service',
  [
    verdict,
    allTraces,
    findings({
      title: 'Un-blocked',
      description: 'A write that nobody decided on reached a live system. Must be empty.',
      tags: TAGS.outcome('unblocked'),
    }),
    findings({
      title: 'Guard failed',
      description: 'drytrace itself failed, so the call was not executed and the run is incomplete. Must be empty.',
      tags: TAGS.outcome('failed'),
    }),
    findings({
      title: 'Blocked',
      description: 'Writes that were simulated: what the run would have done.',
      tags: TAGS.outcome('blocked'),
    }),
    findings({
      title: 'Forwarded',
      description: 'Calls sent on with the flag, to a peer that proved it runs dry, or to a shadow queue.',
      tags: TAGS.outcome('forwarded'),
    }),
    findings({
      title: 'Allowed',
      description: 'Reads, and writes that a policy rule with an owner and a reason lets through.',
      tags: TAGS.outcome('allowed'),
    }),
    findings({
      title: 'Flag lost',
      description: 'The flag did not arrive on its own and was restored, or was missing where it should have been.',
      tags: TAGS.flagLost,
    }),
  ],
  { repeat: 'service' },
)

/** One dry run, found by its id; one trace of it, found by its own. */
export const run = dashboard({
  uid: 'drytrace-run',
  title: 'One dry run',
  description: 'What one dry run would have done, service by service, and whether anything got through.',
  from: 'now-6h',
  refresh: '',
  variables: [
    textbox('run', 'Run id', 'As the report, the journal and the attribute dry_run.run.id give it.'),
    textbox('trace', 'Trace id', 'One trace to show in full. Links from Jaeger and from the tables set it.'),
    service,
    jaegerUrl,
  ],
  links: [
    {
      type: 'link',
      title: 'All dry runs',
      url: '/d/drytrace-runs',
      keepTime: true,
      targetBlank: false,
      icon: 'dashboard',
    },
  ],
  rows: [
    row('How to read this', [
      markdown(
        {
          title: 'The run',
          description: 'What to look at first, and where the change to each record is shown.',
          unit: 'none',
          width: 24,
          height: 4,
        },
        HOW_TO_READ,
      ),
    ]),
    // Collapsed, so that nothing is asked while no trace is chosen.
    row(
      'Trace $trace',
      [
        trace({
          title: 'Trace $trace',
          description:
            'The spans of one trace with their attributes. dry_run.preview.diff holds the change a blocked call would have made.',
          unit: 'none',
          width: 24,
          height: 22,
          targets: [byId('$trace')],
        }),
      ],
      { collapsed: true },
    ),
    perService,
  ],
})
