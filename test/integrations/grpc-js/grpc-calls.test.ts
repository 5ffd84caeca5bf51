import { writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf } from '../../support/scratch.js'
import { startService } from '../../support/service.js'
import { CLIENT, type CrmServer, PROTO, startCrmServer } from './crm-server.js'

let server: CrmServer

beforeAll(async () => {
  server = await startCrmServer()
})
afterAll(() => server.stop())
beforeEach(() => {
  server.log.length = 0
  server.metadata.length = 0
})

async function run(source: string, env: Record<string, string> = {}, options: { before?: string[] } = {}) {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: true,
    type: 'module',
    ...options,
    source: `
      import net from 'node:net'
      import { dryRun, isDryRun } from ${JSON.stringify(INDEX_URL)}
      const env = process.env
      const load = (name) => import(name)
      const out = (value) => console.log('OUT ' + JSON.stringify(value))
      ${CLIENT}
      ${source}
      for (const each of clients) each.close()
    `,
    env: { ...server.env, DRYTRACE_JOURNAL: journal, ...env },
  })
  if (finished.code !== 0)
    throw new Error(`the program ended with ${finished.code}:\n${finished.stdout}${finished.stderr}`)
  return { ...finished, journal, out: () => outputOf(finished) }
}

function policy(text: string): string {
  const file = path.join(scratchDirectory(), 'policy.yaml')
  writeFileSync(file, text)
  return file
}

describe('a blocked call', () => {
  it('opens no connection', async () => {
    const { out, journal } = await run(`
      let connects = 0
      const { connect: original } = net.Socket.prototype
      net.Socket.prototype.connect = function (...args) { connects += 1; return original.apply(this, args) }
      await dryRun({ id: 'r' }, async () => {
        await unary('Create', { name: 'x' })
        await clientStream(['a'])
        await serverStream('SearchAndPurge', {})
        await bidi(['a'])
      })
      const idle = client.getChannel().getConnectivityState(false) === grpc.connectivityState.IDLE
      out([connects, idle])
    `)
    expect(out()).toEqual([0, true])
    expect(server.log).toEqual([])
    const method = (target: string) => target.split('/').at(-1)
    expect(readEffects(journal).map(({ target, outcome, system }) => [system, method(target), outcome])).toEqual([
      ['grpc', 'Create', 'blocked'],
      ['grpc', 'Upload', 'blocked'],
      ['grpc', 'SearchAndPurge', 'blocked'],
      ['grpc', 'Chat', 'blocked'],
    ])
  })

  it('shows its messages in the report, and gets the answer of a rule', async () => {
    const { out, journal } = await run(
      `out(await dryRun({ id: 'r' }, async () => [await unary('Create', { name: 'x', seen: 5 }), await serverStream('SearchAndPurge', {}), await clientStream(['a', 'b'])]))`,
      {
        DRYTRACE_POLICY: policy(`version: 1
rules:
  - {name: create, match: {system: grpc, host: 127.0.0.1, path: /crm.v1.Contacts/Create}, respond: {json: {id: "{{syntheticId}}", name: made}}}
  - {name: purge, match: {system: grpc, host: 127.0.0.1, path: /crm.v1.Contacts/SearchAndPurge}, respond: {json: [{name: a}, {name: b}]}}
`),
      },
    )
    const effects = readEffects(journal)
    expect(effects[0]).toMatchObject({
      rule: 'create',
      fidelity: 'plausible',
      payload: { excerpt: { name: 'x', seen: '5' } },
    })
    expect(effects[2]?.payload?.excerpt).toMatchObject([{ name: 'a' }, { name: 'b' }])
    expect(out()).toMatchObject([{ id: effects[0]?.syntheticIds[0], name: 'made' }, ['a', 'b'], { id: '' }])
  })

  it('that is cancelled is on record', async () => {
    const { out, journal } = await run(`
      out(await dryRun({ id: 'r' }, () => new Promise((resolve) => {
        const call = client.Upload((error) => resolve(error.code))
        call.write({ name: 'half' })
        setTimeout(() => call.cancel(), 20)
      })))
    `)
    expect(out()).toBe(1)
    expect(readEffects(journal)).toMatchObject([{ outcome: 'blocked', note: expect.stringMatching(/gave up/) }])
    expect(server.log).toEqual([])
  })
})

describe('live and dry calls over one channel', () => {
  it('leak no dry write and swallow no live one', async () => {
    const { out, journal } = await run(`
      const isDry = (i) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][i % 10] === 1
      const answers = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
        // Dry reads among them open the connection that live calls wait for.
        const go = async () => { if (i % 3 === 0) await unary('Look', { name: 'l' }); return unary('Create', { name: (isDry(i) ? 'dry-' : 'live-') + i }) }
        return isDry(i) ? dryRun({ id: 'run-' + i }, go) : go()
      }))
      out(answers.map(({ id }) => id))
    `)
    const dry = Array.from({ length: 100 }, (_, i) => [0, 1, 1, 0, 0, 1, 0, 1, 1, 1][i % 10] === 1)
    expect(out()).toEqual(dry.map((is) => (is ? '' : 'live')))
    expect([...server.log].sort()).toEqual(dry.flatMap((is, i) => (is ? [] : [`Create live-${i}`])).sort())
    const writes = readEffects(journal).filter(({ effect }) => effect !== 'read')
    expect(writes.map(({ runId }) => runId).sort()).toEqual(dry.flatMap((is, i) => (is ? [`run-${i}`] : [])).sort())
  })

  it('run their callbacks and events in the context of their caller, whoever opened the channel', async () => {
    const { out } = await run(`
      const contexts = (on, method) => new Promise((resolve) => {
        const seen = {}
        const call = on[method]({ name: 'x' }, () => { seen.callback = isDryRun() })
        call.on('metadata', () => { seen.metadata = isDryRun() })
        call.on('status', () => { seen.status = isDryRun(); resolve(seen) })
      })
      const stream = (on) => new Promise((resolve) => {
        const seen = {}
        const call = on.Watch({})
        for (const name of ['metadata', 'data', 'status']) call.on(name, () => { seen[name] = isDryRun() })
        call.on('end', () => { seen.end = isDryRun(); setImmediate(resolve, seen) })
      })
      const first = connect()
      const [dry, live] = await Promise.all([dryRun({ id: 'r' }, () => contexts(first, 'Look')), contexts(first, 'Create')])
      const second = await dryRun({ id: 's' }, () => { const made = connect(); made.waitForReady(Date.now() + 5000, () => {}); return made })
      const waiting = await contexts(second, 'Create')
      out([dry, live, waiting, await stream(first), await dryRun({ id: 't' }, () => stream(first)), await dryRun({ id: 'u' }, () => contexts(first, 'Create'))])
    `)
    const unary = (dry: boolean) => ({ callback: dry, metadata: dry, status: dry })
    const stream = (dry: boolean) => ({ metadata: dry, data: dry, status: dry, end: dry })
    expect(out()).toEqual([unary(true), unary(false), unary(false), stream(false), stream(true), unary(true)])
    expect(server.log).toEqual(['Create x', 'Create x'])
  })
})

describe('an allowed call', () => {
  it('carries no flag to a stranger, and the whole flag to a host the policy forwards to', async () => {
    const call = `
      const metadata = new grpc.Metadata()
      metadata.set('baggage', 'other=1,dry_run=true,dry_run.token=secret')
      await dryRun({ id: 'r' }, () => new Promise((resolve) => client.Look({ name: 'x' }, metadata, resolve)))
      out(metadata.get('baggage'))
    `
    const { out } = await run(call)
    expect(out()).toEqual(['other=1,dry_run=true,dry_run.token=secret'])
    expect(server.metadata).toMatchObject([{ baggage: 'other=1' }])
    expect(server.metadata[0]).not.toHaveProperty('x-dry-run')
    server.metadata.length = 0
    await run(call, {
      DRYTRACE_POLICY: policy(
        'version: 1\nrules:\n  - {name: in, match: {system: grpc, host: 127.0.0.1}, verdict: forward}\n',
      ),
    })
    expect(server.metadata).toMatchObject([
      { baggage: 'dry_run=true,dry_run.run.id=r,other=1', tracestate: 'drytrace=1:r', 'x-dry-run': '1:r' },
    ])
  })

  it('goes out in a process that is dry as a whole, and the writes beside it do not', async () => {
    const { out } = await run(
      `out([(await unary('Look', { name: 'x' })).id, (await unary('Create', { name: 'x' })).id])`,
      {
        DRY_RUN: '1',
      },
    )
    expect(out()).toEqual(['live', ''])
    expect(server.log).toEqual([])
  })
})

it('a copy that was loaded before the guard is met all the same', async () => {
  const early = path.join(scratchDirectory(), 'early.cjs')
  writeFileSync(early, `require('@grpc/grpc-js')\n`)
  const { out } = await run(
    `out(await dryRun({ id: 'r' }, async () => [await unary('Create', { name: 'x' }), await bidi(['a']), (await unary('Look', { name: 'x' })).id]))`,
    {},
    { before: [early] },
  )
  expect(out()).toMatchObject([{ id: '' }, [], 'live'])
  expect(server.log).toEqual([])
})

it('a gRPC server runs a call with the flag dry', async () => {
  const service = await startService({
    source: `
      import grpc from '@grpc/grpc-js'
      import loader from '@grpc/proto-loader'
      import { isDryRun } from ${JSON.stringify(INDEX_URL)}
      const { crm } = grpc.loadPackageDefinition(loader.loadSync(${JSON.stringify(PROTO)}))
      const server = new grpc.Server()
      const upstream = new crm.v1.Contacts(process.env.ADDRESS, grpc.credentials.createInsecure())
      server.addService(crm.v1.Contacts.service, {
        Create: (call, callback) => upstream.Create(call.request, (error) => callback(error, { name: String(isDryRun()) })),
      })
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => console.log('LISTENING ' + port))
    `,
    env: { ADDRESS: server.address },
  })
  const ask = (headers: Record<string, string>) =>
    new Promise<{ flag: unknown; status: unknown; text: string }>((resolve, reject) => {
      const session = http2.connect(service.url)
      const stream = session.request({
        ':method': 'POST',
        ':path': '/crm.v1.Contacts/Create',
        'content-type': 'application/grpc',
        te: 'trailers',
        ...headers,
      })
      let flag: unknown
      let status: unknown
      let text = ''
      stream.on('response', (head) => {
        flag = head['x-dry-run']
        status = head['grpc-status']
      })
      stream.on('trailers', (trailers) => {
        status = trailers['grpc-status']
      })
      stream.on('data', (chunk) => {
        text += chunk
      })
      stream.on('error', reject)
      stream.on('close', () => {
        session.close()
        resolve({ flag, status, text })
      })
      // One message: no compression, four bytes of length, field 2 = "n".
      stream.end(Buffer.from([0, 0, 0, 0, 3, 0x12, 1, 0x6e]))
    })
  try {
    const dry = await ask({ 'x-dry-run': '1:rpc' })
    expect(dry).toMatchObject({ flag: '1:rpc', status: '0', text: expect.stringContaining('true') })
    await vi.waitFor(() => expect(readEffects(service.journal)).toMatchObject([{ runId: 'rpc', outcome: 'blocked' }]))
    expect(server.log).toEqual([])
    const live = await ask({})
    expect(live).toMatchObject({ flag: undefined, status: '0', text: expect.stringContaining('false') })
    expect(server.log).toEqual(['Create n'])
    const refused = await ask({ 'x-dry-run': '1:rpc', via: '1.1 proxy' })
    expect(refused).toMatchObject({ flag: 'refused', status: '7' })
    expect(server.log).toEqual(['Create n'])
  } finally {
    await service.stop()
  }
})
