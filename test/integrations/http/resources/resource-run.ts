import path from 'node:path'
import { buildReport, type Report } from '../../../../src/audit/report.js'
import { listRuns, pickRun, readRun } from '../../../../src/audit/sources/journal.js'
import type { EffectRecord } from '../../../../src/journal/record.js'
import { runNode } from '../../../support/child.js'
import { readEffects, readRecords } from '../../../support/journal.js'
import { INDEX_URL, scratchTree } from '../../../support/scratch.js'
import { HELPERS } from './clients.js'

export interface Answer {
  readonly status: number
  readonly headers: Record<string, string | undefined>
  readonly body: Record<string, unknown> | undefined
  readonly text: string
  readonly size: number
}

export interface ResourceRun {
  // biome-ignore lint/suspicious/noExplicitAny: what each program returns
  readonly out: any
  readonly effects: EffectRecord[]
  readonly problems: string[]
  readonly report: Report
}

/** Runs the body inside a dry run; `send` is the client's, `live` sends outside of every run. */
export async function dry(options: {
  readonly client: string
  readonly url: string
  readonly body: string
  readonly policy?: string
  readonly env?: Record<string, string>
  /** Preloads before ours. */
  readonly before?: readonly string[]
}): Promise<ResourceRun> {
  const directory = scratchTree({ 'policy.yaml': `version: 1\n${options.policy ?? ''}\n` })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    before: options.before ?? [],
    env: {
      URL: options.url,
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_POLICY: path.join(directory, 'policy.yaml'),
      ...options.env,
    },
    source: `import { dryRun } from ${JSON.stringify(INDEX_URL)}
      import { AsyncLocalStorage } from 'node:async_hooks'
      ${HELPERS}
      ${options.client}
      const outside = AsyncLocalStorage.snapshot()
      const live = (...args) => outside(() => send(...args))
      const out = await dryRun({ id: 'resources' }, async () => { ${options.body} })
      console.log('OUT ' + JSON.stringify(out ?? null))
      process.exit(0)`,
  })
  const line = finished.stdout.split('\n').find((text) => text.startsWith('OUT '))
  if (line === undefined) throw new Error(finished.stdout + finished.stderr)
  const picked = pickRun(listRuns([journal]), 'resources')
  if (!('facts' in picked)) throw new Error(picked.reason)
  return {
    out: JSON.parse(line.slice(4)),
    effects: readEffects(journal),
    problems: readRecords(journal).flatMap((record) => (record.type === 'problem' ? [record.message] : [])),
    report: buildReport(readRun(picked)),
  }
}
