import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { type HttpWorld, startHttpWorld } from '../../support/http-world.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'
import { findTool } from '../../support/tools.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.log.length = 0
})

/** A program that writes, by way of a child of its own too, and tells where it was started from. */
const WRITE = `
  import { execFileSync } from 'node:child_process'
  const [url, name, deeper] = process.argv.slice(2)
  await fetch(url + '/' + name, { method: 'POST' }).then((r) => r.text())
  if (deeper) execFileSync(process.execPath, [process.argv[1], url, name + '-grandchild'])
`

const npm = findTool('npm')

const FORMS = `
  import { exec, execFile, execFileSync, execSync, fork, spawn, spawnSync } from 'node:child_process'
  import { promisify } from 'node:util'
  import { Worker } from 'node:worker_threads'
  import { dryRun } from ${JSON.stringify(INDEX_URL)}
  const { URL: url, NPM } = process.env
  const node = process.execPath
  const ended = (child) => new Promise((resolve, reject) => child.on('error', reject).on('close', (code) => code === 0 ? resolve() : reject(new Error('exit ' + code))))
  const exited = (worker) => new Promise((resolve, reject) => worker.on('error', reject).on('exit', resolve))
  const WORKER = "fetch(require('node:worker_threads').workerData, { method: 'POST' }).then((r) => r.text())"
  const forms = {
    spawn: (name) => ended(spawn('node', ['write.mjs', url, name, 'deeper'])),
    'spawn-empty-env': (name) => ended(spawn(node, ['write.mjs', url, name, 'deeper'], { env: {} })),
    'spawn-own-options': (name) => ended(spawn(node, ['write.mjs', url, name], { env: { NODE_OPTIONS: '--no-warnings' } })),
    'spawn-shell': (name) => ended(spawn('node write.mjs ' + url + ' ' + name, { shell: true })),
    fork: (name) => ended(fork('write.mjs', [url, name])),
    'fork-empty-env': (name) => ended(fork('write.mjs', [url, name], { env: {}, execArgv: [] })),
    exec: (name) => promisify(exec)('node write.mjs "' + url + '" ' + name + ' && node -e 0'),
    'exec-sequence': (name) => promisify(exec)("LANG=C node 'write.mjs' " + url + ' ' + name + '; exec node -e 0'),
    execFile: (name) => promisify(execFile)(node, ['write.mjs', url, name]),
    execFileSync: (name) => execFileSync(node, ['write.mjs', url, name], { env: {} }),
    execSync: (name) => execSync('node write.mjs ' + url + ' ' + name),
    spawnSync: (name) => { if (spawnSync('sh', ['-c', 'node write.mjs ' + url + ' ' + name]).status !== 0) throw new Error('failed') },
    shebang: (name) => promisify(execFile)('./cli', [url, name]),
    'other-directory': (name) => ended(spawn(node, ['../write.mjs', url, name], { cwd: 'below', env: {} })),
    worker: (name) => exited(new Worker(WORKER, { eval: true, workerData: url + '/' + name })),
    'worker-empty-env': (name) => exited(new Worker(WORKER, { eval: true, workerData: url + '/' + name, env: {}, execArgv: [] })),
    'worker-file': (name) => exited(new Worker('./worker.mjs', { workerData: url + '/' + name })),
    ...(NPM ? { npm: (name) => promisify(execFile)(NPM, ['run', '--silent', 'write', '--', url, name]) } : {}),
  }
`

const files = {
  'write.mjs': WRITE,
  'worker.mjs': "import { workerData } from 'node:worker_threads'; await fetch(workerData, { method: 'POST' })",
  cli: `#!/usr/bin/env node\n(async () => { ${WRITE.replace(/import .*/, '')} })()`,
  'package.json': { type: 'commonjs', scripts: { write: 'node write.mjs' } },
  'below/keep': '',
}

const env = (directory: string) => ({
  URL: world.url,
  NPM: npm,
  PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin`,
  npm_config_update_notifier: 'false',
  npm_config_cache: path.join(directory, 'npm'),
})

describe('a Node program started', () => {
  it('in a dry run belongs to it, whatever its environment: same run, same journal directory', async () => {
    const directory = scratchTree(files)
    // Relative, and not the default: children with another environment or directory must find it.
    const finished = await runNode({
      register: true,
      cwd: directory,
      timeout: 55_000,
      env: { ...env(directory), DRYTRACE_JOURNAL: 'records' },
      source: `${FORMS}
        import { chmodSync } from 'node:fs'
        chmodSync('cli', 0o755)
        const out = {}
        await dryRun({ id: 'family' }, async () => {
          for (const [name, form] of Object.entries(forms)) out[name] = await Promise.resolve().then(() => form(name)).then(() => 'ran', (error) => error.code + ' ' + error.message + (error.stderr ?? ''))
        })
        console.log('OUT ' + JSON.stringify(out))`,
    })
    const out = outputOf<Record<string, string>>(finished)
    expect(out).toEqual(Object.fromEntries(Object.keys(out).map((name) => [name, 'ran'])))
    expect(world.log).toEqual([])

    const journal = path.join(directory, 'records')
    const effects = readEffects(journal)
    const posts = effects.filter(({ system }) => system === 'http').map(({ target }) => target.split('/').at(-1))
    expect(posts.sort()).toEqual([...Object.keys(out), 'spawn-grandchild', 'spawn-empty-env-grandchild'].sort())
    expect(new Set(effects.map(({ runId }) => runId))).toEqual(new Set(['family']))
    const starts = effects.filter(({ system }) => system === 'process')
    expect(new Set(starts.map(({ outcome, rule }) => `${outcome} ${rule}`))).toEqual(
      new Set(['forwarded process.node']),
    )
    const runs = readRecords(journal).filter(({ type }) => type === 'run')
    expect(runs.length).toBeGreaterThan(Object.keys(out).length)
  }, 60_000)

  it('live writes as ever', async () => {
    const directory = scratchTree(files)
    const finished = await runNode({
      register: true,
      cwd: directory,
      timeout: 55_000,
      env: env(directory),
      source: `${FORMS}
        import { chmodSync } from 'node:fs'
        chmodSync('cli', 0o755)
        for (const [name, form] of Object.entries(forms)) await form(name)
        console.log('OUT ' + JSON.stringify(Object.keys(forms)))`,
    })
    const names = outputOf<string[]>(finished)
    expect(world.log.map((line) => line.trim().slice('POST /'.length)).sort()).toEqual(
      [...names, 'spawn-grandchild', 'spawn-empty-env-grandchild'].sort(),
    )
  }, 60_000)
})
