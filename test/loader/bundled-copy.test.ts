import { cpSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.log.length = 0
})

/** Loads Node's own copy, which then owns the global dispatcher. */
const BUILTIN_FIRST = 'void globalThis.Response'

/**
 * undici 6, which Node 22 has, owns only the slot of its own generation. The bundle takes the newer one, is met
 * through it, and so its calls are answered instead of failed.
 */
const BLOCKED = Number(process.versions['undici']?.split('.')[0]) < 7 ? 'sent' : 'DRY_BLOCKED'

async function run(warm: string, policy?: string, first = BUILTIN_FIRST) {
  const directory = withBundle(`
    import { dryRun } from ${JSON.stringify(INDEX_URL)}
    ${first}
    const { Pool } = await import('bundled')
    const pool = new Pool(process.env.URL, { connections: 1, keepAliveTimeout: 60_000 })
    ${warm}
    const ask = (path) => pool.request({ method: 'POST', path, body: '{}' }).then(() => 'sent', (error) => error.code)
    const dry = await dryRun({ id: 'bundled' }, async () => [await ask('/a'), await ask('/b')])
    const live = await ask('/live')
    await pool.destroy()
    console.log('OUT ' + JSON.stringify({ dry, live }))
  `)
  const journal = path.join(directory, 'journal')
  if (policy !== undefined) writeFileSync(path.join(directory, 'drytrace.config.yaml'), policy)
  const finished = await runNode({
    register: true,
    file: path.join(directory, 'app.mjs'),
    cwd: directory,
    env: { URL: world.url, DRYTRACE_JOURNAL: journal },
  })
  return { finished, journal }
}

function httpOutcomes(journal: string): string[] {
  return readEffects(journal)
    .filter(({ system }) => system === 'http')
    .map(({ outcome }) => outcome)
}

/** undici under another name and other file names: what a bundle of it looks like to a loader. */
function withBundle(app: string): string {
  const directory = scratchTree({ 'app.mjs': app })
  const copy = path.join(directory, 'node_modules/bundled')
  cpSync(path.join(ROOT, 'node_modules/undici'), copy, { recursive: true })
  writeFileSync(
    path.join(copy, 'package.json'),
    JSON.stringify({ name: 'bundled', version: '1.0.0', main: 'index.js' }),
  )
  return directory
}

describe('a copy of undici that no loader hook recognises', () => {
  it('is failed before anything is sent over a new connection', async () => {
    const { finished, journal } = await run('')
    expect(outputOf(finished)).toEqual({ dry: [BLOCKED, BLOCKED], live: 'sent' })
    expect(world.log).toEqual(['POST /live {}'])
    expect(httpOutcomes(journal)).toEqual(['blocked', 'blocked'])
  })

  it('is simulated where it is the first of the process, and so the global dispatcher', async () => {
    const { finished, journal } = await run('', undefined, '')
    expect(outputOf(finished)).toEqual({ dry: ['sent', 'sent'], live: 'sent' })
    expect(world.log).toEqual(['POST /live {}'])
    expect(httpOutcomes(journal)).toEqual(['blocked', 'blocked'])
  })

  const warm = "await (await pool.request({ method: 'POST', path: '/warm' })).body.json()"

  it('closes the gate as long as a connection of its own is open', async () => {
    const { finished } = await run(warm)
    expect(finished.code).not.toBe(0)
    expect(finished.stderr).toMatch(/DRY_GATE_CLOSED[\s\S]*open connection to 127\.0\.0\.1:\d+ by bundled/)
    expect(world.log).toEqual(['POST /warm '])
  })

  it('is failed over a warm connection too, where the policy lets it stay open', async () => {
    const { finished, journal } = await run(
      warm,
      `version: 1
rules:
  - {name: open, match: {system: net, host: 127.0.0.1}, verdict: allow, owner: t, reason: t, expires: 2999-01-01}
`,
    )
    expect(outputOf(finished)).toEqual({ dry: [BLOCKED, BLOCKED], live: 'sent' })
    expect(world.log).toEqual(['POST /warm ', 'POST /live {}'])
    expect(httpOutcomes(journal)).toEqual(['blocked', 'blocked'])
  })

  it('is failed also where the run is known only from OpenTelemetry baggage', async () => {
    const directory = withBundle(`
      import { Pool } from 'bundled'
      import { context, propagation } from '@opentelemetry/api'
      import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
      context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
      const pool = new Pool(process.env.URL, { connections: 1, keepAliveTimeout: 60_000 })
      const answer = (promise) => promise.then(() => 'sent', (error) => error.code ?? error.cause?.code)
      await fetch(process.env.URL + '/warm', { method: 'POST' }).then((r) => r.text())
      await (await pool.request({ method: 'POST', path: '/warm' })).body.json()
      const baggage = propagation.createBaggage({ dry_run: { value: 'true' }, 'dry_run.run.id': { value: 'b' } })
      const dry = await context.with(propagation.setBaggage(context.active(), baggage), async () => [
        await answer(pool.request({ method: 'POST', path: '/a' })),
        await fetch(process.env.URL + '/fetch', { method: 'POST' }).then((r) => r.headers.get('x-dry-run'), (e) => e.cause?.code),
      ])
      await pool.destroy()
      console.log('OUT ' + JSON.stringify(dry))
    `)
    const finished = await runNode({
      register: true,
      file: path.join(directory, 'app.mjs'),
      env: { URL: world.url, DRYTRACE_JOURNAL: path.join(directory, 'journal') },
    })
    expect(world.log).toEqual(['POST /warm ', 'POST /warm '])
    for (const outcome of outputOf<string[]>(finished)) expect(['DRY_BLOCKED', 'DRY_GATE_CLOSED']).toContain(outcome)
  })
})
