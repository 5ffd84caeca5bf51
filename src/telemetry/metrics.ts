import type { Counter } from '@opentelemetry/api'
import type { Barrier } from '../guard/barrier.js'
import type { GuardObserver } from '../guard/recorder.js'
import { otel } from '../otel-api.js'
import { METRIC_EFFECTS, METRIC_GUARD_UP, METRIC_HOOK_FAILURES } from '../semconv.js'
import { VERSION } from '../version.js'

const OUTCOMES = ['blocked', 'allowed', 'forwarded', 'failed', 'unblocked'] as const

/** The observer the guard is given; it counts from the moment a meter provider is there. */
export interface GuardMetrics extends GuardObserver {
  /** Makes the instruments. Called when a meter provider has been registered. */
  start(): void
}

export function createGuardMetrics(barrier: Barrier, systems: readonly string[]): GuardMetrics {
  let effects: Counter | undefined
  let failures: Counter | undefined
  return {
    start() {
      const meter = otel().metrics.getMeter('drytrace', VERSION)
      effects = meter.createCounter(METRIC_EFFECTS, { description: 'Effects decided in dry runs', unit: '{effect}' })
      failures = meter.createCounter(METRIC_HOOK_FAILURES, {
        description: 'Errors of the guard itself; each one blocked its effect',
        unit: '{failure}',
      })
      meter
        .createObservableGauge(METRIC_GUARD_UP, { description: '1 when every loaded client is guarded, else 0' })
        .addCallback((result) => result.observe(barrier.gaps().length === 0 ? 1 : 0))
      // An alert on a counter misses the first increment of a series that has never been seen.
      for (const system of systems) {
        for (const outcome of OUTCOMES) effects.add(0, { 'dry_run.system': system, 'dry_run.outcome': outcome })
      }
      for (const { name } of barrier.hooks()) failures.add(0, { 'dry_run.hook.name': name })
    },
    outcome(system, outcome) {
      effects?.add(1, { 'dry_run.system': system, 'dry_run.outcome': outcome })
    },
    failure(hook) {
      failures?.add(1, { 'dry_run.hook.name': hook })
    },
  }
}
