import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from 'vitest'
import { renderJson, renderJsonAll } from '../../src/audit/render/json.js'
import { renderMarkdown } from '../../src/audit/render/markdown.js'
import { renderRunsTable } from '../../src/audit/render/runs-table.js'
import { COLOURED } from '../../src/audit/render/style.js'
import { renderTerminal } from '../../src/audit/render/terminal.js'
import { width } from '../../src/audit/render/text.js'
import { buildReport, emptyReport, type Report } from '../../src/audit/report.js'
import { RunFacts } from '../../src/audit/run-facts.js'
import type { JournalEntry, JournalRecord } from '../../src/journal/record.js'
import { effectEntry, endEntry, type Moment, moment, problemEntry, RUN_ID, runEntry } from './journal-builder.js'
import { batchMoments, sampleMoments } from './sample-run.js'

function reportOf(moments: readonly Moment[]): Report {
  const records = moments.flatMap(({ after, entry }, index) => {
    if (entry.type === 'process') return []
    const at = new Date(Date.parse('2026-11-20T10:15:02.000Z') + after).toISOString()
    return [
      {
        process: '1-1',
        service: 'support-triage',
        record: { seq: index + 1, at, chain: '', ...entry } as JournalRecord,
      },
    ]
  })
  return buildReport({ runId: RUN_ID, records, integrity: [] })
}

const reportOn = (...entries: readonly JournalEntry[]) =>
  reportOf([runEntry(), ...entries, endEntry()].map((entry, index) => moment(index, entry)))

const sample = () => reportOf(sampleMoments)
const batch = () => reportOf(batchMoments)
const first = (text: string) => text.split('\n')[0]

describe('the report on a terminal', () => {
  it.each([80, 120])('reads well at %i columns', async (columns) => {
    const text = renderTerminal(sample(), { width: columns })
    await expect(text).toMatchFileSnapshot(`snapshots/sample-${columns}.txt`)
    expect(text.split('\n').filter((line) => width(line) > columns)).toEqual([])
  })

  it.each([80, 120])('reads well at %i columns for a run of several traces', async (columns) => {
    const text = renderTerminal(batch(), { width: columns })
    await expect(text).toMatchFileSnapshot(`snapshots/batch-${columns}.txt`)
    expect(text.split('\n').filter((line) => width(line) > columns)).toEqual([])
  })

  it.each([
    ['one trace', sample],
    ['several traces', batch],
  ])('says the same with colours: %s', (_, report) => {
    const coloured = renderTerminal(report(), { width: 80, style: COLOURED })
    expect(coloured).toContain('\u001b[')
    expect(stripVTControlCharacters(coloured)).toBe(renderTerminal(report(), { width: 80 }))
  })

  it('has no control characters of its own accord', () => {
    expect(renderTerminal(sample(), { width: 80 })).not.toMatch(/[^\P{Cc}\n]/u)
  })

  it('does not let data repaint the screen', () => {
    const evil = 'x\u001b[2J\u009b1A\r\u202e'
    const text = renderTerminal(
      reportOn(
        effectEntry({
          target: evil,
          summary: `UPDATE ${evil}`,
          note: evil,
          preview: {
            method: 'select',
            rows: 1,
            diff: [{ target: evil, key: evil, field: evil, before: evil, after: 'y' }],
          },
        }),
        effectEntry({ payload: { digest: '', size: 1, contentType: evil, excerpt: { [evil]: evil } } }),
        problemEntry({ message: evil }),
      ),
      { width: 120 },
    )
    expect(text).not.toMatch(/[^\P{Cc}\n]|\u202e/u)
    expect(text).toContain('x\\u001b[2J\\u009b1A\\u000d\\u202e')
  })

  it.each([
    ['CLEAN: 2 writes blocked, 0 left the process', [effectEntry(), effectEntry()]],
    ['CLEAN: no write was attempted, 0 reads passed', []],
    ['CLEAN: 1 write blocked, 1 forwarded dry, 0 left the run', [effectEntry(), effectEntry({ outcome: 'forwarded' })]],
    ['CLEAN: 1 write blocked, 1 let through by policy', [effectEntry(), effectEntry({ outcome: 'allowed' })]],
    ['UNBLOCKED: 1 write NOT blocked, 1 write blocked', [effectEntry(), effectEntry({ outcome: 'unblocked' })]],
    [
      'GUARD FAILED: 1 write blocked, 1 stopped by a guard failure, 0 left the process',
      [effectEntry(), effectEntry({ outcome: 'failed' })],
    ],
    [
      'INCOMPLETE: 1 write blocked, 1 raw connection refused, 0 left the process',
      [effectEntry(), effectEntry({ system: 'net', effect: 'unknown' })],
    ],
  ] as const)('begins with "%s"', (line, entries) => {
    expect(first(renderTerminal(reportOn(...entries), { width: 120 }))).toBe(line)
    expect(first(renderMarkdown(reportOn(...entries)))).toBe(`## ${line}`)
  })

  it.each([
    [['boom'], '; the application failed once: boom', '; the application failed once: `boom`'],
    [['boom', 'boom'], '; the application failed 2 times: boom', '; the application failed 2 times: `boom`'],
    [['a', 'b', 'a'], '; the application failed 3 times, first: a', '; the application failed 3 times, first: `a`'],
    [['`@all`'], '; the application failed once: `@all`', '; the application failed once: `` `@all` ``'],
  ])('says in the same line that the application failed: %j', (errors, plain, markdown) => {
    const report = reportOn(effectEntry(), ...errors.map((error) => endEntry(error)))
    const line = 'CLEAN: 1 write blocked, 0 left the process'
    expect(first(renderTerminal(report, { width: 120 }))).toBe(line + plain)
    expect(first(renderMarkdown(report))).toBe(`## ${line}${markdown}`)
    const coloured = first(renderTerminal(report, { width: 120, style: COLOURED }))
    expect(coloured).not.toContain('\u001b[32m')
  })

  it('puts the problems that need a person first, however many made-up ids are used', () => {
    const used = Array.from({ length: 300 }, (_, index) =>
      problemEntry({
        kind: 'synthetic_used',
        message: `INSERT t${index} uses an id made up for a simulated result: ${2_000_000_000 + (index % 7)}`,
        spanId: String(index),
      }),
    )
    const makers = Array.from({ length: 7 }, (_, index) =>
      effectEntry({ target: 'tickets', syntheticIds: [String(2_000_000_000 + index)] }),
    )
    const report = reportOn(
      ...makers,
      ...used,
      problemEntry({ kind: 'flag_lost', message: 'lost' }),
      problemEntry({ kind: 'run_error', message: 'broke' }),
      problemEntry({ kind: 'gap', message: 'hole' }),
      problemEntry({ kind: 'guard_failed', message: 'own error' }),
      problemEntry({ kind: 'unblocked', message: 'it left' }),
    )
    expect(report.problems).toHaveLength(305)
    const text = renderTerminal(report, { width: 80 })
    const problems = text.slice(text.indexOf('Problems'), text.indexOf('Guarded by'))
    const words = problems.replaceAll(/\s+/g, ' ')
    expect(words).toMatch(
      /^Problems unblocked it left guard failed own error gap hole run error broke flag lost lost synthetic used /,
    )
    expect(words).toContain(
      'synthetic used 300 later calls use ids made up by simulated results (tickets 2000000000: 43 calls, ',
    )
    expect(words).toContain('tickets 2000000004: 43 calls, and 2 more)')
    expect(problems.split('\n').length).toBeLessThan(14)
    expect(renderMarkdown(report).match(/\*\*synthetic used\*\*/g)).toHaveLength(1)
  })

  it('hides no problem of a kind it does not know', () => {
    const later = problemEntry({ kind: 'of_tomorrow' as never, message: 'what is this' })
    const text = renderTerminal(reportOn(problemEntry({ kind: 'gap', message: 'hole' }), later), { width: 80 })
    expect(text).toMatch(/^Problems\n {2}of tomorrow {2}what is this\n {2}gap {10}hole$/m)
  })

  it('counts uses of made-up ids that no record made', () => {
    const used = ['a', 'b'].map((name) =>
      problemEntry({ kind: 'synthetic_used', message: `${name} uses an id made up`, spanId: name }),
    )
    const text = renderTerminal(reportOn(...used), { width: 120 })
    expect(text).toMatch(/synthetic used {2}2 later calls use ids made up by simulated results$/m)
  })

  it('names the rule where that says more than that the effect was blocked', () => {
    const notes = (over: object) =>
      renderTerminal(reportOn(effectEntry(over)), { width: 120 }).match(/^ +(rule .*)$/m)?.[1]
    expect(notes({ rule: 'crm', reason: 'writes are blocked' })).toBeUndefined()
    expect(notes({ rule: 'crm', reason: 'block by rule' })).toBeUndefined()
    expect(notes({ rule: 'crm', reason: 'frozen (owner: sales)' })).toBe('rule crm: frozen (owner: sales)')
    const expired = 'writes are blocked (rule metrics matched but expired on 2026-01-31)'
    expect(notes({ rule: 'default.write', reason: expired })).toBe(`rule default.write: ${expired}`)
    expect(notes({ outcome: 'forwarded', rule: 'jobs', reason: 'loopback by rule' })).toBe(
      'rule jobs: handed to its own handler inside this run',
    )
    expect(notes({ outcome: 'forwarded', rule: 'jobs', reason: 'shown whole (owner: ops)' })).toBe(
      'rule jobs: shown whole (owner: ops)',
    )
    expect(notes({ outcome: 'allowed', rule: 'metrics', reason: 'allow by rule' })).toBe('rule metrics')
  })

  it('says of an effect that it uses a made-up id, on a line of its own where there is no room', () => {
    const used = (summary: string, over: object = {}) =>
      effectEntry({ system: 'http', action: 'create', target: summary.slice(5), summary, syntheticUsed: true, ...over })
    const text = renderTerminal(reportOn(used('POST a.example/x'), used(`POST a.example/${'x'.repeat(60)}`)), {
      width: 80,
    })
    expect(text).toMatch(/^ *1 .* POST a\.example\/x {2}uses a made-up id$/m)
    expect(text).toMatch(/^ *2 .* POST a\.example\/x{20,}…\n {4,}uses a made-up id$/m)
  })

  it('counts the writes of all traces when it shows only some', () => {
    const trace = (name: string) => name.repeat(32)
    const writes = ['a', 'b', 'c'].flatMap((name) =>
      [1, 2, 3].map((index) => effectEntry({ traceId: trace(name), summary: `UPDATE ${name}${index}`, target: '' })),
    )
    const text = renderTerminal(reportOn(...writes), { width: 80, limit: 4 })
    expect(text).toContain(`Trace ${trace('a')}  3 writes`)
    expect(text).toContain(`Trace ${trace('b')}  3 writes`)
    expect(text).not.toContain(`Trace ${trace('c')}`)
    expect(text).toContain('… and 5 more writes')
  })

  it('heads a trace with its first decision and how many more there are', () => {
    const traceId = 'a'.repeat(32)
    const decided = (model: string, over: object = {}): JournalEntry => ({
      ...{ type: 'decision', runId: RUN_ID, traceId, spanId: '', kind: 'llm', name: 'chat', model },
      ...{ promptName: null, promptVersion: null, ...over },
    })
    const report = reportOn(
      effectEntry({ traceId: 'b'.repeat(32) }),
      decided('lookup', { kind: 'tool' }),
      decided('first'),
      decided('second'),
      effectEntry({ traceId }),
    )
    const [other, own] = renderTerminal(report, { width: 80 }).matchAll(/^Trace .*\n {2}(.*)$/gm)
    expect(other![1]).toBe('1 postgresql')
    expect(own![1]).toBe('1 postgresql; decided by first, then 1 more decision')
  })

  it('does not count repeats across traces as one', () => {
    const writes = ['a', 'b', 'a'].map((name) => effectEntry({ traceId: name.repeat(32) }))
    const text = renderTerminal(reportOn(...writes), { width: 80 })
    expect(text.match(/^ *[\d-]+ {2}\+0.*$/gm)?.map((line) => line.trim().split(/ {2}/)[0])).toEqual(['1-2', '3'])
  })

  it('never calls a run clean, or without writes, that nothing guarded', () => {
    const report = emptyReport(RUN_ID, '2026-11-20T10:15:02.000Z', '2026-11-20T10:15:03.000Z', 'sh was never guarded')
    const text = renderTerminal(report, { width: 80 })
    expect(first(text)).toBe('INCOMPLETE: nothing is known of what this run did')
    expect(text).toContain('sh was never guarded')
    expect(text).not.toMatch(/clean|no write/i)
  })

  it('tells neighbours apart that differ only in their values', () => {
    const note = (body: string) =>
      effectEntry({
        preview: {
          method: 'select',
          rows: 1,
          diff: [{ target: 'public.customers', key: 'id=1', field: 'note', after: body }],
        },
      })
    const text = renderTerminal(reportOn(note('a'), note('a'), note('b'), note('a')), { width: 80 })
    expect(text.match(/^ *\S+ {2}\+0.*$/gm)?.map((line) => line.trim().split(/ {2}/)[0])).toEqual(['1-2', '3', '4'])
    expect(text).toContain('x2')
  })

  it('shows the rows of one insert apart', () => {
    const diff = ['a', 'b'].flatMap((name) => [
      { target: 'public.customers', key: null, field: 'name', after: name },
      { target: 'public.customers', key: null, field: 'age', after: 1 },
    ])
    const text = renderTerminal(reportOn(effectEntry({ preview: { method: 'synthesized', rows: 2, diff } })), {
      width: 80,
    })
    expect(text).toContain('row\n      + name: "a"\n      + age: 1\n    row\n      + name: "b"')
  })

  it('cuts long values and says how much, counting every character', () => {
    const value = 'ä'.repeat(1_000)
    const diff = [{ target: 'public.customers', key: 'id=1', field: 'note', after: value }]
    const text = renderTerminal(reportOn(effectEntry({ preview: { method: 'select', rows: 1, diff } })), { width: 80 })
    const [, kept, cut] = /\+ note: "(ä+)…" \(\+(\d+) chars\)/.exec(text) ?? []
    expect(kept!.length + Number(cut)).toBe(1_000)
  })

  it('shows at most as many writes as it is told to, and says how many are left', () => {
    const many = Array.from({ length: 30 }, (_, index) =>
      effectEntry({ target: `t${index}`, summary: `UPDATE t${index}` }),
    )
    const text = renderTerminal(reportOn(...many), { width: 80, limit: 10 })
    expect(first(text)).toBe('CLEAN: 30 writes blocked, 0 left the process')
    expect(text).toContain('… and 20 more writes: --json has them all')
    expect(text).not.toContain('t10')
  })

  it('holds its width for texts that take two columns a character', () => {
    const diff = [
      {
        target: 'public.customers',
        key: 'id=1',
        field: '備考',
        before: '荷物が届きません'.repeat(9),
        after: '届きました🚚'.repeat(9),
      },
    ]
    const text = renderTerminal(reportOn(effectEntry({ preview: { method: 'select', rows: 1, diff } })), { width: 80 })
    expect(text.split('\n').filter((line) => width(line) > 80)).toEqual([])
  })
})

describe('the report as Markdown', () => {
  it('reads well', async () => {
    await expect(renderMarkdown(sample())).toMatchFileSnapshot('snapshots/sample.md')
    await expect(renderMarkdown(batch())).toMatchFileSnapshot('snapshots/batch.md')
  })

  it('does not let data be Markdown, HTML or a mention', () => {
    const evil = '``` <img src=x> @everyone ` **b**'
    const diff = [{ target: 'public.customers', key: 'id=1', field: 'note', before: null, after: evil }]
    const text = renderMarkdown(
      reportOn(effectEntry({ preview: { method: 'select', rows: 1, diff } }), problemEntry({ message: evil })),
    )
    // The fence and the code span are longer than any run of backticks in the data.
    expect(text).toMatch(/^````diff$/m)
    expect(text).toContain(`\`\`\`\` ${evil} \`\`\`\``)
  })
})

describe('the table of runs', () => {
  function facts(id: string, over: (facts: RunFacts) => void = () => {}): RunFacts {
    const made = new RunFacts(id)
    const { entry } = moment(0, runEntry())
    made.add('1-1', { seq: 1, at: '2026-11-20T10:15:02.000Z', chain: '', ...entry } as JournalRecord, 'support-triage')
    over(made)
    return made
  }
  const effect = (run: RunFacts, entry: JournalEntry) =>
    run.add('1-1', { seq: 2, at: '2026-11-20T10:15:03.000Z', chain: '', ...entry } as JournalRecord)
  const runs = () => [
    facts(RUN_ID, (run) => effect(run, effectEntry())),
    facts('nightly-import', (run) => effect(run, effectEntry({ outcome: 'unblocked' }))),
  ]

  it('does not say that all is well when the application failed', () => {
    const failed = facts('dr-failed', (run) => effect(run, endEntry('boom', 'dr-failed')))
    const text = renderRunsTable([facts('dr-fine'), failed], 80, COLOURED)
    expect(first(stripVTControlCharacters(text))).toBe('2 runs, all clean; the application failed in 1')
    expect(first(text)).not.toContain('\u001b[32m')
    expect(text).toMatch(/dr-fine +clean +\d/)
    expect(text).toMatch(/dr-failed +clean, app failed +\d/)
  })

  it.each([60, 80, 120])('fits %i columns', async (columns) => {
    const text = renderRunsTable(runs(), columns)
    await expect(text).toMatchFileSnapshot(`snapshots/runs-${columns}.txt`)
    expect(text.split('\n').filter((line) => width(line) > columns)).toEqual([])
  })
})

describe('the report as JSON', () => {
  it('is the document, written in pieces', () => {
    const report = sample()
    expect(JSON.parse([...renderJson(report)].join(''))).toEqual(JSON.parse(JSON.stringify(report)))
  })

  it('is one document for several reports', () => {
    const report = sample()
    expect(JSON.parse([...renderJsonAll([report, report])].join(''))).toEqual({
      schema: 'drytrace.reports/1',
      reports: [JSON.parse(JSON.stringify(report)), JSON.parse(JSON.stringify(report))],
    })
    expect(JSON.parse([...renderJsonAll([])].join(''))).toEqual({ schema: 'drytrace.reports/1', reports: [] })
  })
})
