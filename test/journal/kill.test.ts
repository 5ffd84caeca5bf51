import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { readJournal } from '../../src/journal/reader.js'
import type { EffectRecord } from '../../src/journal/record.js'
import { REGISTER, scratchDirectory } from '../support/child.js'
import { INDEX_URL } from '../support/scratch.js'

/** Writes as fast as it can; says so on stdout, synchronously, after each result it was given. */
const SOURCE = `
  import { writeSync } from 'node:fs'
  import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
  await dryRun({ id: 'killed' }, async () => {
    for (let n = 1; ; n += 1) {
      await effect({ system: 'x', action: 'create', target: 'record ' + n, payload: { text: 'x'.repeat(n % 500) } }, () => {})
      writeSync(1, n + '\\n')
    }
  })
`

describe('kill -9 in the middle of thousands of effects', () => {
  it.each(['none', 'batch', 'each'])('loses nothing the caller was told of: sync %s', async (sync) => {
    const directory = scratchDirectory()
    const journal = path.join(directory, 'journal')
    const file = path.join(directory, 'app.mjs')
    writeFileSync(file, SOURCE)
    writeFileSync(path.join(directory, 'drytrace.config.yaml'), 'version: 1\nbudget: {writes: 1000000}\n')
    const acknowledged = await killAfter(file, sync === 'each' ? 2_000 : 5_000, {
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_JOURNAL_SYNC: sync,
    })

    const items = [...readJournal(journal)]
    const problems = items.flatMap((item) => ('problem' in item ? [item.problem] : []))
    // The one line it was writing when it died.
    expect(problems.filter(({ kind }) => kind !== 'torn')).toEqual([])
    expect(problems.length).toBeLessThanOrEqual(1)
    const effects = items.flatMap((item) => ('record' in item && item.record.type === 'effect' ? [item.record] : []))
    const targets = (effects as EffectRecord[]).map(({ target }) => Number(target.slice('record '.length)))
    expect(targets).toEqual(targets.map((_, index) => index + 1))
    expect(targets.length).toBeGreaterThanOrEqual(acknowledged)
    // It makes one at a time, so it cannot be further ahead than that.
    expect(targets.length).toBeLessThanOrEqual(acknowledged + 1)
  })
})

/** The highest number the child has said when it is dead. */
function killAfter(file: string, count: number, env: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const { NODE_OPTIONS: _, VITEST: __, ...inherited } = process.env
    const child = spawn(process.execPath, ['--import', REGISTER, file], {
      cwd: path.dirname(file),
      env: { ...inherited, DRYTRACE_QUIET: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let text = ''
    let errors = ''
    const last = () => Number(text.slice(0, text.lastIndexOf('\n')).split('\n').at(-1) || 0)
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      errors += chunk
    })
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).slice(-4_096)
      if (last() >= count) child.kill('SIGKILL')
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(last())
      else reject(new Error(`it ended with ${code ?? signal}: ${errors}`))
    })
  })
}
