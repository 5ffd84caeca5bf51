import { renderJson, renderJsonAll } from '../audit/render/json.js'
import { renderMarkdown } from '../audit/render/markdown.js'
import { renderRunsTable } from '../audit/render/runs-table.js'
import { styleFor, widthFor } from '../audit/render/style.js'
import { renderTerminal } from '../audit/render/terminal.js'
import type { Report } from '../audit/report.js'
import type { RunFacts } from '../audit/run-facts.js'

export type Format = 'terminal' | 'json' | 'markdown'

/**
 * Prints reports on stdout: one as it is, several behind a table of the runs.
 * As JSON it is one document either way.
 *
 * @param reports built one at a time, so that a journal of many runs is never in memory as a whole.
 */
export function printReports(format: Format, runs: readonly RunFacts[], reports: Iterable<Report>): void {
  if (format === 'json') {
    for (const piece of runs.length === 1 ? renderJson(only(reports)) : renderJsonAll(reports))
      process.stdout.write(piece)
    process.stdout.write('\n')
    return
  }
  const columns = widthFor(process.stdout, process.env)
  const style = styleFor(process.stdout)
  if (runs.length > 1) {
    const table = format === 'markdown' ? renderRunsTable(runs, 120) : renderRunsTable(runs, columns, style)
    process.stdout.write(format === 'markdown' ? `\`\`\`\n${table}\`\`\`\n\n` : `${table}\n`)
  }
  let first = true
  for (const report of reports) {
    if (!first)
      process.stdout.write(
        format === 'markdown' ? '\n---\n\n' : `\n${style.dim('─'.repeat(Math.min(columns, 120)))}\n\n`,
      )
    first = false
    process.stdout.write(
      format === 'markdown' ? renderMarkdown(report) : renderTerminal(report, { width: columns, style }),
    )
  }
}

function only(reports: Iterable<Report>): Report {
  for (const report of reports) return report
  throw new Error('no report')
}
