import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { changedIn, installed, libraries, MODES, measureAll, type Row, renderTable, versions } from './measure.mjs'

const INSTALL = 'npm ci --ignore-scripts --prefix test/orms'

it.skipIf(installed || process.env['CI'] !== 'true')(`the libraries are installed: ${INSTALL}`, () => {
  expect(installed, `run: ${INSTALL}`).toBe(true)
})

describe.skipIf(!installed)(`Postgres libraries (${INSTALL})`, () => {
  let rows: readonly Row[]
  beforeAll(async () => {
    rows = await measureAll()
  }, 600_000)
  const rowOf = (name: string) => rows.find((row) => row.name === name) as Row

  it.each(libraries)('%s: live, its steps work and leave what they wrote', (name) => {
    const { live } = rowOf(name)
    const failed = live.results.filter(([, given]) => typeof given === 'object' && given !== null && 'error' in given)
    expect(failed.map(([title]) => title).filter((title) => !/violation/.test(title))).toEqual([])
    // The same comparison that must find nothing in a dry run.
    expect(changedIn({ ...live, mode: 'rollback' })).toContain('data')
    expect(live.effects).toEqual([])
  })

  it.each(libraries.flatMap((name) => MODES.map((mode) => [name, mode] as const)))(
    '%s, %s: nothing is changed',
    (name, mode) => {
      const measured = rowOf(name).modes[mode] as Row['live']
      expect(changedIn(measured)).toEqual([])
      expect(measured.effects.filter(({ outcome }) => outcome === 'blocked').length).toBeGreaterThan(0)
      expect(measured.effects.filter(({ effect, outcome }) => effect !== 'read' && outcome !== 'blocked')).toEqual([])
      expect(measured.problems.filter(({ kind }) => kind === 'unblocked' || kind === 'guard_failed')).toEqual([])
    },
  )

  it('what they return is in docs/postgres-libraries.md', () => {
    const document = readFileSync(new URL('../../docs/postgres-libraries.md', import.meta.url), 'utf8')
    expect(document, 'run: node test/orms/write-table.mjs').toBe(renderTable(rows, versions()))
  })
})
