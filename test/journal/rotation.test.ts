import { existsSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { readJournal } from '../../src/journal/reader.js'
import type { JournalEntry } from '../../src/journal/record.js'
import { createJournal } from '../../src/journal/writer.js'
import { scratchDirectory } from '../support/child.js'

const entry = (number: number): JournalEntry => ({ type: 'run_end', runId: `run-${number}`, error: 'x'.repeat(number) })

describe('rotation', () => {
  it('begins a new file at the size given, and the records of all files make one chain', () => {
    const directory = path.join(scratchDirectory(), 'made/when/needed')
    const journal = createJournal({ directory, service: 'test', rotateAt: 4_000 })
    expect(journal.file).toBeUndefined()
    expect(existsSync(directory)).toBe(false)
    for (let number = 1; number <= 200; number += 1) journal.append(entry(number))
    journal.close()

    const files = readdirSync(directory)
    expect(files.length).toBeGreaterThan(5)
    // A file is over the size by its last record at most.
    for (const file of files) expect(statSync(path.join(directory, file)).size).toBeLessThan(4_000 + 500)

    const items = [...readJournal(directory)]
    expect(items.filter((item) => 'problem' in item)).toEqual([])
    const records = items.flatMap((item) => ('record' in item ? [item.record] : []))
    expect(records.map(({ seq }) => seq)).toEqual(records.map((_, index) => index + 1))
    expect(records.map(({ type }) => type)).toEqual(['process', ...Array(200).fill('run_end')])
  })

  it('leaves a missing file to be noticed', () => {
    const directory = scratchDirectory()
    const journal = createJournal({ directory, service: 'test', rotateAt: 1_000 })
    for (let number = 1; number <= 50; number += 1) journal.append(entry(number))
    journal.close()
    unlinkSync(path.join(directory, readdirSync(directory).find((name) => name.includes('.3.')) ?? ''))
    const kinds = [...readJournal(directory)].flatMap((item) => ('problem' in item ? [item.problem.kind] : []))
    expect(kinds).toEqual(['gap'])
  })

  it('goes on after a record larger than a file', () => {
    const directory = scratchDirectory()
    const journal = createJournal({ directory, service: 'test', rotateAt: 1_000 })
    for (const number of [1, 5_000, 2, 5_000, 3]) journal.append(entry(number))
    journal.close()
    const items = [...readJournal(directory)]
    expect(items.filter((item) => 'problem' in item)).toEqual([])
    expect(items).toHaveLength(6)
  })
})
