import path from 'node:path'
import { createAdmission, readSecret } from './carriers/admission.js'
import { DEFAULT_JOURNAL, readEnvironment } from './carriers/environment.js'
import { armHttpIngress } from './carriers/http-ingress.js'
import { armHttp2Ingress } from './carriers/http2-ingress.js'
import { DryTraceError, messageOf } from './errors.js'
import { type Barrier, createBarrier } from './guard/barrier.js'
import { createGuard } from './guard/create-guard.js'
import { armFence } from './guard/fence.js'
import type { Guard } from './guard/guard.js'
import { integrations } from './integrations/index.js'
import type { Integration } from './integrations/integration.js'
import { createJournal, type JournalSync } from './journal/writer.js'
import { armIntegrations } from './loader/arm.js'
import { loadPolicy } from './policy/load.js'
import { compilePolicy, type Policy } from './policy/policy.js'
import { enterRun, holdRun, shared } from './run/store.js'
import { attachToForeignTelemetry } from './telemetry/attach.js'
import { createGuardMetrics } from './telemetry/metrics.js'
import { VERSION } from './version.js'

/**
 * Arms the guard of this process, once. A second copy of the package finds the
 * first one's and does nothing.
 */
export function registerGuard(): void {
  if (shared.slots.has('guard')) return
  const barrier = createBarrier()
  shared.slots.set('barrier', barrier)

  const { policy, secret } = readConfiguration(barrier)
  shared.slots.set('policyHash', policy.hash)
  const journal = createJournal({
    directory: path.resolve(process.env['DRYTRACE_JOURNAL'] || DEFAULT_JOURNAL),
    service: serviceName(),
    sync: journalSync(barrier),
  })
  const metrics = createGuardMetrics(barrier, [...new Set(integrations.map(({ system }) => system)), 'net'])
  const guard = createGuard({ policy, journal, barrier, service: serviceName(), observer: metrics })
  shared.slots.set('guard', guard)
  shared.slots.set('journal', journal)

  armIntegrations(integrations, guard, barrier)
  armFence(guard, barrier, packagesOf(integrations))
  const admission = createAdmission(policy, barrier, secret)
  shared.slots.set('admission', admission)
  armHttpIngress(admission)
  armHttp2Ingress(admission)
  shared.slots.set('attachment', attachToForeignTelemetry(metrics.start))
  enterProcessRun(barrier)
  announce(barrier, guard)
}

function packagesOf(known: readonly Integration[]): string[] {
  const files = known
    .flatMap(({ targets }) => targets.map(({ file }) => file))
    .filter((file) => !file.startsWith('node:'))
  return [
    ...new Set(
      files.map((file) =>
        file
          .split('/')
          .slice(0, file.startsWith('@') ? 2 : 1)
          .join('/'),
      ),
    ),
  ]
}

function readConfiguration(barrier: Barrier): { policy: Policy; secret: string | undefined } {
  let policy: Policy
  try {
    policy = loadPolicy()
  } catch (error) {
    barrier.gap(`policy: ${messageOf(error)}`)
    policy = compilePolicy({ version: 1 }, { hash: 'invalid' })
  }
  let secret: string | undefined
  try {
    secret = readSecret()
    if (policy.trust.mode === 'signed' && secret === undefined) {
      barrier.gap('policy: trust.mode is signed, but DRYTRACE_SECRET is not set')
    }
  } catch (error) {
    barrier.gap(messageOf(error))
  }
  return { policy, secret }
}

function journalSync(barrier: Barrier): JournalSync {
  const asked = process.env['DRYTRACE_JOURNAL_SYNC'] || 'none'
  if (asked === 'none' || asked === 'batch' || asked === 'each') return asked
  barrier.gap(`DRYTRACE_JOURNAL_SYNC is ${JSON.stringify(asked)}; use none, batch or each`)
  return 'each'
}

/** `DRY_RUN=1`, or a flag a parent process left in the environment, makes the whole process dry. */
function enterProcessRun(barrier: Barrier): void {
  const flag = readEnvironment()
  if (flag === undefined) return
  const gaps = barrier.gaps()
  if (gaps.length > 0) {
    throw new DryTraceError('DRY_GATE_CLOSED', `DRY_RUN was asked for and is refused: ${gaps.join('; ')}`, {
      details: { gaps },
    })
  }
  shared.processRun = enterRun({
    ...(flag.runId === undefined ? {} : { id: flag.runId }),
    entry: 'process',
    carriers: flag.carriers,
    conflict: flag.conflict,
    token: flag.token ?? null,
    processWide: true,
  })
  const release = holdRun(shared.processRun)
  process.once('exit', () => release())
}

function serviceName(): string {
  const resource = /(?:^|,)\s*service\.name=([^,]*)/.exec(process.env['OTEL_RESOURCE_ATTRIBUTES'] ?? '')?.[1]
  return (
    process.env['OTEL_SERVICE_NAME'] ||
    resource ||
    process.env['npm_package_name'] ||
    path.basename(process.argv[1] ?? 'node', path.extname(process.argv[1] ?? ''))
  )
}

/** One line at start, so that a missing preload is noticed by its absence. `DRYTRACE_QUIET=1` switches it off. */
function announce(barrier: Barrier, guard: Guard): void {
  if (process.env['DRYTRACE_QUIET'] === '1') return
  const run = guard.run()
  const gaps = barrier.gaps()
  const state =
    gaps.length > 0
      ? `dry runs refused: ${gaps.join('; ')}`
      : run === undefined
        ? 'live, ready for dry runs'
        : `dry run ${run.id}`
  const names = integrations.map(({ name }) => name).join(', ')
  process.stderr.write(`drytrace ${VERSION}: ${state} (guards ${names}, and a fence for the rest)\n`)
}
