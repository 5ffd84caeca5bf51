import type { Report } from './report.js'
import { type Findings, isFenceRefusal } from './run-facts.js'

/** Nothing left the run un-blocked. */
export const EXIT_CLEAN = 0
/** Usage or policy error. */
export const EXIT_USAGE = 2
/** A write was not blocked, or raw egress was refused that nothing could classify. */
export const EXIT_UNBLOCKED = 10
export const EXIT_GUARD_FAILED = 11
export const EXIT_INCOMPLETE = 12

/** Exit code of the CLI for what was found. The worst finding decides: 10, 11, 12, 0. */
export function exitCodeOf(findings: Findings): number {
  if (findings.unblocked || findings.unclassified) return EXIT_UNBLOCKED
  if (findings.guardFailed) return EXIT_GUARD_FAILED
  if (findings.damaged) return EXIT_INCOMPLETE
  return EXIT_CLEAN
}

/** The same, from a report document. */
export function exitCodeOfReport(report: Report): number {
  return exitCodeOf({
    unblocked: report.run.verdict === 'unblocked' || report.totals.unblocked > 0,
    unclassified: report.effects.some(isFenceRefusal),
    guardFailed: report.run.verdict === 'guard_failed' || report.totals.failed > 0,
    damaged: report.run.verdict === 'incomplete',
  })
}
