import type { Report, ReportDecision, ReportEffect } from '../report.js'
import { count, safe } from './text.js'
import { cutValue, formatValue } from './values.js'
import { type EffectView, effectView, identityOf, isShown } from './view.js'

/** The writes of one trace. */
export interface TraceGroup {
  /** Undefined where the run has one trace only: the facts name it. */
  readonly heading: TraceHeading | undefined
  readonly views: readonly EffectView[]
}

export interface TraceHeading {
  /** Undefined for effects that were recorded with no trace. */
  readonly traceId: string | undefined
  /** `12 writes`; all of the trace, shown or not. */
  readonly writes: string
  /** `8 postgresql, 2 http`, most frequent first. */
  readonly systems: string
  /** The first decision of a model in the trace, and how many follow it. */
  readonly decision: string | undefined
}

const MAX_OUTPUT = 60

/**
 * Everything but reads, trace by trace in the order of their first effect, with
 * identical neighbours told once. The numbers run on from trace to trace.
 *
 * @param limit how many views at most; `left` is the number of effects in none.
 */
export function traceGroups(
  report: Report,
  limit = Number.POSITIVE_INFINITY,
): { readonly groups: readonly TraceGroup[]; readonly left: number } {
  const traces = Map.groupBy(report.effects, ({ traceId }) => traceId)
  const headed = traces.size > 1 || report.run.traceIds.length > 1
  const groups: TraceGroup[] = []
  let number = 1
  let room = limit
  let left = 0
  for (const [traceId, effects] of traces) {
    const writes = effects.filter(isShown)
    if (writes.length === 0) continue
    const { views, told } = room > 0 ? viewsOf(writes, report, number, room) : { views: [], told: 0 }
    number += writes.length
    room -= views.length
    left += writes.length - told
    if (views.length > 0) groups.push({ heading: headed ? headingOf(traceId, writes, report) : undefined, views })
  }
  return { groups, left }
}

function viewsOf(writes: readonly ReportEffect[], report: Report, from: number, limit: number) {
  const views: EffectView[] = []
  let last: { readonly identity: string; readonly view: EffectView & { repeats: number } } | undefined
  for (const [index, effect] of writes.entries()) {
    const identity = identityOf(effect)
    if (last?.identity === identity) {
      last.view.repeats += 1
      continue
    }
    if (views.length >= limit) return { views, told: index }
    last = { identity, view: { ...effectView(effect, from + index, report), repeats: 1 } }
    views.push(last.view)
  }
  return { views, told: writes.length }
}

function headingOf(traceId: string, writes: readonly ReportEffect[], report: Report): TraceHeading {
  const counts = [...Map.groupBy(writes, ({ system }) => system)].sort((a, b) => b[1].length - a[1].length)
  const [decision, ...others] = report.decisions.filter(
    (candidate) => candidate.kind === 'llm' && candidate.traceId === traceId,
  )
  return {
    traceId: /[1-9a-f]/.test(traceId) ? safe(traceId) : undefined,
    writes: count(writes.length, 'write'),
    systems: counts.map(([system, effects]) => `${effects.length} ${safe(system)}`).join(', '),
    decision: decision === undefined ? undefined : decisionText(decision, others.length),
  }
}

/** `gpt-5-mini, prompt triage v7: {"category":"billing"}, then 2 more decisions` */
function decisionText({ model, name, promptName, promptVersion, output }: ReportDecision, others: number): string {
  const prompt = promptName === null ? '' : `, prompt ${[promptName, promptVersion ?? ''].join(' ').trim()}`
  const answer = output === undefined ? '' : `: ${cutValue(formatValue(output), MAX_OUTPUT)}`
  const more = others === 0 ? '' : `, then ${count(others, 'more decision')}`
  return safe(`${model ?? name}${prompt}`) + answer + more
}
