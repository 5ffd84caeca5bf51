import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const CLI = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))

/** What `drytrace report` prints about a run. */
export async function printReport(runId, journal, options = []) {
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [CLI, 'report', runId, '--journal', journal, ...options],
      { maxBuffer: 64 * 1024 * 1024 },
    )
    return stdout
  } catch (error) {
    // The report exits with the run's verdict; the document is on stdout all the same.
    if (error.stdout) return error.stdout
    throw new Error(`drytrace report failed: ${error.stderr || error.message}`)
  }
}

/** The report document, `drytrace.report/1`. */
export async function readReport(runId, journal) {
  return JSON.parse(await printReport(runId, journal, ['--json']))
}
