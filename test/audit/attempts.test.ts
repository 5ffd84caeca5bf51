import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { renderJson } from '../../src/audit/render/json.js'
import { renderMarkdown } from '../../src/audit/render/markdown.js'
import { renderTerminal } from '../../src/audit/render/terminal.js'
import { buildReport, type Report } from '../../src/audit/report.js'
import { reportSchema } from '../../src/audit/report-schema.js'
import { listRuns, pickRun, readRun } from '../../src/audit/sources/journal.js'
import type { Attempt, EffectRecord, JournalEntry } from '../../src/journal/record.js'
import {
  effectEntry,
  endEntry,
  FILE,
  journalLines,
  moment,
  processEntry,
  RUN_ID,
  readEntry,
  runEntry,
  TRACE_ID,
  writeJournal,
} from './journal-builder.js'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'drytrace-attempts-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

let clock = 0

/** A blocked POST that was answered with 500, by the span `caller`, one after the other unless told otherwise. */
function post(attempt: Partial<Attempt> = {}, over: Partial<EffectRecord> = {}): JournalEntry {
  clock += 2
  const order = { began: clock - 1, recorded: clock }
  return effectEntry({
    system: 'http',
    action: 'create',
    target: 'crm.example/v1/contacts',
    summary: 'POST crm.example/v1/contacts',
    hook: { name: 'http', version: '24' },
    attempt: { request: 'r1', caller: 'c1', answer: 500, ...order, ...attempt },
    ...over,
  })
}

function reportOn(entries: readonly JournalEntry[], apart = 1000): Report {
  const all = [processEntry(), runEntry(), ...entries, endEntry()]
  writeJournal(directory, FILE, journalLines(all.map((entry, index) => moment(index * apart, entry))))
  const picked = pickRun(listRuns([directory]), RUN_ID)
  if (!('facts' in picked)) throw new Error(picked.reason)
  const report = buildReport(readRun(picked))
  expect(reportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(JSON.parse(JSON.stringify(report)))
  // The numbers and the rows speak of the same calls.
  expect(report.totals.blocked).toBe(report.effects.filter(({ outcome }) => outcome === 'blocked').length)
  expect(picked.facts.totals).toEqual(report.totals)
  return report
}

const attemptsOf = (report: Report) => report.effects.map(({ attempts = 1 }) => attempts)

describe('one call that its client tries again is one row', () => {
  it.each<[string, JournalEntry[]]>([
    ['by the key of the client', [post({ intent: 'k', answer: 200 }), post({ intent: 'k', caller: 'c2' })]],
    ['by what the client says itself', [post({ number: 0, answer: 200 }), post({ number: 1 })]],
    ['by a failure just before, in the same span', [post(), post()]],
    ['after no answer at all', [post({ answer: null }), post()]],
  ])('%s', (_, entries) => {
    expect(attemptsOf(reportOn(entries))).toEqual([2])
  })

  it('keeps every attempt findable, and the ids made up for each', () => {
    const report = reportOn([
      post({}, { spanId: 'a'.repeat(16), syntheticIds: ['dry_1'] }),
      post({}, { spanId: 'b'.repeat(16), syntheticIds: ['dry_2'] }),
      post({}, { spanId: 'c'.repeat(16), syntheticUsed: true }),
    ])
    expect(report.effects).toMatchObject([
      {
        attempts: 3,
        spanId: 'a'.repeat(16),
        attemptSpanIds: ['b'.repeat(16), 'c'.repeat(16)],
        syntheticIds: ['dry_1', 'dry_2'],
        syntheticUsed: true,
      },
    ])
  })

  it('every renderer says how many', () => {
    const report = reportOn([post(), post(), post()])
    expect(renderTerminal(report, { width: 100 })).toMatch(
      /1 write blocked[\s\S]*POST crm\.example\/v1\/contacts {2}3 attempts/,
    )
    expect(renderMarkdown(report)).toContain('`POST crm.example/v1/contacts` `3 attempts`')
    expect([...renderJson(report)].join('')).toContain('"attempts":3')
  })
})

describe('two equal calls stay two rows', () => {
  it.each<[string, JournalEntry[]]>([
    ['when the first was done', [post({ answer: 200 }), post({ answer: 200 })]],
    ['with other keys', [post({ intent: 'k1' }), post({ intent: 'k2' })]],
    ['when only one has a key', [post({ intent: 'k1' }), post()]],
    ['with another body or URL', [post(), post({ request: 'r2' })]],
    ['made by another span', [post(), post({ caller: 'c2' })]],
    ['when nobody knows by which span', [post({ caller: null }), post({ caller: null })]],
    ['in another trace', [post(), post({}, { traceId: TRACE_ID.replace('5', '6') })]],
    ['made at once', [post({ began: 1, recorded: 3 }), post({ began: 2, recorded: 4 })]],
    ['with the same number', [post({ number: 0 }), post({ number: 0 })]],
    ['with no evidence', [post({}, { attempt: undefined }), post({}, { attempt: undefined })]],
    ['when one met a failure of the guard', [post({}, { outcome: 'failed' }), post()]],
  ])('%s', (_, entries) => {
    const report = reportOn(entries)
    expect(report.effects).toHaveLength(2)
    expect(report.effects.some(({ attempts }) => attempts !== undefined)).toBe(false)
  })

  it('long after the failure', () => {
    expect(attemptsOf(reportOn([post(), post()], 31_000))).toEqual([1, 1])
  })

  it('two calls with two attempts each', () => {
    const entries = [post({ number: 0 }), post({ number: 0 }), post({ number: 1 }), post({ number: 1 })]
    expect(attemptsOf(reportOn(entries))).toEqual([2, 2])
  })
})

describe('reads in another process', () => {
  it('are a problem where the run would have changed what they read', () => {
    const target = { system: 'http', target: 'crm.example/v1/contacts/7' }
    const write = post({}, { ...target, action: 'update', summary: 'PATCH crm.example/v1/contacts/7' })
    const read = readEntry({ ...target, service: 'billing', summary: 'GET crm.example/v1/contacts/7' })
    const other = FILE.replace('4711', '4712')
    writeJournal(
      directory,
      FILE,
      journalLines([processEntry(), runEntry(), write].map((entry, at) => moment(at, entry))),
    )
    writeJournal(
      directory,
      other,
      journalLines([processEntry('billing'), runEntry(), read, read].map((entry, at) => moment(10 + at, entry))),
    )
    const picked = pickRun(listRuns([directory]), RUN_ID)
    if (!('facts' in picked)) throw new Error(picked.reason)
    expect(buildReport(readRun(picked)).problems).toEqual([
      {
        kind: 'gap',
        message: expect.stringMatching(
          /^not overlaid: GET .* by billing .* \(PATCH .* was blocked in another process, of support-triage\)/,
        ),
        spanId: null,
      },
    ])
    expect(reportOn([write, read]).problems).toEqual([])
  })

  it('what was overlaid stands apart among the reads', () => {
    const read = { system: 'http', target: 'crm.example/v1/contacts/7' }
    const report = reportOn([
      readEntry(read),
      readEntry({ ...read, overlaidBy: [{ summary: 'PATCH x', spanId: 'a' }] }),
    ])
    expect(report.effects[1]?.overlaidBy).toEqual([{ summary: 'PATCH x', spanId: 'a' }])
    expect(renderTerminal(report, { width: 100 })).toContain('contacts/7 (overlaid)')
  })
})
