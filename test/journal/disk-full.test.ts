import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readJournal } from '../../src/journal/reader.js'
import { REGISTER, runCommand } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

const SOURCE = `
  import http from 'node:http'
  import { spawnSync } from 'node:child_process'
  import { dryRun, effect } from ${JSON.stringify(INDEX_URL)}
  const url = process.env.URL
  let called = 0, acknowledged = 0
  const code = (error) => error.code ?? error.cause?.code
  const write = () => effect({ system: 'x', action: 'create', target: 'y' }, () => { called += 1 })
  const byHttp = (method) => new Promise((resolve) => http.request(url + '/http', { method }, (r) => { r.resume(); resolve('answered') }).on('error', (e) => resolve(e.code)).end('x'))
  const run = await dryRun({ id: 'full' }, async () => {
    let error
    while (error === undefined && acknowledged < 10_000) await write().then(() => { acknowledged += 1 }, (e) => { error = e })
    return {
      first: code(error),
      again: await write().then(() => 'simulated', code),
      fetch: await fetch(url + '/fetch', { method: 'POST' }).then(() => 'answered', code),
      http: await byHttp('POST'),
      // A read goes on record too, so it waits for nothing that was not written down.
      read: await byHttp('GET'),
      net: await new Promise((resolve) => import('node:net').then(({ connect }) => connect(new URL(url).port, '127.0.0.1').on('error', (e) => resolve(e.code)).on('connect', () => resolve('connected')))),
      child: spawnSync('touch', ['left']).error?.code,
    }
  }).catch((error) => ({ thrown: code(error) }))
  const another = await dryRun({}, () => { called += 1 }).catch(code)
  const live = await fetch(url + '/live', { method: 'POST' }).then((r) => r.status)
  console.log('OUT ' + JSON.stringify({ ...run, another, live, called, acknowledged }))
`

describe('a full disk', () => {
  it('blocks every effect with DRY_JOURNAL, ends no process and touches nothing live', async () => {
    const directory = scratchTree({ 'app.mjs': SOURCE })
    const journal = path.join(directory, 'journal')
    // A limit on the size of files stands in for the disk: the write that passes it comes out short, the next one fails.
    const finished = await runCommand(
      '/bin/sh',
      ['-c', `ulimit -f 32; exec ${process.execPath} --import ${REGISTER} app.mjs`],
      { cwd: directory, env: { URL: world.url, DRYTRACE_JOURNAL: journal, DRYTRACE_QUIET: '1' } },
    )
    const out = outputOf<Record<string, unknown>>(finished)
    expect(out).toMatchObject({
      first: 'DRY_JOURNAL',
      again: 'DRY_JOURNAL',
      fetch: 'DRY_JOURNAL',
      http: 'DRY_JOURNAL',
      read: 'DRY_JOURNAL',
      net: 'DRY_JOURNAL',
      child: 'DRY_JOURNAL',
      another: 'DRY_JOURNAL',
      live: 200,
      called: 0,
    })
    expect(world.log).toEqual(['POST /live '])

    const items = [...readJournal(journal)]
    const effects = items.filter((item) => 'record' in item && item.record.type === 'effect')
    expect(effects).toHaveLength(out['acknowledged'] as number)
    expect(effects.length).toBeGreaterThan(5)
    const problems = items.flatMap((item) => ('problem' in item ? [item.problem.kind] : []))
    expect(problems).toEqual(['torn'])
  })
})

describe('a journal directory that is a file', () => {
  it('refuses dry runs and leaves live ones alone', async () => {
    world.log.length = 0
    const directory = scratchTree({ 'app.mjs': SOURCE, journal: 'in the way' })
    const finished = await runCommand(process.execPath, ['--import', REGISTER, 'app.mjs'], {
      cwd: directory,
      env: { URL: world.url, DRYTRACE_JOURNAL: path.join(directory, 'journal'), DRYTRACE_QUIET: '1' },
    })
    expect(outputOf(finished)).toEqual({
      thrown: 'DRY_JOURNAL',
      another: 'DRY_JOURNAL',
      live: 200,
      called: 0,
      acknowledged: 0,
    })
    expect(world.log).toEqual(['POST /live '])
  })

  it('and a process that was asked to be dry as a whole does not start', async () => {
    const directory = scratchTree({ 'app.mjs': "console.log('RAN')", journal: 'in the way' })
    const finished = await runCommand(process.execPath, ['--import', REGISTER, 'app.mjs'], {
      cwd: directory,
      env: { DRY_RUN: '1', DRYTRACE_JOURNAL: path.join(directory, 'journal'), DRYTRACE_QUIET: '1' },
    })
    expect(finished.code).not.toBe(0)
    expect(finished.stderr).toContain('DRY_JOURNAL')
    expect(finished.stdout).not.toContain('RAN')
  })
})

describe('a sync mode that does not exist', () => {
  it('closes the gate', async () => {
    const directory = scratchTree({ 'app.mjs': SOURCE })
    const finished = await runCommand(process.execPath, ['--import', REGISTER, 'app.mjs'], {
      cwd: directory,
      env: { URL: world.url, DRYTRACE_JOURNAL_SYNC: 'sometimes', DRYTRACE_QUIET: '1' },
    })
    expect(outputOf(finished)).toMatchObject({ thrown: 'DRY_GATE_CLOSED', live: 200, called: 0 })
  })
})
