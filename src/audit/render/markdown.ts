import type { Report } from '../report.js'
import { problemViews } from './problems.js'
import {
  applicationFailure,
  capped,
  decisionViews,
  headline,
  letThrough,
  policyName,
  readCounts,
  runFacts,
} from './summary.js'
import { count, safe } from './text.js'
import { type TraceHeading, traceGroups } from './trace-groups.js'
import { type ChangeLine, cutValue, skipShared } from './values.js'
import { type EffectView, MADE_UP } from './view.js'

/** Characters of one line in a fence; wider ones scroll. */
const WIDTH = 120

export interface MarkdownOptions {
  /** How many effects to show; 200 when left out, for the size limits of comments. The numbers always cover all. */
  readonly limit?: number
}

/** The report for a pull request, an issue or a chat that renders Markdown. */
export function renderMarkdown(report: Report, { limit = 200 }: MarkdownOptions = {}): string {
  const { word, text, meaning } = headline(report)
  const failure = applicationFailure(report)
  const failed = failure === undefined ? '' : `; ${failure.text}: ${code(failure.message)}`
  const blocks = [`## ${word}: ${text}${failed}`]
  if (meaning !== undefined) blocks.push(meaning)
  blocks.push(
    runFacts(report)
      .map(({ name, value }) => `- ${name}: ${code(value)}`)
      .join('\n'),
  )

  const { groups, left } = traceGroups(report, limit)
  if (groups.length > 0) blocks.push('### Writes')
  for (const { heading, views } of groups)
    blocks.push(...(heading === undefined ? [] : trace(heading)), ...views.map(effect))
  if (left > 0) blocks.push(`… and ${count(left, 'more write')}: \`--json\` has them all.`)

  const rules = letThrough(report)
  if (rules.length > 0) {
    const lines = rules.map(
      ({ rule, times, objects }) => `- ${code(rule)}: ${count(times, 'write')}, ${objects.map(code).join(', ')}`,
    )
    blocks.push('### Let through by policy', lines.join('\n'))
  }
  const { shown: problems, left: problemsLeft } = capped(problemViews(report))
  if (problems.length > 0) {
    const lines = problems.map(
      ({ kind, message, times }) => `- **${kind}** ${code(message)}${times > 1 ? ` x${times}` : ''}`,
    )
    if (problemsLeft > 0) lines.push(`- … and ${problemsLeft} more`)
    blocks.push('### Problems', lines.join('\n'))
  }
  const { shown: decisions, left: decisionsLeft } = capped(decisionViews(report))
  if (decisions.length > 0) {
    const lines = decisions.map(
      ({ offset, text: what, repeats }) => `- ${offset} ${code(what)}${repeats > 1 ? ` x${repeats}` : ''}`,
    )
    if (decisionsLeft > 0) lines.push(`- … and ${decisionsLeft} more`)
    blocks.push('### Decisions', lines.join('\n'))
  }
  const { total, byTarget } = readCounts(report)
  if (total > 0) blocks.push('### Reads', `${total}: ${byTarget.map(code).join(', ')}`)

  const { hooks, gaps } = report.attestation
  blocks.push(
    '### Guarded by',
    [
      `- hooks: ${hooks.length === 0 ? 'none' : hooks.map(safe).map(code).join(', ')}`,
      `- gaps: ${gaps.length === 0 ? 'none' : gaps.map(safe).map(code).join(', ')}`,
      `- policy: ${code(policyName(report))}`,
    ].join('\n'),
  )
  return `${blocks.join('\n\n')}\n`
}

function trace({ traceId, writes, systems, decision }: TraceHeading): string[] {
  const title = `#### ${traceId === undefined ? 'No trace recorded' : `Trace ${code(traceId)}`}, ${writes}`
  return [title, decision === undefined ? code(systems) : `${code(systems)}; decided by ${code(decision)}`]
}

function effect(view: EffectView): string {
  const { number, repeats, offset, action, object, tags, mark, rows, more, payload, notes, madeUp } = view
  const numbers = repeats === 1 ? String(number) : `${number}-${number + repeats - 1}`
  const after = [
    ...tags.map(code),
    ...(repeats > 1 ? [`x${repeats}`] : []),
    ...(madeUp ? [`*${MADE_UP}*`] : []),
    ...(mark === undefined ? [] : [`**${mark}**`]),
  ]
  // The number is bold, not a list marker: Markdown would count by itself.
  const title = [`**${numbers}**`, offset, `${action} ${code(object)}`, ...after].join(' ')

  const lines: string[] = []
  for (const row of rows) {
    if (row.title !== undefined) lines.push(`  ${row.title}`)
    for (const change of row.changes) lines.push(...changed(change))
  }
  if (more !== undefined) lines.push(`  … ${more}`)
  if (payload !== undefined) {
    lines.push(`  ${payload.title}`)
    for (const { name, value } of payload.fields) {
      lines.push(`    ${name === undefined ? '' : `${name}: `}${cutValue(value, WIDTH)}`)
    }
    if (payload.more !== undefined) lines.push(`    … ${payload.more}`)
  }
  const parts = [title]
  if (lines.length > 0) parts.push(fence(lines))
  if (notes.length > 0) parts.push(notes.map((note) => `- ${code(note)}`).join('\n'))
  return parts.join('\n\n')
}

/** As git writes it: `~` has no colour in a diff fence. */
function changed({ field, before, after }: ChangeLine): string[] {
  const values = before !== undefined && after !== undefined ? skipShared(before, after, WIDTH) : { before, after }
  return [
    ...(values.before === undefined ? [] : [`- ${field}: ${cutValue(values.before, WIDTH)}`]),
    ...(values.after === undefined ? [] : [`+ ${field}: ${cutValue(values.after, WIDTH)}`]),
  ]
}

/** Longer than any run of backticks inside, so that data cannot end it. */
function fence(lines: readonly string[]): string {
  const marks = '`'.repeat(Math.max(3, longestRun(lines.join('\n')) + 1))
  return `${marks}diff\n${lines.join('\n')}\n${marks}`
}

/** A code span: nothing in it is Markdown, HTML or a mention. */
function code(text: string): string {
  const marks = '`'.repeat(longestRun(text) + 1)
  const pad = text.startsWith('`') || text.endsWith('`') ? ' ' : ''
  return `${marks}${pad}${text}${pad}${marks}`
}

function longestRun(text: string): number {
  return Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length))
}
