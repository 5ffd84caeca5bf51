import { createRequire } from 'node:module'
import path from 'node:path'
import type pg from 'pg'
import { createBarrier } from '../../../src/guard/barrier.js'
import { createGuard } from '../../../src/guard/create-guard.js'
import type { Guard } from '../../../src/guard/guard.js'
import { pgIntegration, pgPoolIntegration } from '../../../src/integrations/pg/pg.js'
import type { EffectRecord, JournalEntry, ProblemRecord } from '../../../src/journal/record.js'
import { compilePolicy } from '../../../src/policy/policy.js'
import type { PolicyDocument } from '../../../src/policy/schema.js'
import { enterRun } from '../../../src/run/store.js'

export interface DryPg {
  readonly pg: typeof pg
  readonly guard: Guard
  /** Runs `fn` in a dry run of its own. */
  dry<T>(fn: () => T): T
  /** Effects recorded since the last call. */
  takeEffects(): EffectRecord[]
  takeProblems(): ProblemRecord[]
  /** Makes the next appends fail. */
  failJournal(error: Error | undefined): void
}

/** Lets what is written to `page_views` through. */
export const ALLOW_PAGE_VIEWS: NonNullable<PolicyDocument['rules']>[number] = {
  name: 'views',
  match: { system: 'postgresql', relation: 'page_views' },
  verdict: 'allow',
  owner: 'growth',
  reason: 'counter',
  expires: '2099-01-01',
}

let runs = 0

/** The pg of this process, guarded as the loader would, with the journal in memory. Once per test file. */
export function guardPg(policy: Partial<PolicyDocument> = {}): DryPg {
  const entries: JournalEntry[] = []
  let journalError: Error | undefined
  const guard = createGuard({
    policy: compilePolicy({ version: 1, ...policy }, { hash: 'test' }),
    journal: {
      file: undefined,
      append(entry) {
        if (journalError !== undefined) throw journalError
        entries.push(entry)
      },
      flush() {},
      close() {},
    },
    barrier: createBarrier(),
    service: 'test',
  })
  const require = createRequire(import.meta.url)
  const clientFile = path.join(path.dirname(require.resolve('pg')), 'client.js')
  const poolFile = require.resolve('pg-pool')
  const { version } = require('pg/package.json') as { version: string }
  pgIntegration.targets[0]?.patch(require(clientFile), guard, { file: clientFile, version })
  pgPoolIntegration.targets[0]?.patch(require(poolFile), guard, { file: poolFile, version: null })
  const take = <T>(type: string): T[] => {
    const taken = entries.filter((entry) => entry.type === type)
    for (const entry of taken) entries.splice(entries.indexOf(entry), 1)
    return taken as T[]
  }
  return {
    pg: require('pg') as typeof pg,
    guard,
    dry: (fn) => guard.within(enterRun({ id: `test-${process.pid}-${runs++}`, entry: 'test', carriers: ['api'] }), fn),
    takeEffects: () => take<EffectRecord>('effect'),
    takeProblems: () => take<ProblemRecord>('problem'),
    failJournal(error) {
      journalError = error
    },
  }
}
