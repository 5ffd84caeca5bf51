import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { exitCodeOfReport } from '../../src/audit/exit-code.js'
import { buildReport, type Report } from '../../src/audit/report.js'
import { reportSchema } from '../../src/audit/report-schema.js'
import { journalDirectories, listRuns, pickRun, readRun } from '../../src/audit/sources/journal.js'
import type { JournalEntry } from '../../src/journal/record.js'
import {
  effectEntry,
  endEntry,
  FILE,
  journalLines,
  moment,
  problemEntry,
  processEntry,
  RUN_ID,
  readEntry,
  runEntry,
  TRACE_ID,
  writeJournal,
} from './journal-builder.js'

const FIXTURES = fileURLToPath(new URL('fixtures/', import.meta.url))

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'drytrace-report-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function reportOf(from: string, wanted?: string): Report {
  const picked = pickRun(listRuns([from]), wanted)
  if (!('facts' in picked)) throw new Error(`${picked.reason}: ${wanted}`)
  const report = buildReport(readRun(picked))
  // What is printed must be the document that was promised, absent fields and all.
  expect(reportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(JSON.parse(JSON.stringify(report)))
  return report
}

/** The report of a run in which these things were recorded, a millisecond apart. */
function reportOn(...entries: readonly JournalEntry[]): Report {
  const all = [processEntry(), runEntry(), ...entries, endEntry()]
  writeJournal(directory, FILE, journalLines(all.map((entry, index) => moment(index, entry))))
  return reportOf(directory)
}

describe('the report of a run across two processes', () => {
  const report = () => reportOf(join(FIXTURES, 'two-processes'), RUN_ID)

  it('has the run, its services and traces', () => {
    expect(report().run).toEqual({
      id: RUN_ID,
      traceIds: [TRACE_ID, '00000000000000000000000000000abc'],
      entry: 'http',
      service: ['billing', 'support-triage'],
      startedAt: '2026-11-20T10:15:02.000Z',
      endedAt: '2026-11-20T10:15:03.240Z',
      verdict: 'clean',
    })
  })

  it('has every effect in the order of time, numbered, reads too', () => {
    const { effects, totals } = report()
    expect(effects.map(({ seq, at, service, summary }) => [seq, at.slice(17), service, summary])).toEqual([
      [1, '02.010Z', 'support-triage', 'SELECT public.customers'],
      [2, '02.020Z', 'support-triage', 'UPDATE public.customers'],
      [3, '02.030Z', 'billing', 'INSERT INTO public.invoices'],
      [4, '02.040Z', 'support-triage', 'POST crm.example/v1/contacts'],
      [5, '02.050Z', 'billing', 'INSERT INTO app.page_views'],
      [6, '02.060Z', 'support-triage', 'enqueue follow-ups'],
    ])
    expect(totals).toEqual({ blocked: 3, forwarded: 1, allowedWrites: 1, unblocked: 0, failed: 0, reads: 1 })
  })

  it('leaves out the other run in the same files', () => {
    expect(reportOf(join(FIXTURES, 'two-processes'), 'dr-other').effects.map(({ target }) => target)).toEqual([
      'public.elsewhere',
    ])
  })

  it('joins the attestations', () => {
    expect(report().attestation).toEqual({ hooks: ['http', 'pg@8.23.1', 'pg@8.11.0'], gaps: [], policyHash: 'aa' })
  })

  it('has the decisions', () => {
    expect(report().decisions).toEqual([
      {
        at: '2026-11-20T10:15:02.015Z',
        traceId: TRACE_ID,
        kind: 'llm',
        name: 'responses.create',
        model: 'gpt-5-mini',
        promptName: 'triage',
        promptVersion: 'v7',
        input: { mail: 'hello' },
      },
    ])
  })
})

describe('an effect in the report', () => {
  it('keeps the difference between null and "no such row"', () => {
    const diff = [
      { target: 'public.t', key: 'id=1', field: 'a', before: null, after: 1 },
      { target: 'public.t', key: 'id=2', field: 'a', after: null },
      { target: 'public.t', key: 'id=3', field: 'a', before: null },
    ]
    const { effects } = reportOn(effectEntry({ preview: { method: 'select', rows: 3, diff } }))
    expect(effects[0]!.preview).toEqual({ method: 'select', rows: 3, diff })
    expect(effects[0]!.preview.diff.map((change) => ['before' in change, 'after' in change])).toEqual([
      [true, true],
      [false, true],
      [true, false],
    ])
  })

  it('has preview method none when there was no preview, and no payload or error it does not have', () => {
    const [effect] = reportOn(effectEntry()).effects
    expect(effect).toMatchObject({ preview: { method: 'none', rows: 0, diff: [] } })
    expect(Object.keys(effect!)).not.toEqual(expect.arrayContaining(['payload']))
    expect(Object.keys(effect!)).not.toEqual(expect.arrayContaining(['error']))
    expect(Object.keys(effect!)).not.toEqual(expect.arrayContaining(['notes']))
  })

  it('says which ids were made up for it, and that it uses one', () => {
    const { effects } = reportOn(
      effectEntry({ syntheticIds: ['2000000001'] }),
      effectEntry({ syntheticUsed: true }),
      effectEntry(),
    )
    expect(effects.map(({ syntheticIds, syntheticUsed }) => [syntheticIds, syntheticUsed])).toEqual([
      [['2000000001'], undefined],
      [undefined, true],
      [undefined, undefined],
    ])
  })

  it('has its payload, its error, and what the preview does not promise', () => {
    const payload = { digest: 'ff', size: 3, contentType: 'text/plain', excerpt: 'abc' }
    const error = { code: 'DRY_BUDGET', message: 'too many writes' }
    const preview = { method: 'select' as const, rows: 0, diff: [], notes: ['triggers were not run'] }
    const { effects } = reportOn(effectEntry({ payload, error, preview, note: 'would fail: 23505' }))
    expect(effects[0]).toMatchObject({ payload, error, notes: ['triggers were not run', 'would fail: 23505'] })
  })
})

describe('the verdict', () => {
  const verdictAnd = (report: Report) => [report.run.verdict, exitCodeOfReport(report)]

  it('is clean when everything was blocked, allowed by rule, or read', () => {
    expect(verdictAnd(reportOn(effectEntry(), readEntry(), effectEntry({ outcome: 'allowed' })))).toEqual(['clean', 0])
  })

  it('is unblocked before everything else', () => {
    const report = reportOn(effectEntry({ outcome: 'unblocked' }), effectEntry({ outcome: 'failed' }))
    expect(verdictAnd(report)).toEqual(['unblocked', 10])
    expect(report.problems.map(({ kind }) => kind)).toEqual(['unblocked', 'guard_failed'])
  })

  it('is unblocked when only a witness says so', () => {
    expect(verdictAnd(reportOn(problemEntry({ kind: 'unblocked', message: 'a socket wrote' })))).toEqual([
      'unblocked',
      10,
    ])
  })

  it('is guard_failed for an effect that failed, and for a guard problem', () => {
    expect(verdictAnd(reportOn(effectEntry({ outcome: 'failed' })))).toEqual(['guard_failed', 11])
    expect(verdictAnd(reportOn(problemEntry({ kind: 'guard_failed' })))).toEqual(['guard_failed', 11])
  })

  it('is guard_failed for a guard problem of the whole process', () => {
    expect(verdictAnd(reportOn(effectEntry(), problemEntry({ kind: 'guard_failed', runId: null })))).toEqual([
      'guard_failed',
      11,
    ])
  })

  it('is incomplete, and exit code 10, for raw egress the fence refused', () => {
    const refusal = effectEntry({
      system: 'net',
      effect: 'unknown',
      target: 'db.example:3306',
      rule: 'default.unknown',
    })
    expect(verdictAnd(reportOn(refusal))).toEqual(['incomplete', 10])
    expect(verdictAnd(reportOn({ ...refusal, rule: 'fence' } as JournalEntry))).toEqual(['incomplete', 10])
  })

  it('is clean for raw egress a rule lets through', () => {
    expect(
      verdictAnd(reportOn(effectEntry({ system: 'net', effect: 'unknown', outcome: 'allowed', rule: 'statsd' }))),
    ).toEqual(['clean', 0])
  })

  it('counts a refused connection as unclassified even when the guard failed too', () => {
    const refusal = effectEntry({ system: 'net', effect: 'unknown' })
    expect(verdictAnd(reportOn(refusal, effectEntry({ outcome: 'failed' })))).toEqual(['guard_failed', 10])
  })

  it.each([
    ['a torn line', (lines: string[]) => lines.with(-1, lines.at(-1)!.slice(0, 20)), ''],
    ['a missing record', (lines: string[]) => lines.toSpliced(2, 1), '\n'],
    ['a changed record', (lines: string[]) => lines.with(2, lines[2]!.replace('blocked', 'allowed')), '\n'],
  ])('is incomplete for %s', (_, damage, end) => {
    const lines = journalLines(
      [processEntry(), runEntry(), effectEntry(), effectEntry(), endEntry()].map((entry, at) => moment(at, entry)),
    )
    writeJournal(directory, FILE, damage(lines), end)
    const report = reportOf(directory)
    expect(verdictAnd(report)).toEqual(['incomplete', 12])
    expect(report.problems).toMatchObject([{ kind: 'gap', message: expect.stringMatching(/^journal: 4711-/) }])
  })

  it('is incomplete when no record says how the run was entered', () => {
    writeJournal(
      directory,
      FILE,
      journalLines([moment(0, processEntry()), moment(1, effectEntry()), moment(2, endEntry())]),
    )
    const report = reportOf(directory)
    expect(verdictAnd(report)).toEqual(['incomplete', 12])
    expect(report.run.entry).toBe('unknown')
  })

  it('doubts every run that was under way when a file was begun of which nothing is left', () => {
    writeJournal(
      directory,
      FILE,
      journalLines([processEntry(), runEntry(), effectEntry()].map((entry, at) => moment(at, entry))),
    )
    writeJournal(directory, `4800-${Date.parse('2026-11-20T10:15:02.002Z')}.jsonl`, ['{"seq":1,"at'], '')
    expect(verdictAnd(reportOf(directory))).toEqual(['incomplete', 12])
  })

  it('does not doubt a run that had ended before such a file was begun', () => {
    writeJournal(
      directory,
      FILE,
      journalLines([processEntry(), runEntry(), effectEntry(), endEntry()].map((entry, at) => moment(at, entry))),
    )
    writeJournal(directory, `4800-${Date.parse('2026-11-20T11:00:00.000Z')}.jsonl`, ['{"seq":1,"at'], '')
    expect(verdictAnd(reportOf(directory))).toEqual(['clean', 0])
  })
})

describe('the problems', () => {
  it('say when the application ended with an error', () => {
    writeJournal(
      directory,
      FILE,
      journalLines([processEntry(), runEntry(), endEntry('boom')].map((entry, at) => moment(at, entry))),
    )
    expect(reportOf(directory).problems).toEqual([{ kind: 'run_error', message: 'boom', spanId: null }])
  })

  it('say it for each entry that failed, even in the same words, but not twice for one', () => {
    const { problems } = reportOn(
      endEntry('boom'),
      effectEntry(),
      endEntry('boom'),
      problemEntry({ kind: 'run_error', message: 'the handler failed' }),
      endEntry('the handler failed'),
    )
    expect(problems.map(({ kind, message }) => [kind, message])).toEqual([
      ['run_error', 'the handler failed'],
      ['run_error', 'boom'],
      ['run_error', 'boom'],
    ])
  })

  it('say when the carriers disagreed', () => {
    writeJournal(
      directory,
      FILE,
      journalLines([processEntry(), runEntry({ conflict: true }), endEntry()].map((entry, at) => moment(at, entry))),
    )
    expect(reportOf(directory).problems).toMatchObject([
      { kind: 'flag_lost', message: expect.stringContaining('baggage, header') },
    ])
  })

  it('do not repeat what was recorded as a problem already', () => {
    const failed = effectEntry({ outcome: 'failed', syntheticUsed: true, spanId: 'abc' })
    const { problems } = reportOn(
      failed,
      problemEntry({ kind: 'guard_failed', message: 'said once', spanId: 'abc' }),
      problemEntry({ kind: 'synthetic_used', message: 'said once too', spanId: 'abc' }),
    )
    expect(problems.map(({ message }) => message)).toEqual(['said once', 'said once too'])
  })
})

describe('picking a run', () => {
  const runs = () => listRuns([join(FIXTURES, 'two-processes')])
  const idOf = (wanted?: string) => {
    const picked = pickRun(runs(), wanted)
    return 'facts' in picked ? picked.facts.id : picked.reason
  }

  it('goes by run id, trace id, the beginning of either, or takes the newest', () => {
    expect(idOf(RUN_ID)).toBe(RUN_ID)
    expect(idOf(TRACE_ID)).toBe(RUN_ID)
    expect(idOf(TRACE_ID.slice(0, 8))).toBe(RUN_ID)
    expect(idOf('dr-oth')).toBe('dr-other')
    expect(idOf()).toBe('dr-other')
  })

  it('does not guess', () => {
    expect(idOf('dr-')).toBe('ambiguous')
    expect(idOf('nothing')).toBe('none')
  })

  it('lists the runs oldest first with their counts', () => {
    expect(
      runs().map(({ facts }) => [facts.id, facts.entry, [...facts.services].sort(), facts.totals.blocked]),
    ).toEqual([
      [RUN_ID, 'http', ['billing', 'support-triage'], 3],
      ['dr-other', 'message', ['support-triage'], 1],
    ])
  })
})

describe('where the journal is looked for', () => {
  const lines = () => journalLines([moment(0, processEntry())])
  const run = (name: string, begun: number) =>
    writeJournal(join(directory, '.drytrace/runs', name), `1-${begun}.jsonl`, lines())

  it('is what was given, else the environment, else the service, else the newest run', () => {
    const where = (over: object = {}) =>
      journalDirectories({ cwd: directory, ...over }).map((path) => path.replace(`${directory}/`, ''))
    expect(where()).toEqual([])
    run('b', 2_000)
    run('a', 3_000)
    run('c', 1_000)
    expect(where()).toEqual(['.drytrace/runs/a'])
    expect(where({ all: true })).toEqual(['.drytrace/runs/c', '.drytrace/runs/b', '.drytrace/runs/a'])
    writeJournal(join(directory, '.drytrace/journal'), FILE, lines())
    expect(where()).toEqual(['.drytrace/journal'])
    expect(where({ wanted: 'x' })).toEqual([
      '.drytrace/journal',
      '.drytrace/runs/c',
      '.drytrace/runs/b',
      '.drytrace/runs/a',
    ])
    expect(where({ environment: 'env' })).toEqual(['env'])
    expect(where({ environment: 'env', journal: 'given' })).toEqual(['given'])
  })
})
