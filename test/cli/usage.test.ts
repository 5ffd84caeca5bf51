import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommand } from '../support/child.js'
import { drytrace, emptyDirectory } from './drytrace.js'

let cwd: string

beforeEach(() => {
  cwd = emptyDirectory()
})

afterEach(() => {
  rmSync(cwd, { recursive: true, force: true })
})

describe('a command line that cannot be carried out', () => {
  it.each([
    [['diff', 'a', 'b'], 'unknown command "diff"; the commands are run, report, doctor, policy'],
    [['reprot'], 'unknown command "reprot"; did you mean report?'],
    [['--bogus'], 'unknown option --bogus; options follow a command'],
    [['run'], 'no program to run: drytrace run -- CMD'],
    [['run', 'node', 'app.js'], 'the program goes behind --: drytrace run -- node app.js'],
    [['run', '--'], 'no program to run'],
    [['run', '--html', 'out.html', '--', 'node', '--version'], '--html is not in this version'],
    [['run', '--html=out.html', '--', 'node', '--version'], '--html is not in this version'],
    [['run', '--bogus', '--', 'node'], "Unknown option '--bogus'; the options are --policy, --journal, --json"],
    [['run', '--policy'], '--policy <value>'],
    [['run', '--', 'no-such-program'], 'no-such-program: no such program; check the name behind --'],
    [['run', '--policy', 'none.yaml', '--', 'node', '--version'], 'none.yaml: cannot be read'],
    [['report'], 'no dry run found below'],
    [['report', '--journal', 'nowhere'], 'nowhere; point --journal at the one the service writes to'],
    [['report', '--from', 'tempo'], '--from tempo is not in this version; use --from journal'],
    [['report', '--from', 'otlp-file'], '--from otlp-file is not in this version; use --from journal'],
    [['report', '--from', 'thin-air'], 'unknown source "thin-air"; use --from journal'],
    [['report', '--html'], '--html is not in this version'],
    [['report', '--json', '--md'], '--json and --md exclude each other'],
    [['report', 'a', '--all'], 'RUN and --all exclude each other'],
    [['report', 'a', 'b'], 'one RUN or TRACE at a time'],
    [['doctor', '--', 'node'], 'looking into a program is not in this version'],
    [['policy'], 'drytrace policy check [FILE]'],
    [['policy', 'chekc'], 'unknown "chekc": drytrace policy check [FILE]'],
    [['policy', 'check', 'none.yaml'], 'none.yaml: cannot be read'],
  ])('drytrace %j says what to do, and exits with 2', async (args, message) => {
    const { code, stdout, stderr } = await drytrace(args, { cwd })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^drytrace: /)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('    at ')
  })

  it('without a command shows the help, on stderr', async () => {
    const { code, stdout, stderr } = await drytrace([], { cwd })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('Usage: drytrace <command>')
  })

  it('is refused before the program starts when the policy is wrong, naming file, line and rule', async () => {
    writeFileSync(
      join(cwd, 'p.yaml'),
      'version: 1\nrules:\n  - name: open-door\n    match: {system: http, host: a.example}\n    verdict: allow\n',
    )
    const script = join(cwd, 'app.mjs')
    writeFileSync(script, `import { writeFileSync } from 'node:fs'; writeFileSync('started', '')`)
    const { code, stdout, stderr } = await drytrace(['run', '--policy', 'p.yaml', '--', process.execPath, script], {
      cwd,
    })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/p\.yaml:\d+: rule "open-door": .*owner/)
    const { stdout: files } = await runCommand('ls', [cwd], {})
    expect(files.split('\n')).not.toContain('started')
  })
})

describe('help and version', () => {
  it('lists the commands there are, and none that come later', async () => {
    const { code, stdout, stderr } = await drytrace(['--help'], { cwd })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect([...stdout.matchAll(/^ {2}([a-z]+) {2,}/gm)].map(([, name]) => name)).toEqual([
      'run',
      'report',
      'doctor',
      'policy',
    ])
  })

  it.each(['run', 'report', 'doctor', 'policy'])('has help for %s', async (command) => {
    const { code, stdout } = await drytrace([command, '--help'], { cwd })
    expect(code).toBe(0)
    expect(stdout).toMatch(new RegExp(`^Usage: drytrace ${command}`))
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
    expect((await drytrace(['help', command], { cwd })).stdout).toBe(stdout)
  })

  it('leaves --help behind -- to the program', async () => {
    const { stdout } = await drytrace(['run', '--', process.execPath, '--help'], { cwd })
    expect(stdout).toContain('Usage: node')
  })

  it('has a version', async () => {
    const { code, stdout } = await drytrace(['--version'], { cwd })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})

describe('drytrace policy check', () => {
  it('accepts a valid policy', async () => {
    writeFileSync(
      join(cwd, 'drytrace.config.yaml'),
      'version: 1\npostgres: {preview: none}\nrules:\n  - {name: a, match: {system: http, host: a.example}, effect: read}\n' +
        '  - {name: b, match: {system: pg-boss}, verdict: block}\n',
    )
    const { code, stdout } = await drytrace(['policy', 'check'], { cwd })
    expect(code).toBe(0)
    expect(stdout).toContain(`valid: ${join(cwd, 'drytrace.config.yaml')}`)
    expect(stdout).toContain('preview  none')
    expect(stdout).toContain('rules    2\n')
  })

  it('says which policy holds without a file', async () => {
    const { code, stdout } = await drytrace(['policy', 'check'], { cwd })
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('no policy file here') })
  })

  it('names the line of a mistake', async () => {
    writeFileSync(join(cwd, 'p.yaml'), 'version: 1\nonBlokced: throw\n')
    const { code, stderr } = await drytrace(['policy', 'check', 'p.yaml'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('p.yaml:2: onBlokced: unknown field')
  })
})
