import type { ProblemKind } from '../../journal/record.js'
import type { Report, ReportProblem } from '../report.js'
import { count, safe, thousands } from './text.js'

/** A problem as people are shown it. */
export interface ProblemView {
  /** In words. */
  readonly kind: string
  readonly message: string
  readonly times: number
  /** A person has to look at it before the run can be relied on. */
  readonly urgent: boolean
}

/** Those that need a person come first. */
const ORDER: readonly ProblemKind[] = ['unblocked', 'guard_failed', 'gap', 'run_error', 'flag_lost', 'synthetic_used']
const NOT_URGENT: ReadonlySet<ProblemKind> = new Set<ProblemKind>(['flag_lost', 'synthetic_used'])
/** Most made-up ids told apart. */
const MAX_IDS = 5

/** The problems, each told once with how often; the uses of made-up ids are one. */
export function problemViews(report: Report): ProblemView[] {
  const kinds = Map.groupBy(report.problems, ({ kind }) => kind)
  // A kind of a later version: nobody can say here that it may wait.
  const unknown = [...kinds.keys()].filter((kind) => !ORDER.includes(kind))
  return [...unknown, ...ORDER].flatMap((kind) => {
    const problems = kinds.get(kind) ?? []
    return kind === 'synthetic_used' && problems.length > 1
      ? [viewOf(kind, madeUpIds(report, problems), 1)]
      : toldOnce(problems)
  })
}

function toldOnce(problems: readonly ReportProblem[]): ProblemView[] {
  const groups = Map.groupBy(problems, ({ message }) => message)
  return [...groups].map(([message, same]) => viewOf(same[0]!.kind, message, same.length))
}

function viewOf(kind: ProblemKind, message: string, times: number): ProblemView {
  return { kind: kind.replaceAll('_', ' '), message: safe(message), times, urgent: !NOT_URGENT.has(kind) }
}

/** `44 later calls use ids made up by simulated results (tickets 2119717920: 8 calls, …)`. */
function madeUpIds(report: Report, problems: readonly ReportProblem[]): string {
  const madeFor = new Map<string, string>()
  for (const { syntheticIds = [], target } of report.effects) for (const id of syntheticIds) madeFor.set(id, target)
  const uses = new Map<string, number>()
  for (const { message } of problems) {
    // The record names the ids only in its message.
    const ids = new Set((message.match(/[\w-]+/g) ?? []).filter((word) => madeFor.has(word)))
    for (const id of ids) uses.set(id, (uses.get(id) ?? 0) + 1)
  }
  const ranked = [...uses].sort((a, b) => b[1] - a[1])
  const named = ranked.slice(0, MAX_IDS).map(([id, times]) => `${madeFor.get(id)} ${id}: ${count(times, 'call')}`)
  if (ranked.length > MAX_IDS) named.push(`and ${thousands(ranked.length - MAX_IDS)} more`)
  const list = named.length === 0 ? '' : ` (${named.join(', ')})`
  return `${count(problems.length, 'later call')} use ids made up by simulated results${list}`
}
