import type { Verdict } from '../run-facts.js'
import { type RunFacts, verdictOf } from '../run-facts.js'
import { PLAIN, type Style } from './style.js'
import { count, padEnd, padStart, safe, shorten, thousands, width } from './text.js'

const VERDICTS: Readonly<Record<Verdict, string>> = {
  clean: 'clean',
  unblocked: 'UNBLOCKED',
  guard_failed: 'GUARD FAILED',
  incomplete: 'INCOMPLETE',
}

interface Column {
  readonly title: string
  readonly right?: boolean
  /** Left out, from the highest number down, where the table is too wide. */
  readonly dispensable?: number
  cell(run: RunFacts): string
}

const COLUMNS: readonly Column[] = [
  { title: 'RUN', cell: (run) => safe(run.id) },
  {
    title: 'VERDICT',
    cell: (run) => `${VERDICTS[verdictOf(run.findings)]}${run.applicationErrors > 0 ? ', app failed' : ''}`,
  },
  { title: 'BLOCKED', right: true, cell: ({ totals }) => thousands(totals.blocked + totals.failed) },
  {
    title: 'PASSED',
    right: true,
    cell: ({ totals }) => thousands(totals.allowedWrites + totals.forwarded + totals.unblocked),
  },
  { title: 'READS', right: true, dispensable: 3, cell: ({ totals }) => thousands(totals.reads) },
  {
    title: 'STARTED (UTC)',
    dispensable: 1,
    cell: ({ startedAt }) => `${startedAt.slice(0, 10)} ${startedAt.slice(11, 16)}`,
  },
  { title: 'ENTRY', dispensable: 4, cell: ({ entry }) => safe(entry) },
  { title: 'SERVICE', dispensable: 2, cell: ({ services }) => safe([...services].sort().join(' ')) },
]

/** The runs of a journal, one a line, with a line of totals first. */
export function renderRunsTable(runs: readonly RunFacts[], columns: number, style: Style = PLAIN): string {
  const failing = runs.filter((run) => verdictOf(run.findings) !== 'clean').length
  const broken = runs.filter((run) => run.applicationErrors > 0).length
  const first =
    `${count(runs.length, 'run')}, ${failing === 0 ? 'all clean' : `${thousands(failing)} not clean`}` +
    (broken === 0 ? '' : `; the application failed in ${thousands(broken)}`)
  let shown = COLUMNS
  let table = layout(runs, shown)
  for (let rank = 4; rank > 0 && table.width > columns; rank -= 1) {
    shown = shown.filter(({ dispensable }) => dispensable !== rank)
    table = layout(runs, shown)
  }
  const paint = (line: string, index: number) => (index === 0 ? style.dim(line) : line)
  const lines = table.lines.map((line, index) => paint(shorten(line, columns), index))
  const colour = failing > 0 ? style.red : broken > 0 ? style.yellow : style.green
  return `${style.bold(colour(first))}\n\n${lines.join('\n')}\n`
}

function layout(runs: readonly RunFacts[], columns: readonly Column[]): { lines: string[]; width: number } {
  const rows = [columns.map(({ title }) => title), ...runs.map((run) => columns.map((column) => column.cell(run)))]
  const widths = columns.map((_, at) => rows.reduce((most, row) => Math.max(most, width(row[at]!)), 0))
  const lines = rows.map((row) =>
    row
      .map((cell, at) => (columns[at]!.right ? padStart(cell, widths[at]!) : padEnd(cell, widths[at]!)))
      .join('  ')
      .trimEnd(),
  )
  return { lines, width: widths.reduce((sum, one) => sum + one + 2, -2) }
}
