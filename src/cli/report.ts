import { existsSync } from 'node:fs'
import { EXIT_CLEAN, EXIT_GUARD_FAILED, EXIT_INCOMPLETE, EXIT_UNBLOCKED, exitCodeOf } from '../audit/exit-code.js'
import { buildReport } from '../audit/report.js'
import { type FoundRun, journalDirectories, listRuns, pickRun, readRun } from '../audit/sources/journal.js'
import { type Command, readArguments, UsageError } from './command.js'
import { printReports } from './print.js'

const LATER_SOURCES = ['otlp-file', 'jaeger', 'tempo']

const help = `Usage: drytrace report [RUN|TRACE] [options]

Prints what a dry run would have done. RUN is a run id, TRACE a trace id; their
first characters will do. Without one it is the newest run.

Options:
  --from journal  where to read; the journal is the only source so far
  --journal DIR   journal directory; else DRYTRACE_JOURNAL, else
                  .drytrace/journal, else the newest of .drytrace/runs
  --all           every run, behind a table of them
  --json          one JSON document (drytrace.report/1; with --all
                  drytrace.reports/1)
  --md            Markdown, for a pull request or an issue

Exit codes: 0 nothing un-blocked, 10 an un-blocked or unclassified write,
11 the guard failed, 12 the audit trail is not whole, 2 usage or no such run.
`

export const reportCommand: Command = {
  name: 'report',
  summary: 'print what a dry run would have done',
  help,
  async run(args) {
    const options = {
      from: { type: 'string', default: 'journal' },
      journal: { type: 'string' },
      all: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      md: { type: 'boolean', default: false },
    } as const
    const { values, positionals } = readArguments(args, options, ['html', 'junit'])
    const [wanted, ...rest] = positionals
    if (rest.length > 0) throw new UsageError('one RUN or TRACE at a time, or --all')
    if (wanted !== undefined && values.all) throw new UsageError('RUN and --all exclude each other')
    if (values.json && values.md) throw new UsageError('--json and --md exclude each other')
    checkSource(values.from)

    const found = find(values.journal, wanted, values.all)
    const format = values.json ? 'json' : values.md ? 'markdown' : 'terminal'
    printReports(
      format,
      found.map(({ facts }) => facts),
      reportsOf(found),
    )
    return worstExitCode(found)
  },
}

/** Reports one after the other, as they are asked for. */
export function* reportsOf(runs: readonly FoundRun[]) {
  for (const run of runs) yield buildReport(readRun(run))
}

export function worstExitCode(runs: readonly FoundRun[]): number {
  const codes = new Set(runs.map(({ facts }) => exitCodeOf(facts.findings)))
  return [EXIT_UNBLOCKED, EXIT_GUARD_FAILED, EXIT_INCOMPLETE].find((code) => codes.has(code)) ?? EXIT_CLEAN
}

function checkSource(from: string): void {
  if (from === 'journal') return
  if (LATER_SOURCES.includes(from)) throw new UsageError(`--from ${from} is not in this version; use --from journal`)
  throw new UsageError(`unknown source ${JSON.stringify(from)}; use --from journal`)
}

function find(journal: string | undefined, wanted: string | undefined, all: boolean): FoundRun[] {
  const environment = process.env['DRYTRACE_JOURNAL']
  const directories = journalDirectories({ cwd: process.cwd(), journal, environment, wanted, all })
  const missing = directories.find((directory) => !existsSync(directory))
  if (missing !== undefined)
    throw new UsageError(`no journal directory ${missing}; point --journal at the one the service writes to`)
  const runs = listRuns(directories)
  if (runs.length === 0) {
    const where =
      directories.length === 0
        ? `below ${process.cwd()} (.drytrace/journal, .drytrace/runs)`
        : `in ${directories.join(', ')}`
    throw new UsageError(
      `no dry run found ${where}; make one with drytrace run -- CMD, or point --journal at the directory the service writes to`,
    )
  }
  if (all) return runs
  const picked = pickRun(runs, wanted)
  if ('facts' in picked) {
    if (wanted === undefined && runs.length > 1) {
      process.stderr.write(
        `drytrace: ${runs.length} runs in ${picked.directory}, this is the newest; --all prints every one\n`,
      )
    }
    return [picked]
  }
  const where = directories.length === 1 ? directories[0] : `${process.cwd()}/.drytrace`
  if (picked.reason === 'ambiguous') {
    const ids = picked.candidates.map(({ facts }) => facts.id)
    throw new UsageError(
      `${wanted} fits ${ids.length} runs in ${where}: ${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ', …' : ''}; give more of the id`,
    )
  }
  throw new UsageError(`no run and no trace ${wanted} in ${where}; drytrace report --all lists what is there`)
}
