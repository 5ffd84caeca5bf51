import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EffectRecord, JournalEntry, ProblemRecord } from '../../src/journal/record.js'

const START = Date.parse('2026-11-20T10:15:02.000Z')

/** Milliseconds after the start of the fixture run, with what was recorded then. */
export interface Moment {
  readonly after: number
  readonly entry: JournalEntry
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** The lines of a journal as the writer makes them, independent of it: seq from 1, each chained to the one before. */
export function journalLines(moments: readonly Moment[], from = { seq: 0, line: '' }): string[] {
  let { seq, line } = from
  return moments.map(({ after, entry }) => {
    seq += 1
    line = JSON.stringify({ seq, at: new Date(START + after).toISOString(), chain: sha256(line), ...entry })
    return line
  })
}

export function writeJournal(directory: string, name: string, lines: readonly string[], end = '\n'): string {
  mkdirSync(directory, { recursive: true })
  const file = join(directory, name)
  writeFileSync(file, lines.join('\n') + end)
  return file
}

export const RUN_ID = 'dr-mi7c2k1a-9f03ab12'
export const TRACE_ID = '5b8aa5a2d2c872e8321cf37308d69df2'
/** Name of the file of a process that began with the fixture run. */
export const FILE = `4711-${START}.jsonl`

export const moment = (after: number, entry: JournalEntry): Moment => ({ after, entry })

export const processEntry = (service = 'support-triage'): JournalEntry => ({
  type: 'process',
  schema: 'drytrace.journal/1',
  pid: 4711,
  service,
  node: 'v24.21.0',
  drytrace: '0.1.0',
  argv: ['service.mjs'],
})

export const runEntry = (over: Partial<Extract<JournalEntry, { type: 'run' }>> = {}): JournalEntry => ({
  type: 'run',
  runId: RUN_ID,
  traceId: TRACE_ID,
  entry: 'http',
  carriers: ['baggage', 'header'],
  conflict: false,
  caseId: null,
  attestation: {
    hooks: ['node:http', 'node:net', 'pg 8.23.1', 'nodemailer 10.6.0', 'pg-boss 12.35.0'],
    gaps: [],
    policyHash: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  },
  ...over,
})

export const endEntry = (error: string | null = null, runId = RUN_ID): JournalEntry => ({
  type: 'run_end',
  runId,
  error,
})

let spans = 0

export function effectEntry(over: Partial<EffectRecord> = {}): JournalEntry {
  spans += 1
  return {
    type: 'effect',
    runId: RUN_ID,
    traceId: TRACE_ID,
    spanId: spans.toString(16).padStart(16, '0'),
    parentSpanId: null,
    service: 'support-triage',
    system: 'postgresql',
    action: 'update',
    effect: 'write',
    outcome: 'blocked',
    target: 'public.customers',
    summary: 'UPDATE public.customers',
    rule: 'default.write',
    reason: 'writes are blocked',
    hook: { name: 'pg', version: '8.23.1' },
    fingerprint: 'pg:1',
    fidelity: 'exact',
    preview: null,
    payload: null,
    syntheticIds: [],
    syntheticUsed: false,
    note: null,
    error: null,
    ...over,
  }
}

export const readEntry = (over: Partial<EffectRecord> = {}): JournalEntry =>
  effectEntry({
    action: null,
    effect: 'read',
    outcome: 'allowed',
    summary: 'SELECT public.customers',
    rule: 'default.read',
    reason: 'reads pass',
    ...over,
  })

export const problemEntry = (over: Partial<ProblemRecord>): JournalEntry => ({
  type: 'problem',
  runId: RUN_ID,
  kind: 'gap',
  message: 'something',
  traceId: null,
  spanId: null,
  ...over,
})
