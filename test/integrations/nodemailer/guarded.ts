import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Barrier, createBarrier } from '../../../src/guard/barrier.js'
import { createGuard } from '../../../src/guard/create-guard.js'
import type { Guard } from '../../../src/guard/guard.js'
import type { EffectRecord, JournalEntry, ProblemRecord } from '../../../src/journal/record.js'
import { createJournal, type Journal } from '../../../src/journal/writer.js'
import { parsePolicy } from '../../../src/policy/parse.js'
import { within } from '../../../src/run/bind.js'
import type { Run } from '../../../src/run/run.js'
import { enterRun, holdRun } from '../../../src/run/store.js'

/** The real guard on a real journal, and what went into it. */
export interface Guarded {
  readonly guard: Guard
  readonly barrier: Barrier
  /** Replaces the policy by this YAML; the default policy when left out. */
  policy(yaml?: string): void
  dry<T>(fn: (run: Run) => Promise<T>): Promise<T>
  effects(runId?: string): EffectRecord[]
  problems(): ProblemRecord[]
  /** Makes every append fail, until the returned function is called. */
  breakJournal(): () => void
  close(): Promise<void>
}

/** Runs the integration's patches against a guard whose policy each test can change. */
export function guarded(): Guarded {
  const directory = mkdtempSync(path.join(tmpdir(), 'drytrace-'))
  const file = createJournal({ directory, service: 'test' })
  const entries: JournalEntry[] = []
  let broken = false
  const journal: Journal = {
    get file() {
      return file.file
    },
    append(entry) {
      if (broken) throw new Error('disk full')
      file.append(entry)
      entries.push(entry)
    },
    flush: () => file.flush(),
    close: () => file.close(),
  }
  const barrier = createBarrier()
  const make = (yaml: string) =>
    createGuard({ policy: parsePolicy(yaml, 'test.yaml'), journal, barrier, service: 'test' })
  let current = make('version: 1')
  const guard = new Proxy({} as Guard, { get: (_, name) => Reflect.get(current, name) })
  return {
    guard,
    barrier,
    policy(yaml = 'version: 1') {
      current = make(yaml)
    },
    async dry(fn) {
      const run = enterRun({ entry: 'dryRun', carriers: ['api'] })
      const release = holdRun(run)
      try {
        return await within(run, () => fn(run))
      } finally {
        release()
      }
    },
    effects: (runId) =>
      entries.filter(
        (entry): entry is EffectRecord => entry.type === 'effect' && (runId === undefined || entry.runId === runId),
      ),
    problems: () => entries.filter((entry): entry is ProblemRecord => entry.type === 'problem'),
    breakJournal() {
      broken = true
      return () => {
        broken = false
      }
    },
    async close() {
      file.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
