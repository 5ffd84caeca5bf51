import { DryTraceError } from '../errors.js'
import type { Budget } from '../policy/policy.js'
import type { Run } from '../run/run.js'
import type { Effect } from './effect.js'

/** Distinct effects counted per run; past it only the total is. */
const MAX_FINGERPRINTS = 10_000

/**
 * Counts one blocked write against the run's budget. A worker that is fed
 * simulated rows may loop for ever (one measured did 2.39 million rounds); the
 * budget turns that into an error the loop has to face.
 */
export function spend(run: Run, effect: Effect, budget: Budget): DryTraceError | undefined {
  const { spent } = run
  spent.writes += 1
  const repeats = (spent.repeats.get(effect.fingerprint) ?? 0) + 1
  if (spent.repeats.has(effect.fingerprint) || spent.repeats.size < MAX_FINGERPRINTS) {
    spent.repeats.set(effect.fingerprint, repeats)
  }
  if (spent.writes > budget.writes) {
    return over(run, `more than ${budget.writes} blocked writes`, 'budget.writes')
  }
  if (repeats > budget.repeats) {
    return over(run, `more than ${budget.repeats} repeats of "${effect.summary}"`, 'budget.repeats')
  }
  // A process-wide run lives as long as its process; what ends it is the process.
  if (!run.processWide && Date.now() - run.startedAt > budget.milliseconds) {
    return over(run, `more than ${budget.milliseconds / 1000} seconds`, 'budget.seconds')
  }
  return undefined
}

function over(run: Run, what: string, field: string): DryTraceError {
  return new DryTraceError('DRY_BUDGET', `dry run ${run.id} spent its budget: ${what} (${field} in the policy)`, {
    details: { runId: run.id, field },
  })
}
