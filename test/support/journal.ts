import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { EffectRecord, JournalRecord } from '../../src/journal/record.js'

/** Every record of a journal directory, file by file. */
export function readRecords(directory: string): JournalRecord[] {
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .flatMap((name) => readFileSync(path.join(directory, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as JournalRecord)
}

export function readEffects(directory: string): EffectRecord[] {
  return readRecords(directory).filter((record) => record.type === 'effect') as EffectRecord[]
}
