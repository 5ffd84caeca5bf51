import { cpSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { REGISTER, ROOT, runCommand, scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

describe('two copies of the package in one process', () => {
  it('arm once, share the run, and know each other’s errors', async () => {
    const copy = path.join(scratchDirectory(), 'drytrace')
    mkdirSync(copy)
    cpSync(path.join(ROOT, 'dist'), path.join(copy, 'dist'), { recursive: true })
    cpSync(path.join(ROOT, 'package.json'), path.join(copy, 'package.json'))
    const directory = scratchTree({
      'app.mjs': `
        import { dryRun, isDryRun, currentRun, armed, DryTraceError } from 'file://${copy}/dist/index.js'
        import * as first from ${JSON.stringify(INDEX_URL)}
        import { request } from 'undici'
        const out = await dryRun({ id: 'second-copy' }, async () => ({
          status: (await request(process.env.URL + '/p', { method: 'POST' })).statusCode,
          dry: [isDryRun(), first.isDryRun()],
          runs: [currentRun().id, first.currentRun().id],
        }))
        const refused = await dryRun({ id: 'not an id' }, () => {}).catch((error) => error)
        console.log('OUT ' + JSON.stringify({
          ...out,
          instanceOf: [refused instanceof DryTraceError, refused instanceof first.DryTraceError],
          same: first.dryRun === dryRun,
          armed: armed().length > 0 && armed().length === first.armed().length,
        }))
      `,
    })
    const journal = path.join(directory, 'journal')
    const finished = await runCommand(
      process.execPath,
      ['--import', REGISTER, '--import', path.join(copy, 'dist/register.js'), path.join(directory, 'app.mjs')],
      { env: { URL: world.url, DRYTRACE_JOURNAL: journal }, cwd: directory },
    )
    expect(outputOf(finished)).toEqual({
      status: 200,
      dry: [true, true],
      runs: ['second-copy', 'second-copy'],
      instanceOf: [true, true],
      same: false,
      armed: true,
    })
    expect(finished.stderr.match(/^drytrace \d/gm)).toHaveLength(1)
    expect(world.log).toEqual([])
    expect(readEffects(journal)).toHaveLength(1)
    expect(readRecords(journal).filter(({ type }) => type === 'run')).toHaveLength(1)
  })
})
