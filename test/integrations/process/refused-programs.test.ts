import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

/** Every form of the API, each creating a file of its own by `touch`. */
const FORMS = `
  import cp, { exec, execFile, execFileSync, execSync, spawn, spawnSync } from 'node:child_process'
  import { promisify } from 'node:util'
  import { dryRun } from ${JSON.stringify(INDEX_URL)}
  const dir = process.env.DIR
  const ended = (child) => new Promise((resolve) => {
    const events = []
    child.on('error', (error) => events.push(error.code))
    child.on('close', (code) => resolve([...events, code].join(' ')))
    child.on('error', () => setTimeout(() => resolve(events.join(' ')), 50))
  })
  const attempt = async (fn) => { try { return await fn() } catch (error) { return error.code } }
  const forms = {
    spawn: () => ended(spawn('touch', [dir + '/spawn'])),
    'spawn by path': () => ended(spawn('/usr/bin/touch', [dir + '/spawn-path'])),
    'spawn with a shell': () => ended(spawn('touch ' + dir + '/spawn-shell', { shell: true })),
    exec: () => new Promise((resolve) => exec('touch ' + dir + '/exec', (error) => resolve(error?.code ?? 'ran'))),
    execFile: () => new Promise((resolve) => execFile('touch', [dir + '/execFile'], (error) => resolve(error?.code ?? 'ran'))),
    'promisified exec': () => attempt(() => promisify(exec)('touch ' + dir + '/promisified').then(() => 'ran')),
    'promisified execFile': () => attempt(() => promisify(execFile)('touch', [dir + '/promisified-file']).then(() => 'ran')),
    spawnSync: () => { const r = spawnSync('touch', [dir + '/spawnSync']); return r.error?.code ?? 'ran' },
    'spawnSync without arguments': () => { const r = spawnSync('touch ' + dir + '/spawnSync-shell', { shell: true }); return r.error?.code ?? 'ran' },
    execSync: () => attempt(() => { execSync('touch ' + dir + '/execSync'); return 'ran' }),
    execFileSync: () => attempt(() => { execFileSync('touch', [dir + '/execFileSync']); return 'ran' }),
    'by the default export': () => attempt(() => { cp.execFileSync('touch', [dir + '/default']); return 'ran' }),
    'process.execve': () => attempt(() => process.execve('/usr/bin/touch', ['touch', dir + '/execve'], {})),
  }
`

describe('a program that is not Node, in a dry run', () => {
  it('is refused by every form of the API, natively, and on record', async () => {
    const directory = scratchTree({ 'out/keep': '' })
    const journal = path.join(directory, 'journal')
    const finished = await runNode({
      register: true,
      env: { DIR: path.join(directory, 'out'), DRYTRACE_JOURNAL: journal },
      source: `${FORMS}
        const out = {}
        await dryRun({ id: 'refused' }, async () => { for (const [name, form] of Object.entries(forms)) out[name] = await form() })
        console.log('OUT ' + JSON.stringify(out))`,
    })
    const out = outputOf<Record<string, string>>(finished)
    for (const [name, outcome] of Object.entries(out)) expect(String(outcome), name).toMatch(/^DRY_BLOCKED( -\d)?$/)
    expect(Object.keys(out)).toHaveLength(13)
    expect(readdirSync(path.join(directory, 'out'))).toEqual(['keep'])
    const effects = readEffects(journal)
    expect(effects.map(({ system, outcome, effect }) => `${system} ${outcome} ${effect}`)).toEqual(
      Array(13).fill('process blocked unknown'),
    )
    expect(new Set(effects.map(({ target }) => target))).toEqual(new Set(['touch', 'sh']))
    // Arguments may hold anything, so they are not written down.
    expect(JSON.stringify(effects)).not.toContain('/out/')
  })

  it('runs as ever live', async () => {
    const directory = scratchTree({ 'out/keep': '' })
    const finished = await runNode({
      register: true,
      env: { DIR: path.join(directory, 'out') },
      source: `${FORMS}
        delete forms['process.execve']
        for (const form of Object.values(forms)) await form()
        process.execve('/usr/bin/touch', ['touch', dir + '/execve'], {})`,
    })
    expect(finished.code, finished.stderr).toBe(0)
    expect(readdirSync(path.join(directory, 'out'))).toHaveLength(1 + 13)
  })

  it('has the shape of a program that is missing', async () => {
    const source = `
      import { spawn, spawnSync, execFileSync } from 'node:child_process'
      import { dryRun } from ${JSON.stringify(INDEX_URL)}
      const shape = (value) => Object.fromEntries(Object.entries(value).map(([key, v]) => [key, v === null ? 'null' : typeof v]))
      const look = async () => {
        const child = spawn('/nowhere/program', ['a'])
        const events = []
        for (const name of ['spawn', 'error', 'exit', 'close']) child.on(name, () => events.push(name))
        const pid = child.pid
        await new Promise((resolve) => child.on('error', () => setTimeout(resolve, 50)))
        let thrown
        try { execFileSync('/nowhere/program') } catch (error) { thrown = Object.keys(shape(error)).filter((key) => ['status', 'signal', 'output', 'pid', 'stdout', 'stderr'].includes(key)).sort() }
        const { error, ...sync } = spawnSync('/nowhere/program')
        return { events, pid: typeof pid, streams: [child.stdin, child.stdout, child.stderr].map((s) => typeof s), sync: shape(sync), thrown }
      }
      const live = await look()
      const dry = await dryRun({}, look)
      console.log('OUT ' + JSON.stringify({ live, dry }))`
    const { live, dry } = outputOf<{ live: unknown; dry: unknown }>(await runNode({ register: true, source }))
    expect(dry).toEqual(live)
  })

  it('is refused when it hides behind Node', async () => {
    const directory = scratchTree({
      'package.json': { scripts: { touch: 'touch ran-run' } },
      'script.sh': '#!/bin/sh\ntouch ran-script\n',
      'plain.sh': 'touch ran-plain\n',
      'odd.sh': '#!/usr/bin/env -S sh\n# node\ntouch ran-odd\n',
      'evil/node': '#!/bin/sh\ntouch ran-named-node\n',
      'evil/sh': '#!/bin/sh\ntouch ran-named-sh\n',
      'start.sh': 'touch ran-startup\n',
      'write.mjs':
        "import { writeFileSync } from 'node:fs'; if (!process.env.DRY_RUN) writeFileSync('ran-unguarded', '')",
    })
    const lines = [
      'touch ran-0',
      'node -e 1; touch ran-1',
      'node -e 1 && touch ran-2',
      'node -e 1 & touch ran-3',
      'node -e 1 || touch ran-4',
      '! node -e 1 || touch ran-5',
      'node -e 1 | tee ran-6',
      'node -e 1 > ran-7',
      'node -e 1 >> ran-8',
      'node $(touch ran-9)',
      'node `touch ran-10`',
      'node -e "$(touch ran-11)"',
      'node -e "`touch ran-12`"',
      'A=$(touch ran-13) node -e 1',
      '(node -e 1; touch ran-14)',
      '{ touch ran-15; }',
      'node -e 1\ntouch ran-16',
      'node -e 1 \n\n touch ran-17',
      'if node -e 1; then touch ran-18; fi',
      'exec touch ran-19',
      'eval touch ran-20',
      'command touch ran-21',
      '. ./plain.sh',
      'sh plain.sh',
      'sh plain.sh -c "node -e 1"',
      './script.sh',
      'sh ./script.sh -c node',
      './odd.sh',
      './evil/node',
      'PATH=./evil node -e 1',
      './evil/sh -c "node -e 1"',
      'NODE_OPTIONS= node write.mjs',
      'NODE_OPTIONS=--no-warnings node write.mjs',
      'DRY_RUN=0 BAGGAGE= TRACESTATE= node write.mjs',
      'env -i node write.mjs',
      'env -u NODE_OPTIONS node write.mjs',
      'unset NODE_OPTIONS; node write.mjs',
      'node --run touch',
      'node --run=touch',
      'node *',
      'node -e 1 # ; touch ran-22',
      "node -e '1' ; touch 'ran-23'",
      'node\\ -e 1; touch ran-24',
      '',
    ]
    const finished = await runNode({
      register: true,
      cwd: directory,
      env: { LINES: JSON.stringify(lines), PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin` },
      source: `
        import { chmodSync } from 'node:fs'
        import { exec, execFile, spawn } from 'node:child_process'
        import { dryRun } from ${JSON.stringify(INDEX_URL)}
        for (const file of ['script.sh', 'odd.sh', 'evil/node', 'evil/sh']) chmodSync(file, 0o755)
        const out = {}
        const note = (name, start) => new Promise((resolve) => start((error) => { out[name] = error?.code ?? 'ran'; resolve() }))
        await dryRun({}, async () => {
          for (const line of JSON.parse(process.env.LINES)) {
            if (line === '') continue
            await note(line, (done) => exec(line, done))
          }
          const path = './evil:' + process.env.PATH
          await note('another node first on PATH', (done) => execFile('node', ['-e', '1'], { env: { PATH: path } }, done))
          await note('another sh first on PATH', (done) => execFile('sh', ['-c', 'node -e 1'], { env: { PATH: path } }, done))
          await note('a start-up file', (done) => execFile('bash', ['-c', 'node -e 1'], { env: { ...process.env, BASH_ENV: './start.sh' } }, done))
          await note('a shell that reads a file', (done) => execFile('sh', ['plain.sh'], done))
          await note('a shell that reads its input', (done) => { const child = execFile('sh', done); child.stdin.on('error', () => {}); child.stdin.end('touch ran-stdin') })
        })
        console.log('OUT ' + JSON.stringify(out))`,
    })
    const out = outputOf<Record<string, unknown>>(finished)
    const ran = Object.entries(out).filter(([, outcome]) => outcome !== 'DRY_BLOCKED')
    expect(ran).toEqual([])
    expect(Object.keys(out)).toHaveLength(lines.length - 1 + 5)
    expect(readdirSync(directory).filter((name) => name.startsWith('ran-'))).toEqual([])
  })

  it('passes by a policy rule that names it', async () => {
    const directory = scratchTree({
      'policy.yaml': `version: 1
rules:
  - {name: touch, match: {system: process, command: touch}, verdict: allow, owner: ops, reason: harmless, expires: 2999-01-01}
`,
    })
    const journal = path.join(directory, 'journal')
    const finished = await runNode({
      register: true,
      cwd: directory,
      env: { DRYTRACE_POLICY: path.join(directory, 'policy.yaml'), DRYTRACE_JOURNAL: journal },
      source: `
        import { execFileSync, spawnSync } from 'node:child_process'
        import { dryRun } from ${JSON.stringify(INDEX_URL)}
        await dryRun({}, () => {
          execFileSync('touch', ['allowed'])
          console.log('OUT ' + JSON.stringify(spawnSync('cp', ['allowed', 'refused']).error.code))
        })`,
    })
    expect(outputOf(finished)).toBe('DRY_BLOCKED')
    expect(existsSync(path.join(directory, 'allowed'))).toBe(true)
    expect(existsSync(path.join(directory, 'refused'))).toBe(false)
    expect(readEffects(journal).map(({ target, outcome, rule }) => `${target} ${outcome} ${rule}`)).toEqual([
      'touch allowed touch',
      'cp blocked default.unknown',
    ])
  })
})
