import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { suites } from './suites.mjs'

const RESULTS = new URL('./results.json', import.meta.url)
const DOCUMENT = new URL('../../docs/upstream.md', import.meta.url)

/** Keeps the summary of one suite and writes the document from all that are kept. */
export function writeReport(summary) {
  const results = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}
  results[summary.name] = summary
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`)
  writeFileSync(DOCUMENT, document(results))
}

export function document(results) {
  const rows = Object.keys(suites).flatMap((name) => (results[name] === undefined ? [] : [results[name]]))
  const counts = ({ pass, fail, skip, hang }) => `${pass} / ${fail} / ${skip}${hang > 0 ? ` / ${hang} hang` : ''}`
  return `# Other projects' own test suites

Written by \`npm run upstream -- NAME\`: each suite runs without and with the preload of drytrace, file by file, and every
test's outcome is compared. A file that must end by itself counts as one test more. Suites that use PostgreSQL then run in
a dry run: most of their tests fail there, because they read back what they wrote with means a dry run does not serve, but
nothing may change in the database (rows of every table and catalog, tuple counters, transaction ids) and nothing may hang.
Counts are passed / failed / skipped.

| Suite | Version | Node | Files | Without | With | Different | Unsteady | Dry | Changed by the dry run |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${rows
  .map(
    (row) =>
      `| ${row.name} | ${row.version} | ${row.node} | ${row.files} | ${counts(row.without)} | ${counts(row.with)} | ${row.different.length} | ${row.unsteady.length} | ${
        row.dry ? counts(row.dry) : ''
      } | ${row.dry ? row.dry.changed.join(', ') || 'nothing' : ''} |`,
  )
  .join('\n')}
${rows.map(details).join('')}`
}

function details({ name, different, unsteady }) {
  const { note } = suites[name]
  if (note === undefined && different.length === 0 && unsteady.length === 0) return ''
  const cell = (text) => text.replaceAll('|', '\\|').replace(/\s+/g, ' ')
  const lines = [
    ...(note === undefined ? [] : [note, '']),
    ...different.map((one) => `- different: ${cell(one.name)}: ${one.without} without, ${one.with} with`),
    ...(unsteady.length === 0
      ? []
      : [`Unsteady, not the same each time in one mode: ${unsteady.map(cell).join('; ')}`]),
  ]
  return `\n## ${name}\n\n${lines.join('\n')}\n`
}
