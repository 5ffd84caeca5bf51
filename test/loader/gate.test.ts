import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Finished, ROOT, runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.log.length = 0
})

/** Asks for a dry run, then writes live with the library under test and with fetch. */
const APP = `
  import { createRequire } from 'node:module'
  import { armed, dryRun } from ${JSON.stringify(INDEX_URL)}
  const undici = createRequire(import.meta.url)('undici')
  let called = false
  const refused = await dryRun({}, () => { called = true }).catch((error) => error)
  const live = await fetch(process.env.URL + '/live', { method: 'POST' })
  console.log('OUT ' + JSON.stringify({
    called, code: refused?.code, message: refused?.message, gaps: refused?.details?.gaps,
    live: live.status, works: undici.works, undici: armed().find(({ name }) => name === 'undici'),
  }))
`

interface Out {
  readonly called: boolean
  readonly code: string
  readonly message: string
  readonly gaps: string[]
  readonly live: number
  readonly works?: string
  readonly undici: { status: string; versions: string[]; detail: string }
}

/** A package that calls itself undici. */
function fakeUndici(version: string, agent: string): Record<string, string | object> {
  return {
    'node_modules/undici/package.json': { name: 'undici', version, main: 'index.js' },
    'node_modules/undici/index.js': "module.exports = { Agent: require('./lib/dispatcher/agent.js'), works: 'loaded' }",
    'node_modules/undici/lib/dispatcher/agent.js': agent,
    'app.mjs': APP,
  }
}

const AGENT = `class Base { dispatch() { return true } }
class Agent extends Base {}
module.exports = Agent`

describe('a client library that cannot be guarded closes the gate', () => {
  it('loaded before drytrace/register', async () => {
    const directory = scratchTree({
      'early.cjs': "require('undici')",
      'app.mjs': APP,
    })
    const finished = await runNode({
      register: true,
      before: [path.join(directory, 'early.cjs')],
      file: path.join(directory, 'app.mjs'),
      env: { URL: world.url },
    })
    const out = expectClosed(finished)
    expect(out.undici).toMatchObject({ status: 'too late', versions: [expect.stringMatching(/^8\./)] })
    expect(out.message).toContain('put --import drytrace/register first')
    expect(out.message).toContain(path.join(ROOT, 'node_modules/undici'))
  })

  it('of a version that was never tested', async () => {
    const directory = scratchTree(fakeUndici('5.0.0', AGENT))
    const out = expectClosed(await run(directory))
    expect(out.works).toBe('loaded')
    expect(out.undici).toMatchObject({ status: 'unsupported version', versions: ['5.0.0'] })
    expect(out.gaps).toEqual([expect.stringMatching(/^undici@5\.0\.0: unsupported version \(tested with >=6/)])
  })

  it('of no readable version', async () => {
    const directory = scratchTree(fakeUndici('banana', AGENT))
    expect(expectClosed(await run(directory)).undici.status).toBe('unsupported version')
  })

  it('with insides we do not know, whose load must not break', async () => {
    const directory = scratchTree(fakeUndici('8.99.0', 'module.exports = class Agent { somethingElse() {} }'))
    const out = expectClosed(await run(directory))
    expect(out.works).toBe('loaded')
    expect(out.undici).toMatchObject({ status: 'failed', detail: expect.stringContaining('no dispatch') })
  })

  it('also when a tested copy is loaded beside it', async () => {
    const directory = scratchTree({
      ...fakeUndici('5.0.0', AGENT),
      'app.mjs': APP.replace(
        'let called',
        `createRequire(${JSON.stringify(path.join(ROOT, 'package.json'))})('undici'); let called`,
      ),
    })
    const out = expectClosed(await run(directory))
    expect(out.undici.status).toBe('unsupported version')
    expect(out.undici.versions).toHaveLength(2)
  })

  it('and a whole process asked to be dry does not start', async () => {
    const directory = scratchTree({ 'early.cjs': "require('undici')", 'app.mjs': APP })
    const finished = await runNode({
      register: true,
      before: [path.join(directory, 'early.cjs')],
      file: path.join(directory, 'app.mjs'),
      env: { URL: world.url, DRY_RUN: '1' },
    })
    expect(finished.code).not.toBe(0)
    expect(finished.stderr).toContain('DRY_GATE_CLOSED')
    expect(finished.stdout).toBe('')
    expect(world.log).toEqual([])
  })

  it('but a library of the same file names and another package does not', async () => {
    const directory = scratchTree({
      ...fakeUndici('5.0.0', AGENT),
      'node_modules/undici/package.json': { name: 'not-undici', version: '5.0.0', main: 'index.js' },
    })
    const out = outputOf<Out>(await run(directory))
    expect(out).toMatchObject({ called: true, undici: { status: 'armed' } })
  })
})

function run(directory: string): Promise<Finished> {
  return runNode({ register: true, file: path.join(directory, 'app.mjs'), env: { URL: world.url } })
}

function expectClosed(finished: Finished): Out {
  const out = outputOf<Out>(finished)
  expect(out.called).toBe(false)
  expect(out.code).toBe('DRY_GATE_CLOSED')
  expect(out.live).toBe(200)
  expect(world.log).toEqual(['POST /live '])
  return out
}
