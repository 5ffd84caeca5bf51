import type { Report } from '../report.js'

/** Schema of the document that holds several reports (`drytrace report --all --json`, a batch under `drytrace run --json`). */
export const REPORTS_SCHEMA = 'drytrace.reports/1'

/** A report as JSON, an effect a line, in pieces: the whole of a big run would not fit into one string. */
export function* renderJson(report: Report): Generator<string> {
  yield '{'
  let first = true
  for (const [name, value] of Object.entries(report)) {
    yield `${first ? '' : ','}\n"${name}":`
    first = false
    if (Array.isArray(value) && value.length > 0) {
      for (const [index, item] of value.entries()) yield `${index === 0 ? '[' : ','}\n${JSON.stringify(item)}`
      yield '\n]'
    } else {
      yield JSON.stringify(value)
    }
  }
  yield '\n}'
}

/** Several reports as one document. */
export function* renderJsonAll(reports: Iterable<Report>): Generator<string> {
  yield `{"schema":${JSON.stringify(REPORTS_SCHEMA)},"reports":[`
  let first = true
  for (const report of reports) {
    yield first ? '\n' : ',\n'
    first = false
    yield* renderJson(report)
  }
  yield '\n]}'
}
