import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type IntegrityProblem, JournalReader, readJournal } from '../../src/journal/reader.js'
import type { JournalRecord } from '../../src/journal/record.js'
import { createJournal } from '../../src/journal/writer.js'
import {
  effectEntry,
  endEntry,
  FILE,
  journalLines,
  moment,
  processEntry,
  runEntry,
  writeJournal,
} from './journal-builder.js'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'drytrace-reader-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function readAll(): { records: JournalRecord[]; problems: IntegrityProblem[] } {
  const records: JournalRecord[] = []
  const problems: IntegrityProblem[] = []
  for (const item of readJournal(directory)) {
    if ('record' in item) records.push(item.record)
    else problems.push(item.problem)
  }
  return { records, problems }
}

const seqs = (records: readonly JournalRecord[]) => records.map((record) => record.seq)

const sixLines = () =>
  journalLines([
    moment(0, processEntry()),
    moment(0, runEntry()),
    moment(1, effectEntry()),
    moment(2, effectEntry({ target: 'public.tickets' })),
    moment(3, effectEntry({ target: 'public.notes' })),
    moment(4, endEntry()),
  ])

describe('a journal that is whole', () => {
  it('is read record by record, with nothing to report', () => {
    writeJournal(directory, FILE, sixLines())
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 3, 4, 5, 6])
    expect(records[3]).toMatchObject({ type: 'effect', target: 'public.tickets' })
    expect(problems).toEqual([])
  })

  it('is what the writer writes, rotated files and text beyond ASCII included', () => {
    const journal = createJournal({ directory, service: 'writer', rotateAt: 4_000 })
    journal.append(runEntry())
    for (let index = 0; index < 40; index += 1) journal.append(effectEntry({ summary: `UPDATE “naïve” 🚚 ${index}` }))
    journal.append(endEntry())
    journal.close()

    expect(readdirSync(directory).length).toBeGreaterThan(3)
    const { records, problems } = readAll()
    expect(problems).toEqual([])
    expect(seqs(records)).toEqual(Array.from({ length: 43 }, (_, index) => index + 1))
    expect(records[41]).toMatchObject({ summary: 'UPDATE “naïve” 🚚 39' })
  })

  it('takes more than ten rotated files in the order of their numbers, not of their names', () => {
    const lines = journalLines(Array.from({ length: 12 }, (_, index) => moment(index, effectEntry())))
    for (const [index, line] of lines.entries()) {
      writeJournal(directory, index === 0 ? FILE : FILE.replace('.jsonl', `.${index}.jsonl`), [line])
    }
    const { records, problems } = readAll()
    expect(problems).toEqual([])
    expect(seqs(records)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1))
  })

  it('keeps the processes of one directory apart, worker threads too, and leaves other files alone', () => {
    writeJournal(directory, FILE, sixLines())
    writeJournal(directory, FILE.replace('4711', '4711t3'), sixLines())
    writeJournal(directory, 'notes.jsonl', ['not a journal'])
    const { records, problems } = readAll()
    expect(problems).toEqual([])
    expect(seqs(records)).toEqual([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6])
  })

  it('has no records where there is no directory', () => {
    rmSync(directory, { recursive: true })
    expect(readAll()).toEqual({ records: [], problems: [] })
  })
})

describe('a journal that is not whole', () => {
  it('reports a torn last line, and keeps everything before it', () => {
    const lines = sixLines()
    writeJournal(directory, FILE, [...lines.slice(0, 5), lines[5]!.slice(0, 30)], '')
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 3, 4, 5])
    expect(problems).toEqual([
      {
        kind: 'torn',
        file: FILE,
        line: 6,
        message: `${FILE}: line 6 is incomplete: the process ended while writing it`,
      },
    ])
  })

  it('reports records that are missing, by number', () => {
    const lines = sixLines()
    writeJournal(directory, FILE, [...lines.slice(0, 2), ...lines.slice(4)])
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 5, 6])
    expect(problems).toEqual([
      { kind: 'gap', file: FILE, line: 3, message: `${FILE}: records 3 to 4 (2) are missing before line 3` },
    ])
  })

  it('reports a missing beginning', () => {
    writeJournal(directory, FILE, sixLines().slice(1))
    expect(readAll().problems).toMatchObject([
      { kind: 'gap', line: 1, message: `${FILE}: record 1 is missing before line 1` },
    ])
  })

  it('reports lines that changed places', () => {
    const [a, b, c, d, ...rest] = sixLines()
    writeJournal(directory, FILE, [a!, b!, d!, c!, ...rest])
    expect(readAll().problems[0]).toMatchObject({ kind: 'gap', line: 3 })
  })

  it('reports a line that was changed after it was written', () => {
    const lines = sixLines()
    lines[3] = lines[3]!.replace('"blocked"', '"allowed"')
    writeJournal(directory, FILE, lines)
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 3, 4, 5, 6])
    expect(problems).toMatchObject([{ kind: 'chain', line: 5 }])
  })

  it('reports a first line that was changed or replaced', () => {
    const lines = sixLines()
    lines[0] = lines[0]!.replace('"chain":"e3', '"chain":"00')
    writeJournal(directory, FILE, lines)
    expect(readAll().problems.map(({ kind, line }) => ({ kind, line }))).toEqual([
      { kind: 'chain', line: 1 },
      { kind: 'chain', line: 2 },
    ])
  })

  it.each([
    ['not JSON', 'nonsense'],
    ['not an object', '[]'],
    ['unknown type "future"', '{"seq":3,"at":"","chain":"","type":"future"}'],
    [
      '"target" is undefined, not string',
      '{"seq":3,"at":"","chain":"","type":"effect","runId":"x","traceId":"","spanId":"","service":"","system":"","effect":"","outcome":""}',
    ],
    [
      'schema "drytrace.journal/9", this version reads drytrace.journal/1',
      '{"seq":3,"at":"","chain":"","type":"process","schema":"drytrace.journal/9"}',
    ],
  ])('reports a line that is %s, and goes on behind it', (what, line) => {
    const lines = sixLines()
    lines[2] = line
    writeJournal(directory, FILE, lines)
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 4, 5, 6])
    expect(problems).toMatchObject([
      { kind: 'malformed', line: 3, message: `${FILE}: line 3 is not a journal record: ${what}` },
    ])
  })

  it('keeps the record that was written behind the head of one a full disk cut short', () => {
    const lines = sixLines()
    lines[3] = `${lines[3]!.slice(0, 90)}${lines[3]}`
    writeJournal(directory, FILE, lines)
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 3, 4, 5, 6])
    expect(problems).toMatchObject([{ kind: 'torn', line: 4 }])
  })

  it('reports a rotated file that is gone', () => {
    const lines = sixLines()
    writeJournal(directory, FILE, lines.slice(0, 2))
    writeJournal(directory, FILE.replace('.jsonl', '.2.jsonl'), lines.slice(4))
    const { records, problems } = readAll()
    expect(seqs(records)).toEqual([1, 2, 5, 6])
    expect(problems).toMatchObject([
      { kind: 'gap', message: expect.stringContaining(FILE.replace('.jsonl', '.1.jsonl is missing')) },
    ])
  })

  it('reports a rotated file that does not continue its predecessor', () => {
    writeJournal(directory, FILE, sixLines())
    const other = journalLines([moment(9, effectEntry())], { seq: 6, line: 'another journal' })
    writeJournal(directory, FILE.replace('.jsonl', '.1.jsonl'), other)
    expect(readAll().problems).toMatchObject([{ kind: 'chain', file: FILE.replace('.jsonl', '.1.jsonl'), line: 1 }])
  })

  it('reports a file it cannot read, and reads the others', () => {
    mkdirSync(join(directory, FILE))
    writeJournal(directory, FILE.replace('4711', '4712'), sixLines())
    const { records, problems } = readAll()
    expect(records).toHaveLength(6)
    expect(problems).toMatchObject([{ kind: 'unreadable', file: FILE, line: 0 }])
  })

  it('finds the problems of one process without doubting another', () => {
    const lines = sixLines()
    writeJournal(directory, FILE, [...lines.slice(0, 2), ...lines.slice(3)])
    writeJournal(directory, FILE.replace('4711', '4712'), lines)
    expect(readAll().problems.map(({ file }) => file)).toEqual([FILE])
  })
})

describe('a journal that is being written', () => {
  const poll = (reader: JournalReader) =>
    [...reader.poll()].map((item) => ('record' in item ? item.record.seq : item.problem.kind))

  it('is followed as it grows: half lines wait, new files are picked up', () => {
    const lines = sixLines()
    const file = writeJournal(directory, FILE, lines.slice(0, 2))
    const reader = new JournalReader(directory)
    expect(poll(reader)).toEqual([1, 2])
    appendFileSync(file, lines[2]!.slice(0, 40))
    expect(poll(reader)).toEqual([])
    appendFileSync(file, `${lines[2]!.slice(40)}\n${lines[3]}\n`)
    writeJournal(directory, FILE.replace('4711', '4712'), lines.slice(0, 1))
    expect(poll(reader)).toEqual([3, 4, 1])
    writeJournal(directory, FILE.replace('.jsonl', '.1.jsonl'), lines.slice(4))
    expect(poll(reader)).toEqual([5, 6])
    expect(poll(reader)).toEqual([])
    expect([...reader.finish()]).toEqual([])
  })

  it('survives a line that arrives in the middle of a character', () => {
    const line = journalLines([moment(0, effectEntry({ summary: 'UPDATE 🚚' }))])[0]!
    const bytes = Buffer.from(`${line}\n`)
    const half = bytes.indexOf(Buffer.from('🚚')) + 2
    const file = join(directory, FILE)
    writeFileSync(file, bytes.subarray(0, half))
    const reader = new JournalReader(directory)
    expect(poll(reader)).toEqual([])
    appendFileSync(file, bytes.subarray(half))
    expect([...reader.poll()]).toMatchObject([{ record: { summary: 'UPDATE 🚚' } }])
  })
})

it('reads 200,000 records without holding them', { timeout: 120_000 }, () => {
  const COUNT = 200_000
  const lines = journalLines(Array.from({ length: COUNT }, (_, index) => moment(index, effectEntry())))
  writeJournal(directory, FILE, lines)
  lines.length = 0
  let records = 0
  let problems = 0
  let most = 0
  const before = process.memoryUsage().rss
  for (const item of readJournal(directory)) {
    if ('record' in item) records += 1
    else problems += 1
    if (records % 20_000 === 0) most = Math.max(most, process.memoryUsage().rss - before)
  }
  expect({ records, problems }).toEqual({ records: COUNT, problems: 0 })
  // The file has some 120 MB, as records they would take several times that.
  expect(most).toBeLessThan(250 * 1024 * 1024)
})
