import { type ChildProcess, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reportSchema } from '../../src/audit/report-schema.js'
import { CLI } from '../support/child.js'
import { drytrace, emptyDirectory } from './drytrace.js'

let cwd: string
let peer: Server
let url: string
let received: string[]

beforeEach(async () => {
  cwd = realpathSync(emptyDirectory())
  received = []
  peer = createServer((request, response) => {
    received.push(`${request.method} ${request.url}`)
    response.end('{"ok":true}')
  })
  await new Promise<void>((done) => peer.listen(0, '127.0.0.1', done))
  url = `http://127.0.0.1:${(peer.address() as AddressInfo).port}`
})

afterEach(() => {
  peer.closeAllConnections()
  peer.close()
  rmSync(cwd, { recursive: true, force: true })
})

function script(source: string, name = 'app.mjs'): string {
  const file = join(cwd, name)
  writeFileSync(file, source)
  return file
}

const post = (path: string) =>
  `await fetch('${url}${path}', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"email":"ann@example.com"}' })\n`
const run = (args: readonly string[], env: Record<string, string | undefined> = {}) =>
  drytrace(['run', ...args], { cwd, env })
const node = (file: string, ...args: string[]) => ['--', process.execPath, file, ...args]

describe('drytrace run', () => {
  it('blocks the writes of a program, lets its reads through, and prints the report behind its output', async () => {
    const app = script(`
      console.log('app says', (await (await fetch('${url}/v1/contacts')).json()).ok)
      ${post('/v1/contacts')}
      console.log('app is done')
    `)
    const { code, stdout, stderr } = await run(node(app))
    expect(received).toEqual(['GET /v1/contacts'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^app says true\napp is done\n\nCLEAN: 1 write blocked, 0 left the process\n/)
    expect(stdout).toContain('email: "ann@example.com"')
    expect(stdout).not.toContain('\u001b')
    expect(stderr).toMatch(/^blocked {3}POST 127\.0\.0\.1:\d+\/v1\/contacts$/m)
    expect(stderr).not.toContain('GET')
  })

  it('keeps the journal of each run, out of the way of git', async () => {
    const { stdout } = await run(['--json', ...node(script(post('/a')))])
    const { id } = JSON.parse(stdout).run
    expect(readdirSync(join(cwd, '.drytrace/runs'))).toEqual([id])
    expect(readFileSync(join(cwd, '.drytrace/.gitignore'), 'utf8')).toBe('*\n')
    const again = await drytrace(['report', '--json'], { cwd })
    expect(again.stdout).toBe(stdout)
  })

  it('keeps the newest 50 journals it made, those of the last day, and all that were not its own', async () => {
    const app = script('')
    await run(node(app))
    const runs = join(cwd, '.drytrace/runs')
    const [own = ''] = readdirSync(runs)
    const age = (name: string, days: number) => {
      const at = Date.now() / 1000 - days * 86_400
      for (const file of readdirSync(join(runs, name))) utimesSync(join(runs, name, file), at, at)
      utimesSync(join(runs, name), at, at)
    }
    const made = (name: string, days: number) => {
      cpSync(join(runs, own), join(runs, name), { recursive: true })
      age(name, days)
    }
    age(own, 100)
    for (let days = 1; days <= 48; days += 1) made(`dr-${days}`, days + 1)
    made('dr-50th', 60)
    made('dr-51st', 61)
    made('dr-52nd', 62)
    // Made long ago, but its program writes still.
    writeFileSync(join(runs, 'dr-52nd', '1-1.jsonl'), '')
    utimesSync(join(runs, 'dr-52nd'), new Date(0), new Date(0))
    // Named by somebody, as a new one and as one that was there.
    await run(['--journal', '.drytrace/runs/dr-named', ...node(app)])
    age('dr-named', 200)
    made('dr-taken', 201)
    await run(['--journal', '.drytrace/runs/dr-taken', ...node(app)])
    age('dr-taken', 201)
    mkdirSync(join(runs, 'dr-foreign'))
    age('dr-foreign', 300)
    const before = readdirSync(runs)

    const { stderr } = await run(node(app))
    const after = readdirSync(runs)
    // The new run is the first of the fifty.
    expect(before.filter((name) => !after.includes(name)).sort()).toEqual([own, 'dr-51st'].sort())
    expect(after.filter((name) => !before.includes(name))).toHaveLength(1)
    expect(stderr).toContain('removed the journals of 2 old runs')
  })

  it('removes nothing when it is told where the journal goes', async () => {
    const app = script('')
    await run(node(app))
    const runs = join(cwd, '.drytrace/runs')
    const [own = ''] = readdirSync(runs)
    const at = Date.now() / 1000 - 10 * 86_400
    for (let index = 0; index < 60; index += 1) {
      cpSync(join(runs, own), join(runs, `dr-${index}`), { recursive: true })
      for (const file of readdirSync(join(runs, `dr-${index}`))) utimesSync(join(runs, `dr-${index}`, file), at, at)
      utimesSync(join(runs, `dr-${index}`), at, at)
    }
    await run(['--journal', 'elsewhere', ...node(app)])
    expect(readdirSync(runs)).toHaveLength(61)
    // And does without the option, so that the above says something.
    await run(node(app))
    expect(readdirSync(runs)).toHaveLength(50)
  })

  it('prints one JSON document on stdout with --json; the program speaks on stderr', async () => {
    const { code, stdout, stderr } = await run(['--json', ...node(script(`console.log('hello'); ${post('/a')}`))])
    expect(code).toBe(0)
    const report = reportSchema.parse(JSON.parse(stdout))
    expect(report.run).toMatchObject({ entry: 'process', verdict: 'clean', service: ['app'] })
    expect(report.totals).toMatchObject({ blocked: 1 })
    expect(stderr).toMatch(/^hello$/m)
  })

  it('covers the processes the program starts, in one run', async () => {
    script(post('/child'), 'child.mjs')
    const app = script(`
      import { spawnSync } from 'node:child_process'
      ${post('/parent')}
      const { status } = spawnSync(process.execPath, ['${join(cwd, 'child.mjs')}'], { stdio: 'inherit' })
      if (status !== 0) process.exit(9)
    `)
    // The policy lets the child process start; that its writes are blocked is what is tested.
    writeFileSync(
      join(cwd, 'p.yaml'),
      'version: 1\nrules:\n  - {name: node-child, match: {system: process}, verdict: allow, owner: me, reason: test, expires: 2099-01-01}\n',
    )
    const { code, stdout } = await run(['--json', '--policy', 'p.yaml', ...node(app)])
    expect(code).toBe(0)
    expect(received).toEqual([])
    const report = reportSchema.parse(JSON.parse(stdout))
    const posts = report.effects
      .filter(({ system }) => system === 'http')
      .map(({ service, target }) => [service, target.split('/').at(-1)])
    expect(posts).toEqual([
      ['app', 'parent'],
      ['child', 'child'],
    ])
  })

  it('exits with 10 for raw egress the fence refused', async () => {
    const app = script(`
      import net from 'node:net'
      const socket = net.connect(${(peer.address() as AddressInfo).port}, '127.0.0.1')
      socket.on('error', () => {}).on('connect', () => socket.end('DELETE / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'))
    `)
    const { code, stdout, stderr } = await run(node(app))
    expect(received).toEqual([])
    expect(code).toBe(10)
    expect(stdout).toContain('INCOMPLETE: 0 writes blocked, 1 raw connection refused, 0 left the process')
    expect(stderr).toMatch(/^refused {3}connect to 127\.0\.0\.1/m)
  })

  it("exits with the program's own code, whatever was found, and with 128 + n for a signal", async () => {
    const exits = await run(node(script(`${post('/a')} process.exit(3)`)))
    expect(exits.code).toBe(3)
    expect(exits.stdout).toContain('CLEAN: 1 write blocked')
    const killed = await run(node(script(`${post('/a')} process.kill(process.pid, 'SIGKILL')`)))
    expect(killed.code).toBe(137)
    expect(killed.stdout).toContain('CLEAN: 1 write blocked')
    expect(killed.stdout).toContain('no end recorded')
  })

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'passes %s on, waits for the program and still prints the report',
    async (signal) => {
      const app = script(`
      ${post('/a')}
      process.on('${signal}', () => setTimeout(() => { console.log('clean shutdown'); process.exit(0) }, 200))
      setInterval(() => {}, 1_000)
      console.log('ready')
    `)
      const { NODE_OPTIONS: _, ...env } = process.env
      const cli = spawn(process.execPath, [CLI, 'run', ...node(app)], {
        cwd,
        env: { ...env, DRYTRACE_QUIET: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const output = await outputOf(cli, (text) => {
        if (text.includes('ready') && !cli.killed) cli.kill(signal)
      })
      expect(output.text).toContain('clean shutdown\n\nCLEAN: 1 write blocked')
      expect(output.code).toBe(0)
    },
  )

  it('says so when the program was never guarded: exit code 12, and nothing that looks clean', async () => {
    const { code, stdout } = await run(['--', 'sh', '-c', 'echo done > trace'])
    expect(code).toBe(12)
    expect(existsSync(join(cwd, 'trace'))).toBe(true)
    expect(stdout).toContain('INCOMPLETE: nothing is known of what this run did')
    expect(stdout.replaceAll(/\s+/g, ' ')).toContain('sh was never guarded')
    expect(stdout.replaceAll(/\s+/g, ' ')).toContain('Whatever it did was done for real')
    expect(stdout).not.toContain('CLEAN')
  })

  it('says so as JSON when something took NODE_OPTIONS away', async () => {
    const app = script(post('/really'))
    const { code, stdout } = await run(['--json', '--', 'env', '-u', 'NODE_OPTIONS', process.execPath, app])
    expect(code).toBe(12)
    expect(received).toEqual(['POST /really'])
    const report = reportSchema.parse(JSON.parse(stdout))
    expect(report.run.verdict).toBe('incomplete')
    expect(report.problems).toMatchObject([{ kind: 'gap', message: expect.stringContaining('env was never guarded') }])
  })

  it('does not take the runs of others in a shared journal for its own', async () => {
    mkdirSync(join(cwd, 'shared'))
    const app = script(post('/a'))
    const first = JSON.parse((await run(['--json', '--journal', 'shared', ...node(app)])).stdout)
    const second = JSON.parse((await run(['--json', '--journal', 'shared', ...node(app)])).stdout)
    expect(second.schema).toBe('drytrace.report/1')
    expect(second.run.id).not.toBe(first.run.id)
    const unguarded = await run(['--json', '--journal', 'shared', '--', 'true'])
    expect(unguarded.code).toBe(12)
  })

  it('keeps what was in NODE_OPTIONS and BAGGAGE, without the flag of an outer run', async () => {
    const app = script(
      'console.log(JSON.stringify([process.env.NODE_OPTIONS, process.env.BAGGAGE, process.env.TRACESTATE]))',
    )
    const { stdout } = await run(node(app), {
      NODE_OPTIONS: '--max-old-space-size=512',
      BAGGAGE: 'tenant=acme,dry_run=true,dry_run.run.id=dr-outer',
      TRACESTATE: 'vendor=1,drytrace=1:dr-outer',
    })
    const [options, baggage, tracestate] = JSON.parse(stdout.split('\n')[0]!)
    expect(options).toMatch(/^--max-old-space-size=512 --import=file:\/\/\S+\/register\.js$/)
    expect(baggage).toMatch(/^dry_run=true,dry_run\.run\.id=dr-[\w-]+,tenant=acme$/)
    expect(tracestate).toMatch(/^drytrace=1:dr-[\w-]+,vendor=1$/)
    expect(stdout).not.toContain('dr-outer')
  })

  it("leaves the program's stdin to it", async () => {
    const app = script(`for await (const chunk of process.stdin) process.stdout.write(String(chunk).toUpperCase())`)
    const { NODE_OPTIONS: _, ...env } = process.env
    const cli = spawn(process.execPath, [CLI, 'run', ...node(app)], { cwd, env, stdio: ['pipe', 'pipe', 'ignore'] })
    cli.stdin!.end('hello')
    expect((await outputOf(cli)).text).toMatch(/^HELLO/)
  })
})

function outputOf(
  child: ChildProcess,
  seen: (text: string) => void = () => {},
): Promise<{ text: string; code: number | null }> {
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    seen(text)
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000)
  return new Promise((done) => {
    child.on('close', (code) => {
      clearTimeout(timer)
      done({ text, code })
    })
  })
}
