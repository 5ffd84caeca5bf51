import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const REPORTER = fileURLToPath(new URL('./node-test-reporter.mjs', import.meta.url))

/**
 * Runs a suite once and gives `pass`, `fail`, `skip` or `hang` per test. A file
 * that ends badly outside of any test is a test of its own name.
 */
export async function runSuite({ suite, tree, files, preload, env, scratch, fileTimeout, onFile }) {
  rmSync(scratch, { recursive: true, force: true })
  mkdirSync(scratch, { recursive: true })
  const results = new Map()
  const groups = suite.together ? [files] : files.map((file) => [file])
  for (const [index, group] of groups.entries()) {
    const [file] = group
    const name = suite.together ? 'all files' : file
    const report = path.join(scratch, `${index}.out`)
    const command = commandOf({ suite, tree, group, report })
    const ended = await runBounded(command, {
      cwd: path.join(tree, command.directory ?? '.'),
      timeout: suite.together ? fileTimeout * 8 : fileTimeout,
      env: {
        ...cleanEnvironment(),
        FORCE_COLOR: '0',
        NO_COLOR: '1',
        ...suite.env,
        ...env,
        NODE_OPTIONS: preload.map((one) => `--import=${one}`).join(' '),
      },
    })
    const tests = readers[command.runner]({ report, ...ended })
    for (const [test, outcome] of tests) note(results, `${name} > ${test}`, outcome)
    const failed = tests.some(([, outcome]) => outcome === 'fail')
    if (ended.timedOut) note(results, `${name} > (ends)`, 'hang')
    else if (!failed) note(results, `${name} > (ends)`, ended.code === 0 ? 'pass' : 'fail')
    onFile?.({ name, ...ended, tests })
  }
  return results
}

/** The same name twice is one test: failed when one of them failed. */
function note(results, test, outcome) {
  const known = results.get(test)
  if (known === undefined || known === 'pass' || outcome === 'fail') results.set(test, outcome)
}

function commandOf({ suite, tree, group, report }) {
  const [file] = group
  const runner = suite.runnerOf?.(file) ?? suite.runner
  const bin = (name) => path.join(tree, 'node_modules', name)
  const preload = (suite.preload ?? []).map((one) => `--import=${one}`)
  const own = [...(suite.nodeArguments ?? []), ...preload]
  switch (runner) {
    case 'node-test':
      return {
        runner,
        args: [
          ...own,
          '--test-timeout=60000',
          `--test-reporter=${pathToFileURL(REPORTER)}`,
          `--test-reporter-destination=${report}`,
          ...group,
        ],
      }
    case 'mocha':
      return {
        runner,
        args: [
          ...own,
          bin('mocha/bin/mocha.js'),
          '--no-config',
          ...(suite.runnerArguments ?? []),
          '--reporter',
          'json',
          '--reporter-option',
          `output=${report}`,
          ...group,
        ],
      }
    case 'ava':
      return {
        runner,
        args: [bin('ava/entrypoints/cli.mjs'), '--tap', ...(suite.runnerArguments ?? []), ...group],
        options: preload,
      }
    case 'script': {
      const directory = suite.directoryOf?.(file) ?? '.'
      return { runner, directory, args: [...own, path.relative(directory, file), ...(suite.programArguments ?? [])] }
    }
  }
}

const readers = {
  'node-test'({ report }) {
    return read(report)
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  },
  mocha({ report }) {
    const text = read(report)
    if (text === '') return []
    const { passes, failures, pending } = JSON.parse(text)
    return [
      ...passes.map(({ fullTitle }) => [fullTitle, 'pass']),
      ...failures.map(({ fullTitle }) => [fullTitle, 'fail']),
      ...pending.map(({ fullTitle }) => [fullTitle, 'skip']),
    ]
  },
  ava({ stdout }) {
    return [...stdout.matchAll(/^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$/gm)].map(([, not, title, skip]) => [
      title,
      skip ? 'skip' : not ? 'fail' : 'pass',
    ])
  },
  script({ stdout }) {
    return [...stdout.matchAll(/^ {2}(\S.*?) (✔|FAILED!|\? - SKIPPED)/gm)].map(([, title, mark]) => [
      title,
      mark === '✔' ? 'pass' : mark === 'FAILED!' ? 'fail' : 'skip',
    ])
  },
}

function read(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

/** What this command itself was started with must not reach the suite. */
function cleanEnvironment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(npm_|NODE_OPTIONS$|DRY|OTEL_|BAGGAGE$|TRACE|https?_proxy$|no_proxy$)/i.test(name),
    ),
  )
}

function runBounded({ args, options = [] }, { cwd, env, timeout }) {
  return new Promise((resolve, reject) => {
    const NODE_OPTIONS = [env.NODE_OPTIONS, ...options].filter(Boolean).join(' ')
    // A group of its own, so that what it starts ends with it.
    const child = spawn(process.execPath, args, {
      cwd,
      env: { ...env, NODE_OPTIONS },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let stdout = ''
    let stderr = ''
    let timedOut = false
    child.stdout.setEncoding('utf8').on('data', (text) => {
      if (stdout.length < 50_000_000) stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      if (stderr.length < 1_000_000) stderr += text
    })
    const kill = () => {
      try {
        process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It is gone already.
      }
    }
    const timer = setTimeout(() => {
      timedOut = true
      kill()
    }, timeout)
    child.on('error', reject)
    child.on('exit', () => setTimeout(kill, 500))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, timedOut, stdout, stderr })
    })
  })
}
