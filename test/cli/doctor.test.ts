import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { drytrace, emptyDirectory } from './drytrace.js'

let cwd: string

beforeEach(() => {
  cwd = emptyDirectory()
})

afterEach(() => {
  rmSync(cwd, { recursive: true, force: true })
})

const doctor = (env: Record<string, string> = {}) => drytrace(['doctor'], { cwd, env })

function install(name: string, version: string, below = ''): void {
  const root = join(cwd, below, 'node_modules', name)
  mkdirSync(root, { recursive: true })
  writeFileSync(join(root, 'package.json'), JSON.stringify({ name, version }))
}

/** The line about one thing: its level and what follows. */
function line(stdout: string, name: string): string | undefined {
  return stdout.split('\n').find((text) => text.split(/\s+/)[1] === name)
}

describe('drytrace doctor', () => {
  it('finds nothing wrong in an empty directory', async () => {
    const { code, stdout } = await doctor()
    expect(code).toBe(0)
    for (const name of ['node', 'drytrace', '@opentelemetry/api', 'journal', 'policy', 'secret', 'http']) {
      expect(line(stdout, name)).toMatch(/^ok /)
    }
    expect(stdout).toMatch(/\n0 failing, 0 to look at, \d+ ok\n$/)
  })

  it('fails for an invalid policy, with its line and the command that checks it', async () => {
    writeFileSync(join(cwd, 'drytrace.config.yaml'), 'version: 1\nnonsense: 1\n')
    const { code, stdout } = await doctor()
    expect(code).toBe(1)
    expect(line(stdout, 'policy')).toMatch(/^fail .*drytrace\.config\.yaml:2: /)
    expect(stdout).toContain('drytrace policy check')
  })

  it('fails for a policy that takes signed flags only, without a key', async () => {
    writeFileSync(join(cwd, 'drytrace.config.yaml'), 'version: 1\ntrust: {mode: signed, audience: [billing]}\n')
    expect(line((await doctor()).stdout, 'secret')).toMatch(/^fail .*signed/)
    const set = await doctor({ DRYTRACE_SECRET: 'correct horse battery staple, and some more' })
    expect(line(set.stdout, 'secret')).toMatch(/^ok /)
    expect(set.stdout).not.toContain('battery')
    expect(line((await doctor({ DRYTRACE_SECRET: 'file:/nowhere' })).stdout, 'secret')).toMatch(/^fail /)
  })

  it('fails for a journal that cannot be written', async () => {
    writeFileSync(join(cwd, 'file'), '')
    const { code, stdout } = await doctor({ DRYTRACE_JOURNAL: join(cwd, 'file/journal') })
    expect(code).toBe(1)
    expect(line(stdout, 'journal')).toMatch(/^fail .*not a directory/)
    expect(stdout).toContain('fix: set DRYTRACE_JOURNAL')
  })

  it('does not make the journal directory by looking', async () => {
    expect(line((await doctor()).stdout, 'journal')).toMatch(/can be made$/)
    expect(line((await doctor()).stdout, 'journal')).toMatch(/can be made$/)
  })

  it('finds every copy of a guarded library, and fails for a version outside the tested range', async () => {
    install('undici', '8.12.4')
    install('undici', '0.0.1', 'node_modules/some-sdk')
    const { code, stdout } = await doctor()
    expect(code).toBe(1)
    expect(stdout).toMatch(/^ok +undici +8\.12\.4 \(node_modules\/undici\), guarded$/m)
    expect(stdout).toMatch(
      /^fail +undici +0\.0\.1 \(node_modules\/some-sdk\/node_modules\/undici\) is outside the tested range/m,
    )
    expect(stdout).toMatch(/fix: npm install undici@"/)
  })

  it('warns of clients it cannot guard, worse for those the fence does not see', async () => {
    install('kafkajs', '2.2.4')
    install('better-sqlite3', '12.0.0')
    const { code, stdout } = await doctor()
    expect(code).toBe(0)
    expect(line(stdout, 'kafkajs')).toMatch(/^warn .*the fence refuses its connections/)
    expect(line(stdout, 'better-sqlite3')).toMatch(/^warn .*its writes are NOT blocked/)
  })

  it('warns when the project has an older OpenTelemetry API than drytrace, which would lose our spans', async () => {
    install('@opentelemetry/api', '1.4.0')
    const { code, stdout } = await doctor()
    expect(code).toBe(0)
    expect(line(stdout, '@opentelemetry/api')).toMatch(/^warn +@opentelemetry\/api +1\.4\.0 of the project/)
    expect(stdout).toMatch(/fix: npm install @opentelemetry\/api@\^/)
  })
})
