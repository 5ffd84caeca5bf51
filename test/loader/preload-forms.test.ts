import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { REGISTER, runCommand } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

const program = (load: string) => `
async function main() {
  const undici = await ${load}('undici')
  const { dryRun, armed } = await import(${JSON.stringify(INDEX_URL)})
  const status = await dryRun({ id: 'preload' }, async () => {
    const a = await fetch(process.env.URL + '/fetch', { method: 'POST' })
    const b = await undici.request(process.env.URL + '/undici', { method: 'POST' })
    return [a.status, b.statusCode]
  })
  console.log('OUT ' + JSON.stringify({ status, undici: armed().find(({ name }) => name === 'undici') }))
}
main()
`
const files = {
  'app.cjs': program('(async (name) => require(name))'),
  'app.mjs': program('((name) => import(name))'),
}

describe.each(['app.cjs', 'app.mjs'])('%s', (app) => {
  it.each<{ name: string; args: string[]; options?: string }>([
    { name: '--import', args: ['--import', REGISTER] },
    { name: '--require', args: ['--require', REGISTER] },
    { name: 'NODE_OPTIONS --import', args: [], options: `--import ${REGISTER}` },
    { name: 'NODE_OPTIONS --require', args: [], options: `--require ${REGISTER}` },
    { name: 'all at once', args: ['--import', REGISTER, '--require', REGISTER], options: `--import ${REGISTER}` },
  ])('is guarded by $name, once', async ({ args, options }) => {
    const directory = scratchTree(files)
    const journal = path.join(directory, 'journal')
    const finished = await runCommand(process.execPath, [...args, path.join(directory, app)], {
      env: { URL: world.url, DRYTRACE_JOURNAL: journal, ...(options === undefined ? {} : { NODE_OPTIONS: options }) },
      cwd: directory,
    })
    expect(outputOf(finished)).toMatchObject({ status: [200, 200], undici: { status: 'armed' } })
    expect(world.log).toEqual([])
    expect(finished.stderr.match(/^drytrace \d/gm)).toHaveLength(1)
    // Armed twice, each effect would be there twice.
    expect(readEffects(journal).map(({ target }) => target.split('/').at(-1))).toEqual(['fetch', 'undici'])
    expect(readRecords(journal).filter(({ type }) => type === 'run')).toHaveLength(1)
  })
})
