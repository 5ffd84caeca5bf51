import { join, relative, resolve } from 'node:path'
import { EXIT_INCOMPLETE, EXIT_USAGE } from '../audit/exit-code.js'
import { buildReport, emptyReport } from '../audit/report.js'
import { RunFacts } from '../audit/run-facts.js'
import { type FoundRun, listRuns, RUNS_DIRECTORY, readRun } from '../audit/sources/journal.js'
import { foreignBaggage, foreignTracestate } from '../carriers/environment.js'
import { messageOf } from '../errors.js'
import { loadPolicy } from '../policy/load.js'
import { baggageMembers, versionedFlag } from '../run/flag.js'
import { createRunId } from '../run/run.js'
import { TRACESTATE_KEY } from '../semconv.js'
import { runChild } from './child.js'
import { type Command, readArguments, UsageError } from './command.js'
import { LiveFeed } from './live-feed.js'
import { type Format, printReports } from './print.js'
import { reportsOf, worstExitCode } from './report.js'
import { makeRunDirectory, removeOldRunDirectories, useDirectory } from './run-directories.js'

const help = `Usage: drytrace run [options] -- CMD [ARGS…]

Runs CMD with every write of its Node processes blocked and answered with a
simulated result, shows the writes as they happen and prints the report at the
end. Reads go through: the program sees the real world.

Options:
  --policy FILE  policy; else DRYTRACE_POLICY, else drytrace.config.* here
  --journal DIR  where the journal goes; else .drytrace/runs/<run id>, which
                 is removed after a day when 50 later runs are there
  --json         one JSON document (drytrace.report/1) on stdout; what CMD
                 prints on stdout goes to stderr

Exit codes: that of CMD when it is not 0 (128 + signal when it was killed);
else 0 nothing un-blocked, 10 an un-blocked or unclassified write, 11 the guard
failed, 12 the audit trail is not whole or CMD was never guarded, 2 usage or
policy error.
`

export const runCommand: Command = {
  name: 'run',
  summary: 'run a program dry and print what it would have done',
  help,
  async run(args) {
    const end = args.indexOf('--')
    const own = end === -1 ? args : args.slice(0, end)
    const options = {
      policy: { type: 'string' },
      journal: { type: 'string' },
      json: { type: 'boolean', default: false },
    } as const
    const { values, positionals } = readArguments(own, options, ['html'])
    const [command, ...rest] = end === -1 ? [] : args.slice(end + 1)
    if (positionals.length > 0)
      throw new UsageError(`the program goes behind --: drytrace run -- ${positionals.join(' ')}`)
    if (command === undefined || command === '') throw new UsageError('no program to run: drytrace run -- CMD')

    const policy = values.policy === undefined ? undefined : resolve(values.policy)
    loadPolicy(policy)
    const runId = createRunId()
    const journal = makeJournal(values.journal, runId)
    if (values.journal === undefined) removeOldJournals()
    const startedAt = new Date().toISOString()
    const feed = new LiveFeed(journal)
    feed.start()
    const child = await runChild(command, rest, {
      env: environment({ runId, journal, policy }),
      stdout: values.json ? 'stderr' : 'inherit',
    })
    feed.stop()
    if (child.error !== undefined) {
      process.stderr.write(`drytrace: ${child.error}\n`)
      return EXIT_USAGE
    }

    const format: Format = values.json ? 'json' : 'terminal'
    if (format === 'terminal') process.stdout.write('\n')
    const written = feed.processes()
    const runs = listRuns([journal]).filter(({ facts }) => [...facts.processes].some((name) => written.has(name)))
    const verdict = runs.some(({ facts }) => facts.id === runId)
      ? printRuns(format, runs)
      : printUnguarded(format, runId, startedAt, runs, unguarded(command, written.size))
    process.stderr.write(`drytrace: the journal is in ${relative(process.cwd(), journal) || '.'}\n`)
    return child.code === 0 ? verdict : child.code
  },
}

function printRuns(format: Format, runs: readonly FoundRun[]): number {
  printReports(
    format,
    runs.map(({ facts }) => facts),
    reportsOf(runs),
  )
  return worstExitCode(runs)
}

/** The run that was asked for left no trace; others in the same program may have. */
function printUnguarded(
  format: Format,
  runId: string,
  startedAt: string,
  runs: readonly FoundRun[],
  message: string,
): number {
  const report = emptyReport(runId, startedAt, new Date().toISOString(), message)
  const facts = new RunFacts(runId)
  facts.startedAt = startedAt
  const others = runs.map((run) => buildReport(readRun(run)))
  printReports(format, [facts, ...runs.map((run) => run.facts)], [report, ...others])
  return worstExitCode(runs) || EXIT_INCOMPLETE
}

function unguarded(command: string, processes: number): string {
  if (processes > 0) {
    return `${command} loaded the guard but never entered the run, so nothing says that its writes were blocked; treat what it did as done for real`
  }
  return (
    `${command} was never guarded: no process of it loaded drytrace (it is no Node program, or something took ` +
    'NODE_OPTIONS away). Whatever it did was done for real'
  )
}

interface RunSettings {
  readonly runId: string
  readonly journal: string
  readonly policy: string | undefined
}

/** The environment that makes every Node process below CMD load the guard and belong to the run. */
function environment({ runId, journal, policy }: RunSettings): NodeJS.ProcessEnv {
  const { env } = process
  // NODE_OPTIONS is split at blanks; a file URL has none.
  const preload = `--import=${new URL('../register.js', import.meta.url).href}`
  const tracestate = foreignTracestate(env['TRACESTATE'])
  return {
    ...env,
    DRY_RUN: '1',
    DRYTRACE_JOURNAL: journal,
    ...(policy === undefined ? {} : { DRYTRACE_POLICY: policy }),
    BAGGAGE: [...baggageMembers(runId, null), ...foreignBaggage(env['BAGGAGE'])].join(','),
    // A flag of an outer run would contradict ours.
    ...(env['TRACESTATE'] === undefined
      ? {}
      : { TRACESTATE: [`${TRACESTATE_KEY}=${versionedFlag(runId)}`, ...tracestate].join(',') }),
    NODE_OPTIONS: [env['NODE_OPTIONS'] ?? '', preload].join(' ').trim(),
  }
}

function makeJournal(given: string | undefined, runId: string): string {
  try {
    return given === undefined ? makeRunDirectory(runId) : useDirectory(given)
  } catch (error) {
    const directory = resolve(given ?? join(RUNS_DIRECTORY, runId))
    throw new UsageError(
      `the journal cannot be written to ${directory} (${messageOf(error)}); name another with --journal DIR`,
    )
  }
}

/** Old journals that cannot be removed are no reason to refuse a run. */
function removeOldJournals(): void {
  try {
    const removed = removeOldRunDirectories()
    if (removed > 0)
      process.stderr.write(`drytrace: removed the journals of ${removed} old runs from ${RUNS_DIRECTORY}\n`)
  } catch (error) {
    process.stderr.write(`drytrace: journals of old runs stay in ${RUNS_DIRECTORY}: ${messageOf(error)}\n`)
  }
}
