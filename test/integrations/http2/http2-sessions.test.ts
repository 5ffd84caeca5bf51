import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { type Http2World, startHttp2World } from '../../support/http2-world.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { INDEX_URL, outputOf } from '../../support/scratch.js'

let world: Http2World

beforeAll(async () => {
  world = await startHttp2World()
})
afterAll(() => world.stop())
beforeEach(() => {
  for (const list of [world.log, world.reads, world.carriers]) list.length = 0
})

const PRELUDE = `
import http2 from 'node:http2'
import net from 'node:net'
import { promisify } from 'node:util'
import { dryRun, isDryRun, armed } from ${JSON.stringify(INDEX_URL)}
const url = process.env.URL
const out = (value) => console.log('OUT ' + JSON.stringify(value))
const opened = (session) => new Promise((resolve, reject) => session.once('connect', () => resolve(session)).once('error', reject))
const read = (stream, end) => new Promise((resolve, reject) => {
  let headers, body = ''
  stream.on('response', (h) => { headers = h }).setEncoding('utf8').on('data', (chunk) => { body += chunk })
  stream.on('end', () => resolve({ status: headers[':status'], flag: headers['x-dry-run'], body })).on('error', reject)
  stream.end(end)
})
const post = (session, path, body = '{}', more = {}) => read(session.request({ ':method': 'POST', ':path': path, ...more }), body)
`

async function run(source: string, env: Record<string, string> = {}) {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: true,
    type: 'module',
    source: PRELUDE + source,
    env: { URL: world.url, DRYTRACE_JOURNAL: journal, ...env },
  })
  if (finished.code !== 0)
    throw new Error(`the program ended with ${finished.code}:\n${finished.stdout}${finished.stderr}`)
  return { ...finished, journal, out: <T>() => outputOf<T>(finished) }
}

function policy(text: string): string {
  const file = path.join(scratchDirectory(), 'policy.yaml')
  writeFileSync(file, text)
  return file
}

describe('live and dry requests over one session', () => {
  it('leak no dry write and swallow no live one', async () => {
    const { out, journal } = await run(`
      const session = await opened(http2.connect(url))
      const isDry = (i) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][i % 10] === 1
      const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => {
        const go = () => post(session, (isDry(i) ? '/dry-' : '/live-') + i, 'x'.repeat(i * 100))
        return isDry(i) ? dryRun({ id: 'run-' + i }, go) : go()
      }))
      session.close()
      out(answers.map(({ flag }) => flag ?? 'live'))
    `)
    const dry = Array.from({ length: 200 }, (_, i) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][i % 10] === 1)
    expect(out()).toEqual(dry.map((is) => (is ? 'blocked' : 'live')))
    const live = dry.flatMap((is, i) => (is ? [] : [`POST /live-${i} ${'x'.repeat(i * 100)}`]))
    expect([...world.log].sort()).toEqual(live.sort())
    const effects = readEffects(journal)
    expect(effects).toHaveLength(dry.filter(Boolean).length)
    for (const { runId, target, payload } of effects) {
      const index = Number(runId.slice('run-'.length))
      expect(target).toMatch(new RegExp(`/dry-${index}$`))
      expect(payload?.size ?? 0).toBe(index * 100)
    }
  })

  it('run their events in the context of their caller, whoever opened the session', async () => {
    const { out } = await run(`
      const events = (session, method) => new Promise((resolve) => {
        const seen = {}
        const note = (name) => () => { seen[name] = isDryRun() }
        const stream = session.request({ ':method': method, ':path': '/e' })
        for (const name of ['response', 'data', 'end', 'finish']) stream.on(name, note(name))
        stream.on('close', () => { seen.close = isDryRun(); resolve(seen) })
        stream.end()
      })
      const live = await opened(http2.connect(url))
      const dry = await dryRun({ id: 'opener' }, () => opened(http2.connect(url)))
      // Requests made before the connection is there wait for it.
      const pending = await dryRun({ id: 'pending' }, () => http2.connect(url))
      const waiting = events(pending, 'POST')
      const result = {
        dryReadOnLive: await dryRun({}, () => events(live, 'GET')),
        dryWriteOnLive: await dryRun({}, () => events(live, 'POST')),
        liveReadOnDry: await events(dry, 'GET'),
        liveWriteOnDry: await events(dry, 'POST'),
        liveWriteOnPending: await waiting,
        dryReadOnDry: await dryRun({}, () => events(dry, 'GET')),
      }
      for (const session of [live, dry, pending]) session.close()
      out(result)
    `)
    const all = (dry: boolean) => ({ response: dry, data: dry, end: dry, finish: dry, close: dry })
    expect(out()).toEqual({
      dryReadOnLive: all(true),
      dryWriteOnLive: all(true),
      liveReadOnDry: all(false),
      liveWriteOnDry: all(false),
      liveWriteOnPending: all(false),
      dryReadOnDry: all(true),
    })
    expect(world.log).toEqual(['POST /e ', 'POST /e '])
  })
})

describe('a session opened in a dry run', () => {
  it('belongs to the run for its listeners while it goes on, and to nobody afterwards', async () => {
    const { out } = await run(`
      const seen = []
      const session = await dryRun({ id: 'r' }, async () => {
        const made = http2.connect(url, {}, () => seen.push('listener ' + isDryRun()))
        made.on('connect', () => seen.push('connect ' + isDryRun()))
        made.on('close', () => seen.push('close ' + isDryRun()))
        await opened(made)
        return made
      })
      session.close()
      await new Promise((resolve) => session.on('close', resolve))
      out(seen)
    `)
    expect(out()).toEqual(['listener true', 'connect true', 'close false'])
  })

  it('that uses a connection of the caller is opened under the same permit', async () => {
    const { out } = await run(`
      const port = new URL(url).port
      out(await dryRun({ id: 'r' }, async () => {
        const session = http2.connect(url, { createConnection: () => net.connect(port, '127.0.0.1') })
        const answers = [await read(session.request({ ':path': '/own' })), await post(session, '/own')]
        session.close()
        return answers.map(({ flag }) => flag ?? 'live')
      }))
    `)
    expect(out()).toEqual(['live', 'blocked'])
    expect(world.reads).toEqual(['GET /own'])
    expect(world.log).toEqual([])
  })
})

describe('a session of live traffic', () => {
  it.each([
    ['of its own', `http2.connect(url)`],
    [
      'with a connection made in createConnection',
      `http2.connect(url, { createConnection: (u) => net.connect(u.port, u.hostname) })`,
    ],
    [
      'over a connection made before',
      `(() => { const s = net.connect(new URL(url).port, '127.0.0.1'); return http2.connect(url, { createConnection: () => s }) })()`,
    ],
  ])('does not close the gate: %s', async (_, expression) => {
    const { out } = await run(`
      const session = await opened(${expression})
      const answer = await dryRun({ id: 'r' }, () => post(session, '/x'))
      session.close()
      out([answer.flag, (await armed()).filter?.(({ name }) => name === 'http2')[0]?.status ?? 'armed'])
    `)
    expect(out()).toEqual(['blocked', 'armed'])
    expect(world.log).toEqual([])
  })

  it('is met also where connect was taken before the guard was there', async () => {
    const captured = path.join(scratchDirectory(), 'captured.cjs')
    writeFileSync(captured, `globalThis.earlyConnect = require('node:http2').connect\n`)
    const journal = path.join(scratchDirectory(), 'journal')
    const finished = await runNode({
      register: true,
      before: [captured],
      type: 'module',
      source: `${PRELUDE}
        const session = await opened(globalThis.earlyConnect(url))
        const answer = await dryRun({ id: 'r' }, () => post(session, '/captured'))
        session.close()
        out(answer.flag)`,
      env: { URL: world.url, DRYTRACE_JOURNAL: journal },
    })
    expect(outputOf(finished)).toBe('blocked')
    expect(world.log).toEqual([])
    expect(readEffects(journal).map(({ outcome }) => outcome)).toEqual(['blocked'])
  })
})

describe('a blocked request', () => {
  it('goes on record before its answer, with its body, and is answered by the rule', async () => {
    const { out, journal } = await run(
      `
      const session = await opened(http2.connect(url))
      out(await dryRun({ id: 'r' }, () => post(session, '/v1/contacts', '{"name":"x"}', { 'content-type': 'application/json' })))
      session.close()
    `,
      {
        DRYTRACE_POLICY: policy(
          'version: 1\nrules:\n  - {name: crm, match: {system: http, host: 127.0.0.1, method: POST, path: /v1/contacts}, respond: {status: 201, json: {id: "{{syntheticId}}", name: "{{request.name}}"}}}\n',
        ),
      },
    )
    const { status, body, flag } = out<{ status: number; body: string; flag: string }>()
    const [effect] = readEffects(journal)
    expect({ status, flag }).toEqual({ status: 201, flag: 'blocked' })
    expect(effect).toMatchObject({ rule: 'crm', outcome: 'blocked', payload: { size: 12, excerpt: { name: 'x' } } })
    expect(JSON.parse(body)).toEqual({ id: effect?.syntheticIds[0], name: 'x' })
  })

  it('that the caller gives up is on record too', async () => {
    const { journal } = await run(`
      const session = await opened(http2.connect(url))
      await dryRun({ id: 'r' }, async () => {
        const stream = session.request({ ':method': 'POST', ':path': '/gone' })
        stream.on('error', () => {})
        stream.write('half')
        await new Promise((resolve) => setTimeout(resolve, 20))
        const closed = new Promise((resolve) => stream.on('close', resolve))
        session.destroy()
        await closed
        out(stream.destroyed)
      })
    `)
    expect(readEffects(journal)).toMatchObject([{ outcome: 'blocked', note: expect.stringMatching(/gave up/) }])
    expect(world.log).toEqual([])
  })

  it('is an error where the policy says so, and its record is in the journal', async () => {
    const { out, journal } = await run(
      `
      const session = await opened(http2.connect(url))
      out(await dryRun({ id: 'r' }, () => post(session, '/x').then(({ status, body }) => [status, body], (error) => [error.code, error.message])))
      session.close()
    `,
      { DRYTRACE_POLICY: policy('version: 1\nonBlocked: throw\n') },
    )
    expect(JSON.stringify(out())).toContain('DRY_BLOCKED')
    expect(readEffects(journal)).toMatchObject([{ outcome: 'blocked' }])
    expect(world.log).toEqual([])
  })
})

describe('a request whose body decides', () => {
  it('is held until it is whole, and then sent or blocked', async () => {
    const { out, journal } = await run(
      `
      const session = await opened(http2.connect(url))
      const ask = (op) => post(session, '/rpc', JSON.stringify({ op }), { 'content-type': 'application/json' })
      const answers = await dryRun({ id: 'r' }, async () => [await ask('look'), await ask('drop')])
      session.close()
      out(answers.map(({ status, flag }) => [status, flag ?? 'live']))
    `,
      {
        DRYTRACE_POLICY: policy(
          'version: 1\nrules:\n  - {name: looks, match: {system: http, host: 127.0.0.1, method: POST, path: /rpc, body: {op: look}}, effect: read}\n',
        ),
      },
    )
    expect(out()).toEqual([
      [200, 'live'],
      [200, 'blocked'],
    ])
    expect(world.log).toEqual(['POST /rpc {"op":"look"}'])
    expect(readEffects(journal).map(({ rule, outcome }) => [rule, outcome])).toEqual([
      ['looks', 'allowed'],
      ['default.write', 'blocked'],
    ])
  })
})

describe('the flag', () => {
  it('goes to hosts the policy forwards to, and is taken out of requests to others', async () => {
    const send = `
      const session = await opened(http2.connect(url))
      const headers = { ':path': '/f', Baggage: 'other=1,dry_run=true,dry_run.token=secret', 'x-dry-run': '1:mine' }
      await dryRun({ id: 'r' }, () => read(session.request(headers)))
      session.close()
      out([headers.Baggage, Object.keys(headers).length])
    `
    const stranger = await run(send)
    expect(world.carriers).toEqual([{ baggage: 'other=1', tracestate: undefined, flag: undefined }])
    // The caller's own object is not touched.
    expect(stranger.out()).toEqual(['other=1,dry_run=true,dry_run.token=secret', 3])
    world.carriers.length = 0
    await run(send, {
      DRYTRACE_POLICY: policy(
        'version: 1\nrules:\n  - {name: internal, match: {system: http, host: 127.0.0.1}, verdict: forward}\n',
      ),
    })
    expect(world.carriers).toEqual([
      { baggage: 'dry_run=true,dry_run.run.id=r,other=1', tracestate: 'drytrace=1:r', flag: '1:r' },
    ])
  })
})

describe('live, with the guard loaded', () => {
  it('promisified connect works, and Node’s own errors are as they were', async () => {
    const source = `
      const errors = []
      const note = (fn) => { try { fn() } catch (error) { errors.push(error.code) } }
      const session = await promisify(http2.connect)(url)
      note(() => session.request({ ':method': 'GET', ':bad': 'x' }))
      note(() => session.request({}, { weight: 'heavy', endStream: 'no' }))
      note(() => http2.connect('ftp://x'))
      note(() => http2.connect())
      const refused = await promisify(http2.connect)('http://127.0.0.1:1').catch((error) => error.code)
      session.destroy()
      await new Promise((resolve) => { try { session.request({}).on('error', (error) => resolve(errors.push('emitted ' + error.code))) } catch (error) { resolve(errors.push(error.code)) } })
      const { name, length } = http2.connect
      console.log('OUT ' + JSON.stringify([errors, refused, name, length, Object.getOwnPropertyNames(http2).length]))
    `
    const bare = await runNode({
      type: 'module',
      source: `import http2 from 'node:http2'; import { promisify } from 'node:util'; const url = process.env.URL\n${source}`,
      env: { URL: world.url },
    })
    const guarded = await run(source)
    expect(guarded.out()).toEqual(outputOf(bare))
    expect(readRecords(guarded.journal)).toEqual([])
    // … and in a dry run they are Node's own too.
    const dry = await run(source, { DRY_RUN: '1' })
    expect(dry.out()).toEqual(outputOf(bare))
  })
})
