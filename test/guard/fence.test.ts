import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ProblemRecord } from '../../src/journal/record.js'
import { runNode, scratchDirectory } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { readEffects, readRecords } from '../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let tcp: Server
let unix: Server
let udp: DatagramSocket
let world: HttpWorld
const socketPath = path.join('/tmp', `drytrace-fence-${process.pid}.sock`)
/** Every byte and datagram that arrived. */
const arrived: string[] = []
let env: Record<string, string>

beforeAll(async () => {
  const listener = (name: string) =>
    createServer((socket) => {
      arrived.push(`${name} connection`)
      socket.on('data', (chunk) => arrived.push(`${name} ${chunk}`))
      socket.on('error', () => {})
    })
  tcp = listener('tcp')
  unix = listener('unix')
  udp = createSocket('udp4', (message) => arrived.push(`udp ${message}`))
  await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve))
  await new Promise<void>((resolve) => unix.listen(socketPath, resolve))
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve))
  world = await startHttpWorld()
  env = {
    TCP: String((tcp.address() as { port: number }).port),
    UDP: String(udp.address().port),
    UNIX: socketPath,
    URL: world.url,
  }
})
afterAll(async () => {
  for (const server of [tcp, unix]) await new Promise((resolve) => server.close(resolve))
  udp.close()
  await world.stop()
})
afterEach(() => {
  arrived.length = 0
})

const HELPERS = `
  import dgram from 'node:dgram'
  import http from 'node:http'
  import http2 from 'node:http2'
  import net from 'node:net'
  import tls from 'node:tls'
  import undici from 'undici'
  import { dryRun } from ${JSON.stringify(INDEX_URL)}
  const { TCP, UDP, UNIX, URL: url } = process.env
  const outcome = (socket) => new Promise((resolve) => {
    const events = []
    socket.on('connect', () => { events.push('connect'); socket.end('raw') })
    socket.on('secureConnect', () => events.push('secureConnect'))
    socket.on('error', (error) => events.push(error.code))
    socket.on('close', () => resolve(events.join(' ')))
  })
  const datagram = (send) => new Promise((resolve) => {
    const socket = dgram.createSocket('udp4')
    send(socket, (error) => { socket.close(); resolve(error?.code ?? 'sent') })
  })
  const egress = {
    'net.connect(port)': () => outcome(net.connect(Number(TCP))),
    'net.connect(options)': () => outcome(net.connect({ port: TCP, host: '127.0.0.1' })),
    'net.createConnection': () => outcome(net.createConnection(TCP, '127.0.0.1')),
    'socket.connect': () => outcome(new net.Socket().connect(Number(TCP), '127.0.0.1')),
    'a name': () => outcome(net.connect(80, 'no-such-host.invalid')),
    'unix socket': () => outcome(net.connect(UNIX)),
    'unix socket by options': () => outcome(net.connect({ path: UNIX })),
    tls: () => outcome(tls.connect({ port: Number(TCP), host: '127.0.0.1', rejectUnauthorized: false })),
    http2: () => new Promise((resolve) => http2.connect('http://127.0.0.1:' + TCP).on('connect', () => resolve('connect')).on('error', (error) => resolve(error.code))),
    'dgram.send': () => datagram((socket, done) => socket.send('raw', Number(UDP), '127.0.0.1', done)),
    'dgram.send with offsets': () => datagram((socket, done) => socket.send(Buffer.from('raw'), 0, 3, Number(UDP), '127.0.0.1', done)),
    'dgram connected': () => datagram((socket, done) => socket.connect(Number(UDP), '127.0.0.1', () => socket.send('raw', done))),
  }
  const all = async () => {
    const out = {}
    for (const [name, run] of Object.entries(egress)) out[name] = await run()
    return out
  }
`

describe('raw egress in a dry run', () => {
  it('is refused, reported, and nothing arrives', async () => {
    const journal = path.join(scratchDirectory(), 'journal')
    const finished = await runNode({
      register: true,
      env: { ...env, DRYTRACE_JOURNAL: journal },
      source: `${HELPERS}
        console.log('OUT ' + JSON.stringify(await dryRun({ id: 'fenced' }, all)))`,
    })
    const out = outputOf<Record<string, string>>(finished)
    expect(out).toEqual(Object.fromEntries(Object.keys(out).map((name) => [name, 'DRY_BLOCKED'])))
    expect(Object.keys(out)).toHaveLength(12)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(arrived).toEqual([])

    const effects = readEffects(journal)
    expect(effects.map(({ system, outcome, rule }) => `${system} ${outcome} ${rule}`)).toEqual(
      Array(12).fill('net blocked fence'),
    )
    expect(effects.map(({ target }) => target)).toEqual([
      `localhost:${env['TCP']}`,
      ...Array(3).fill(`127.0.0.1:${env['TCP']}`),
      'no-such-host.invalid:80',
      socketPath,
      socketPath,
      ...Array(2).fill(`127.0.0.1:${env['TCP']}`),
      ...Array(3).fill(`127.0.0.1:${env['UDP']}`),
    ])
    const gaps = readRecords(journal).filter(({ type }) => type === 'problem') as ProblemRecord[]
    expect(gaps.map(({ kind }) => kind)).toEqual(Array(12).fill('gap'))
  })

  it('works as ever outside of one', async () => {
    const source = `${HELPERS}
      delete egress['a name']; delete egress.tls; delete egress.http2
      await dryRun({}, async () => {})
      console.log('OUT ' + JSON.stringify(await all()))`
    const out = outputOf<Record<string, string>>(await runNode({ register: true, env, source }))
    expect(new Set(Object.values(out))).toEqual(new Set(['connect', 'sent']))
    await expect.poll(() => [...arrived].sort()).toEqual([
      ...Array(4).fill('tcp connection'),
      ...Array(4).fill('tcp raw'),
      ...Array(3).fill('udp raw'),
      ...Array(2).fill('unix connection'),
      ...Array(2).fill('unix raw'),
    ])
  })

  it('is refused too from what an allowed call calls back', async () => {
    const source = `${HELPERS}
      const raw = () => outcome(net.connect(Number(TCP), '127.0.0.1'))
      const out = await dryRun({}, async () => ({
        'http response': await new Promise((resolve) => http.get(url, (response) => { response.resume(); raw().then(resolve) })),
        'http data': await new Promise((resolve) => http.get(url, (response) => response.on('data', () => raw().then(resolve)))),
        'http socket': await new Promise((resolve) => http.get(url).on('socket', () => raw().then(resolve)).on('response', (r) => r.resume())),
        'fetch continuation': await fetch(url).then(raw),
        'undici body': await undici.request(url).then(({ body }) => new Promise((resolve) => body.on('data', () => raw().then(resolve)))),
        'undici stream factory': await new Promise((resolve) => undici.stream(url, {}, () => { raw().then(resolve); return new (class extends undici.Dispatcher {})() && process.stderr }).catch(() => {})),
        'undici handler': await new Promise((resolve) => new undici.Agent().dispatch({ origin: url, path: '/', method: 'GET' }, {
          onRequestStart() {}, onResponseStart() { raw().then(resolve) }, onResponseData() {}, onResponseEnd() {}, onResponseError() {},
        })),
      }))
      console.log('OUT ' + JSON.stringify(out))
      process.exit()`
    const out = outputOf<Record<string, string>>(await runNode({ register: true, env, source }))
    expect(out).toEqual(Object.fromEntries(Object.keys(out).map((name) => [name, 'DRY_BLOCKED'])))
    expect(Object.keys(out)).toHaveLength(7)
    expect(arrived).toEqual([])
  })

  it('passes by a policy rule with an owner, a reason and a date, and is on record', async () => {
    const directory = scratchTree({
      'policy.yaml': `version: 1
rules:
  - {name: cache, match: {system: net, host: "127.0.0.1:${env['TCP']}"}, verdict: allow, owner: ops, reason: a cache, expires: 2999-01-01}
`,
    })
    const journal = path.join(directory, 'journal')
    const finished = await runNode({
      register: true,
      env: { ...env, DRYTRACE_POLICY: path.join(directory, 'policy.yaml'), DRYTRACE_JOURNAL: journal },
      source: `${HELPERS}
        console.log('OUT ' + JSON.stringify(await dryRun({}, async () => [await egress['net.connect(options)'](), await egress['unix socket']()])))`,
    })
    expect(outputOf(finished)).toEqual(['connect', 'DRY_BLOCKED'])
    await expect.poll(() => arrived).toEqual(['tcp connection', 'tcp raw'])
    expect(readEffects(journal).map(({ outcome, rule }) => `${outcome} ${rule}`)).toEqual([
      'allowed cache',
      'blocked fence',
    ])
  })
})
