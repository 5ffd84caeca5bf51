import type { Report } from '../report.js'
import { isFenceRefusal } from '../run-facts.js'
import { count, duration, offset, safe, shorten, thousands } from './text.js'
import { actionAndObject, isShown } from './view.js'

/** How the application itself failed: the verdict is about the guard, and must not read as if all were well. */
export function applicationFailure(report: Report): { readonly text: string; readonly message: string } | undefined {
  const messages = report.problems.filter(({ kind }) => kind === 'run_error').map(({ message }) => message)
  const [first] = messages
  if (first === undefined) return undefined
  const times = messages.length === 1 ? 'once' : `${thousands(messages.length)} times`
  const differ = messages.some((message) => message !== first)
  return { text: `the application failed ${times}${differ ? ', first' : ''}`, message: shorten(safe(first), 120) }
}

/** The verdict in one line with its numbers, and what it means where that needs saying. */
export function headline(report: Report): {
  readonly word: string
  readonly text: string
  readonly meaning: string | undefined
} {
  const { totals, effects, run } = report
  const refused = effects.filter((effect) => isFenceRefusal(effect) && effect.outcome === 'blocked').length
  const parts: string[] = []
  if (totals.unblocked > 0) parts.push(`${count(totals.unblocked, 'write')} NOT blocked`)
  parts.push(`${count(totals.blocked - refused, 'write')} blocked`)
  if (totals.failed > 0) parts.push(`${totals.failed} stopped by a guard failure`)
  if (refused > 0) parts.push(`${count(refused, 'raw connection')} refused`)
  if (totals.forwarded > 0) parts.push(`${totals.forwarded} forwarded dry`)
  if (totals.allowedWrites > 0) parts.push(`${totals.allowedWrites} let through by policy`)
  if (totals.allowedWrites + totals.unblocked === 0) {
    parts.push(totals.forwarded === 0 ? '0 left the process' : '0 left the run')
  }
  const attempted = totals.blocked + totals.failed + totals.forwarded + totals.allowedWrites + totals.unblocked
  const text = attempted > 0 ? parts.join(', ') : `no write was attempted, ${count(totals.reads, 'read')} passed`
  switch (run.verdict) {
    case 'clean':
      return { word: 'CLEAN', text, meaning: undefined }
    case 'unblocked':
      return { word: 'UNBLOCKED', text: parts.join(', '), meaning: 'A write left the process that nobody decided on.' }
    case 'guard_failed': {
      const meaning = 'The guard met an error of its own. What it could not judge was not executed.'
      return { word: 'GUARD FAILED', text: parts.join(', '), meaning }
    }
    case 'incomplete':
      return { word: 'INCOMPLETE', ...incomplete(report, parts, attempted, refused) }
  }
}

function incomplete(report: Report, parts: readonly string[], attempted: number, refused: number) {
  if (refused > 0) {
    const meaning = 'What the refused connections would have done is not known, so this is not the whole plan.'
    return { text: parts.join(', '), meaning }
  }
  // No hook has vouched for the run: "no write" would say more than anyone knows.
  if (report.attestation.hooks.length === 0 && attempted === 0) {
    return { text: 'nothing is known of what this run did', meaning: 'It may have been done for real: see Problems.' }
  }
  const text = attempted > 0 ? parts.join(', ') : `no write on record, ${count(report.totals.reads, 'read')} passed`
  return { text, meaning: 'The audit trail is not whole, so this may not be everything: see Problems.' }
}

/** `14 reads: 12 postgresql public.customers, 2 http crm.example`, most frequent first. */
export function readCounts(report: Report): { readonly total: number; readonly byTarget: readonly string[] } {
  const counts = new Map<string, number>()
  let total = 0
  for (const effect of report.effects) {
    if (effect.effect !== 'read' || effect.outcome !== 'allowed') continue
    total += 1
    const overlaid = effect.overlaidBy === undefined ? '' : ' (overlaid)'
    const name = safe(`${effect.system} ${effect.target}${overlaid}`)
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  const byTarget = [...counts].sort((a, b) => b[1] - a[1]).map(([name, times]) => `${times} ${name}`)
  return { total, byTarget }
}

/** Writes that were let through, by the rule that did it. */
export function letThrough(
  report: Report,
): { readonly rule: string; readonly times: number; readonly objects: readonly string[] }[] {
  const writes = report.effects.filter(({ effect, outcome }) => effect !== 'read' && outcome === 'allowed')
  const rules = Map.groupBy(writes, ({ rule, reason }) => safe(`rule ${rule}: ${reason}`))
  return [...rules].map(([rule, effects]) => {
    const objects = new Set(effects.map(actionAndObject).map(({ action, object }) => `${action} ${object}`))
    return { rule, times: effects.length, objects: [...objects] }
  })
}

/** Most problems and decisions shown; the rest is counted. */
const MAX_ENTRIES = 100

/** The first of a list, and how many more there are. */
export function capped<T>(entries: readonly T[]): { readonly shown: readonly T[]; readonly left: number } {
  return { shown: entries.slice(0, MAX_ENTRIES), left: Math.max(0, entries.length - MAX_ENTRIES) }
}

/** Who ran, when, for how long. */
export function runFacts(report: Report): { readonly name: string; readonly value: string }[] {
  const { run } = report
  const took =
    run.endedAt === null
      ? 'no end recorded'
      : `took ${duration(Math.max(0, Date.parse(run.endedAt) - Date.parse(run.startedAt)))}`
  const started = `${run.startedAt.slice(0, 10)} ${run.startedAt.slice(11, 23)} UTC`
  const facts = [
    { name: 'run', value: safe(run.id) },
    { name: 'entry', value: safe(run.service.length === 0 ? run.entry : `${run.entry}, ${run.service.join(', ')}`) },
    { name: 'started', value: `${started}, ${took}` },
  ]
  const [trace] = run.traceIds
  if (run.traceIds.length === 1) facts.push({ name: 'trace', value: safe(trace!) })
  else if (trace !== undefined) facts.push({ name: 'traces', value: tracesOf(report, safe(trace)) })
  return facts
}

/** How many there are; the headings of the writes name them. */
function tracesOf(report: Report, first: string): string {
  const all = report.run.traceIds.length
  const writing = new Set(report.effects.filter(isShown).map(({ traceId }) => traceId)).size
  if (writing === 0) return `${thousands(all)}, none with a write; the first is ${first}`
  return writing >= all ? thousands(all) : `${thousands(all)}, ${thousands(writing)} with writes`
}

/** SHA-256 of the empty text: the hash of the default policy, which has no file. */
const NO_FILE = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** Which policy decided, with so many digits of its hash. */
export function policyName({ attestation: { policyHash } }: Report, digits = 64): string {
  if (policyHash === null) return 'not recorded'
  return policyHash === NO_FILE ? 'default (no file)' : `sha256 ${safe(policyHash.slice(0, digits))}`
}

/** Decisions with identical neighbours told once. */
export function decisionViews(
  report: Report,
): { readonly offset: string; readonly text: string; readonly repeats: number }[] {
  const views: { offset: string; text: string; repeats: number }[] = []
  for (const decision of report.decisions) {
    const prompt =
      decision.promptName === null
        ? ''
        : `prompt ${decision.promptName}${decision.promptVersion === null ? '' : ` ${decision.promptVersion}`}`
    const text = safe(
      [decision.kind, decision.name, decision.model ?? '', prompt].filter((part) => part !== '').join('  '),
    )
    const since = offset(Math.max(0, Date.parse(decision.at) - Date.parse(report.run.startedAt)))
    const last = views.at(-1)
    if (last?.text === text) last.repeats += 1
    else views.push({ offset: since, text, repeats: 1 })
  }
  return views
}
