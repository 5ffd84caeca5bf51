import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reportSchema } from '../../src/audit/report-schema.js'
import type { JournalEntry } from '../../src/journal/record.js'
import {
  effectEntry,
  endEntry,
  FILE,
  journalLines,
  moment,
  processEntry,
  RUN_ID,
  runEntry,
  TRACE_ID,
  writeJournal,
} from '../audit/journal-builder.js'
import { drytrace, emptyDirectory } from './drytrace.js'

const FIXTURE = fileURLToPath(new URL('../audit/fixtures/two-processes', import.meta.url))

let cwd: string

beforeEach(() => {
  cwd = emptyDirectory()
})

afterEach(() => {
  rmSync(cwd, { recursive: true, force: true })
})

const report = (...args: string[]) => drytrace(['report', ...args], { cwd })
const write = (directory: string, entries: readonly JournalEntry[], name = FILE) =>
  writeJournal(join(cwd, directory), name, journalLines(entries.map((entry, index) => moment(index, entry))))
const wholeRun = (...entries: readonly JournalEntry[]) => [processEntry(), runEntry(), ...entries, endEntry()]

describe('drytrace report --json', () => {
  it('prints the document of the schema on stdout, and nothing else', async () => {
    const { code, stdout, stderr } = await report(RUN_ID, '--journal', FIXTURE, '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const document = reportSchema.parse(JSON.parse(stdout))
    expect(document.run).toMatchObject({ id: RUN_ID, verdict: 'clean', service: ['billing', 'support-triage'] })
    expect(document.effects).toHaveLength(6)
  })

  it('takes a trace id, or the beginning of a run id', async () => {
    for (const wanted of [TRACE_ID, 'dr-mi7c']) {
      const { stdout } = await report(wanted, '--journal', FIXTURE, '--json')
      expect(JSON.parse(stdout).run.id).toBe(RUN_ID)
    }
  })

  it('takes the newest run without one, and says on stderr that there are more', async () => {
    const { stdout, stderr } = await report('--journal', FIXTURE, '--json')
    expect(JSON.parse(stdout).run.id).toBe('dr-other')
    expect(stderr).toContain('2 runs in')
  })

  it('is one document for all runs too', async () => {
    const { stdout } = await report('--all', '--journal', FIXTURE, '--json')
    const { schema, reports } = JSON.parse(stdout)
    expect(schema).toBe('drytrace.reports/1')
    expect(reports.map((one: unknown) => reportSchema.parse(one).run.id)).toEqual([RUN_ID, 'dr-other'])
  })
})

describe('drytrace report', () => {
  it('prints the terminal report without colour to a pipe, with colour when forced', async () => {
    const plain = await report(RUN_ID, '--journal', FIXTURE)
    expect(plain.stdout).toMatch(/^CLEAN: 3 writes blocked, 1 forwarded dry, 1 let through by policy\n/)
    const forced = await drytrace(['report', RUN_ID, '--journal', FIXTURE], { cwd, env: { FORCE_COLOR: '1' } })
    expect(forced.stdout).toContain('\u001b[32mCLEAN')
    const neither = await drytrace(['report', RUN_ID, '--journal', FIXTURE], { cwd, env: { NO_COLOR: '1' } })
    expect(neither.stdout).toBe(plain.stdout)
  })

  it('is as wide as COLUMNS says where there is no terminal', async () => {
    const { stdout } = await drytrace(['report', RUN_ID, '--journal', FIXTURE], { cwd, env: { COLUMNS: '50' } })
    expect(stdout.split('\n').filter((line) => line.length > 50)).toEqual([])
  })

  it('prints Markdown', async () => {
    const { stdout } = await report(RUN_ID, '--journal', FIXTURE, '--md')
    expect(stdout).toMatch(/^## CLEAN: /)
    expect(stdout).toContain('```diff\n- status: "open"\n+ status: "closed"\n```')
  })

  it('prints a table before the reports of all runs', async () => {
    const { stdout } = await report('--all', '--journal', FIXTURE)
    expect(stdout).toMatch(/^2 runs, all clean\n\nRUN .*VERDICT/)
    expect(stdout.indexOf('dr-other')).toBeLessThan(stdout.indexOf('CLEAN: '))
    expect(stdout.match(/^CLEAN: /gm)).toHaveLength(2)
  })

  it.each([
    ['clean', wholeRun(effectEntry()), 0],
    ['an un-blocked write', wholeRun(effectEntry({ outcome: 'unblocked' }), effectEntry({ outcome: 'failed' })), 10],
    ['refused raw egress', wholeRun(effectEntry({ system: 'net', effect: 'unknown' })), 10],
    ['a guard failure', wholeRun(effectEntry({ outcome: 'failed' })), 11],
    ['a gap', wholeRun(effectEntry(), effectEntry()), 12],
  ])('exits by the verdict: %s', async (what, entries, expected) => {
    const lines = journalLines(entries.map((entry, index) => moment(index, entry)))
    writeJournal(join(cwd, 'j'), FILE, what === 'a gap' ? lines.toSpliced(2, 1) : lines)
    const { code, stdout } = await report('--journal', 'j')
    expect(code).toBe(expected)
    expect(stdout).toMatch(/^[A-Z ]+: /)
  })

  it('exits by the worst of all runs', async () => {
    write('j', wholeRun(effectEntry()))
    const failed = [
      processEntry(),
      runEntry({ runId: 'b' }),
      effectEntry({ runId: 'b', outcome: 'failed' }),
      endEntry(null, 'b'),
    ]
    write('j', failed, FILE.replace('4711', '4712'))
    expect((await report('--all', '--journal', 'j')).code).toBe(11)
    expect((await report(RUN_ID, '--journal', 'j')).code).toBe(0)
  })
})

describe('where drytrace report looks', () => {
  const idOf = async (...args: string[]) => JSON.parse((await report(...args, '--json')).stdout).run.id
  const run = (id: string, startedAt: number) =>
    write(
      join('.drytrace/runs', id),
      [processEntry(), runEntry({ runId: id }), endEntry(null, id)],
      `1-${startedAt}.jsonl`,
    )

  it('finds the newest of drytrace run, any of them by its id, and the journal of a service first', async () => {
    run('dr-old', 1_000)
    run('dr-new', 2_000)
    expect(await idOf()).toBe('dr-new')
    expect(await idOf('dr-old')).toBe('dr-old')
    write('.drytrace/journal', wholeRun())
    expect(await idOf()).toBe(RUN_ID)
    expect(await idOf('dr-old')).toBe('dr-old')
  })

  it('goes by DRYTRACE_JOURNAL', async () => {
    run('dr-old', 1_000)
    const { stdout } = await drytrace(['report', RUN_ID, '--json'], { cwd, env: { DRYTRACE_JOURNAL: FIXTURE } })
    expect(JSON.parse(stdout).run.id).toBe(RUN_ID)
  })

  it('names the directory and the fix when there is nothing', async () => {
    mkdirSync(join(cwd, 'empty'))
    const empty = await report('--journal', 'empty')
    expect(empty).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(`no dry run found in ${join(cwd, 'empty')}; make one with`),
    })
    cpSync(FIXTURE, join(cwd, 'j'), { recursive: true })
    const other = await report('nope', '--journal', 'j')
    expect(other).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(`no run and no trace nope in ${join(cwd, 'j')}; drytrace report --all`),
    })
    const ambiguous = await report('dr-', '--journal', 'j')
    expect(ambiguous).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(`fits 2 runs in ${join(cwd, 'j')}: ${RUN_ID}, dr-other`),
    })
  })
})
