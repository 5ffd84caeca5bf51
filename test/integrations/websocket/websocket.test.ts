import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { INDEX_URL, outputOf } from '../../support/scratch.js'
import { startWebSocketWorld, type WebSocketWorld } from './websocket-world.js'

let world: WebSocketWorld

beforeAll(async () => {
  world = await startWebSocketWorld()
})
afterAll(() => world.stop())
beforeEach(() => {
  world.messages.length = 0
  world.requests.length = 0
})

/** What a caller sees of one connection: handshake, echo (if any comes), and how it closes. */
const TALK = `
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import ws from 'ws'
import { dryRun, isDryRun } from ${JSON.stringify(INDEX_URL)}
const url = 'ws://127.0.0.1:' + process.env.PORT
const out = (value) => console.log('OUT ' + JSON.stringify(value))
let connects = 0
const { connect } = net.Socket.prototype
net.Socket.prototype.connect = function (...args) { connects += 1; return connect.apply(this, args) }
const talk = (socket, wait) => new Promise((resolve) => {
  const seen = { protocol: null, messages: [], contexts: [] }
  const note = () => seen.contexts.push(isDryRun())
  socket.addEventListener('error', (event) => resolve({ error: String(event.message ?? event.error) }))
  socket.addEventListener('message', (event) => { note(); seen.messages.push(String(event.data)); socket.close(4001, 'done') })
  socket.addEventListener('open', async () => {
    note()
    seen.protocol = socket.protocol
    if (typeof socket.ping === 'function') await new Promise((pong) => { socket.once('pong', pong); socket.ping('x') })
    socket.send('hello')
    socket.send('y'.repeat(70000))
    if (!wait) setTimeout(() => socket.close(4001, 'done'), 30)
  })
  socket.addEventListener('close', (event) => { note(); resolve({ ...seen, code: event.code, clean: event.wasClean }) })
})
`
const CLIENTS: Readonly<Record<string, string>> = {
  ws: `new ws(url + '/chat', ['v1', 'v2'])`,
  'ws with an agent': `new ws(url + '/chat', ['v1', 'v2'], { agent: new http.Agent({ keepAlive: true }) })`,
  'the global WebSocket': `new WebSocket(url + '/chat', ['v1', 'v2'])`,
  'WebSocket of undici': `new (await import('undici')).WebSocket(url + '/chat', ['v1', 'v2'])`,
}

async function run(source: string, env: Record<string, string> = {}) {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: true,
    type: 'module',
    source: TALK + source,
    env: { PORT: String(world.port), DRYTRACE_JOURNAL: journal, ...env },
  })
  if (finished.code !== 0)
    throw new Error(`the program ended with ${finished.code}:\n${finished.stdout}${finished.stderr}`)
  return { journal, out: <T>() => outputOf<T>(finished) }
}

describe.each(Object.entries(CLIENTS))('a WebSocket of %s', (_, expression) => {
  it('in a dry run has its handshake, sends into nothing and closes; no connection is made', async () => {
    const { out, journal } = await run(`
      const seen = await dryRun({ id: 'r' }, async () => talk(${expression}, false))
      out({ ...seen, connects })
    `)
    expect(out()).toEqual({
      protocol: 'v1',
      messages: [],
      contexts: [true, true],
      code: 4001,
      clean: true,
      connects: 0,
    })
    expect([...world.requests, ...world.messages]).toEqual([])
    expect(readEffects(journal)).toMatchObject([
      { system: 'http', effect: 'write', outcome: 'blocked', summary: expect.stringMatching(/^upgrade .*\/chat$/) },
    ])
  })

  it('live works as ever, while a dry run goes on beside it', async () => {
    const { out, journal } = await run(`
      const [live, dry] = await Promise.all([talk(${expression}, true), dryRun({ id: 'r' }, async () => talk(${expression}, false))])
      out([live, dry.messages])
    `)
    const [live, dry] = out<[{ messages: string[]; contexts: boolean[] }, string[]]>()
    expect(live).toMatchObject({ protocol: 'v1', code: 4001, clean: true })
    expect(live.messages[0]).toBe('echo hello')
    expect(live.contexts).not.toContain(true)
    expect(dry).toEqual([])
    expect(world.requests).toEqual(['upgrade /chat'])
    expect(world.messages.map((text) => text.length)).toEqual([5, 70_000])
    expect(readEffects(journal)).toHaveLength(1)
  })
})

it('a secure WebSocket never reaches TLS either', async () => {
  const { out } = await run(`
    const secure = url.replace('ws:', 'wss:')
    out([await dryRun({}, () => talk(new ws(secure), false)), await dryRun({}, () => talk(new WebSocket(secure), false)), connects])
  `)
  expect(out()).toMatchObject([{ code: 4001, clean: true }, { code: 4001, clean: true }, 0])
})

it('a failing journal is an error of the handshake', async () => {
  const { out } = await run(
    `
    globalThis[Symbol.for('drytrace.v1')].slots.get('guard').record = () => { throw new Error('disk full') }
    out([await dryRun({}, () => talk(new ws(url), false)).catch((e) => e.message), connects])
  `,
  )
  expect(JSON.stringify(out())).toContain('disk full')
  expect(world.requests).toEqual([])
})

it('live alone leaves no record', async () => {
  const { journal } = await run(`out(await talk(new ws(url), true))`)
  expect(readRecords(journal)).toEqual([])
})
