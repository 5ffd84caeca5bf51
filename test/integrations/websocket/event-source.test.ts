import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'
import { startWebSocketWorld, type WebSocketWorld } from './websocket-world.js'

let world: WebSocketWorld

beforeAll(async () => {
  world = await startWebSocketWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.requests.length = 0
})

const SOURCES: Readonly<Record<string, string>> = {
  'the global': 'globalThis.EventSource',
  undici: `(await import('undici')).EventSource`,
  'the package eventsource': `(await import('eventsource')).EventSource`,
}

/** What a listener sees until a message has come or the source has given up. */
const LISTEN = `
import { setTimeout as sleep } from 'node:timers/promises'
import { dryRun, isDryRun } from ${JSON.stringify(INDEX_URL)}
const url = 'http://127.0.0.1:' + process.env.PORT + '/events'
const listen = (Source) => new Promise((resolve) => {
  const source = new Source(url)
  const seen = { messages: [], errors: 0, contexts: [] }
  source.addEventListener('message', ({ data }) => {
    seen.messages.push(data)
    seen.contexts.push(isDryRun())
    source.close()
    resolve(seen)
  })
  source.addEventListener('error', () => {
    seen.errors += 1
    seen.contexts.push(isDryRun())
    // 2 is CLOSED: it will not connect again. In any other state it would, for ever.
    if (source.readyState === 2) resolve(seen)
  })
})
`

async function run(source: string, policy = 'version: 1\n') {
  const directory = scratchTree({ 'policy.yaml': policy })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    source: `${LISTEN}
      const out = ${source}
      console.log('OUT ' + JSON.stringify(out))
      process.exit(0)`,
    env: {
      PORT: String(world.port),
      NODE_OPTIONS: '--experimental-eventsource',
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_POLICY: path.join(directory, 'policy.yaml'),
    },
  })
  return { out: outputOf(finished), effects: readEffects(journal) }
}

const RULE = 'rules:\n  - {name: feed, match: {system: http, host: 127.0.0.1}, effect: write}\n'

describe.each(Object.entries(SOURCES))('EventSource: %s', (_, expression) => {
  it('reads a stream of events in a dry run, its listeners in the run', async () => {
    const { out, effects } = await run(`await dryRun({ id: 'r' }, async () => listen(${expression}))`)
    expect(out).toEqual({ messages: ['hello'], errors: 0, contexts: [true] })
    expect(world.requests).toEqual(['GET /events'])
    expect(effects).toMatchObject([{ effect: 'read', outcome: 'allowed', runId: 'r' }])
  })

  it.each(['simulate', 'throw'])(
    'ruled a write, it is blocked with one final error: onBlocked %s',
    async (onBlocked) => {
      const { out, effects } = await run(
        `await dryRun({ id: 'r' }, async () => { const seen = await listen(${expression}); await sleep(100); return seen })`,
        `version: 1\nonBlocked: ${onBlocked}\n${RULE}`,
      )
      expect(out).toEqual({ messages: [], errors: 1, contexts: [true] })
      expect(world.requests).toEqual([])
      expect(effects).toMatchObject([{ effect: 'write', outcome: 'blocked', rule: 'feed' }])
    },
  )

  it('listens live while one beside it is blocked', async () => {
    const { out } = await run(
      `await (async () => {
        const Source = ${expression}
        return Promise.all([listen(Source), dryRun({ id: 'r' }, () => listen(Source)), listen(Source)])
      })()`,
      `version: 1\n${RULE}`,
    )
    const live = { messages: ['hello'], errors: 0, contexts: [false] }
    expect(out).toEqual([live, { messages: [], errors: 1, contexts: [true] }, live])
    expect(world.requests).toEqual(['GET /events', 'GET /events'])
  })
})
