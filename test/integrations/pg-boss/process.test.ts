import { writeFileSync } from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import type { PgBoss } from 'pg-boss'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { type BossServer, startBossServer } from './boss-server.js'

let server: BossServer
let boss: PgBoss

// The boss of this process is never patched: it is the live world around the children.
beforeAll(async () => {
  server = await startBossServer()
  boss = await server.boss()
  await boss.createQueue('mail')
  await boss.createQueue('loop')
  await boss.createQueue('lazy-done')
})

afterAll(() => server?.close())

function run(source: string, env: Record<string, string> = {}, register = true) {
  const journal = scratchDirectory()
  return runNode({
    register,
    type: 'module',
    source: `import { PgBoss } from 'pg-boss'\nconst connectionString = process.env.PG_URL\n${source}`,
    env: { PG_URL: server.url, DRYTRACE_JOURNAL: journal, ...env },
  }).then((finished) => ({ ...finished, journal }))
}

const WORKER = `
const boss = new PgBoss({ connectionString, ...JSON.parse(process.env.BOSS_OPTIONS ?? '{}') })
const stopped = new Promise((resolve) => boss.once('stopped', resolve))
const errors = []
boss.on('error', (error) => errors.push(error.message))
const started = await boss.start()
const handled = []
const workerId = await boss.work('mail', { pollingIntervalSeconds: 0.5 }, async (jobs) => { handled.push(...jobs.map((job) => job.id)) })
const sent = await boss.send('mail', { from: 'child' })
await boss.createQueue('child-queue')
await boss.schedule('mail', '* * * * *', {})
const fetched = await boss.fetch('mail')
const queue = await boss.getQueue('mail')
await new Promise((resolve) => setTimeout(resolve, 1500))
await boss.offWork('mail')
await boss.stop()
await stopped
console.log(JSON.stringify({ started: started === boss, workerId, handled, sent, fetched, queue: queue?.name, errors }))
`

describe('DRY_RUN=1', () => {
  it('consumes no live queue, changes no row, starts no maintenance or cron, and stops', async () => {
    const id = await boss.send('mail', { waiting: 'for a live worker' })
    const before = await server.tables()
    const { code, stdout, stderr, journal } = await run(WORKER, { DRY_RUN: '1' })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      started: true,
      workerId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      handled: [],
      sent: expect.stringMatching(/^d27ace/),
      fetched: [],
      queue: 'mail',
      errors: [],
    })
    expect(await server.tables()).toBe(before)
    expect(await server.jobs('mail')).toMatchObject([{ id, state: 'created' }])
    const blocked = readEffects(journal).filter(({ outcome }) => outcome === 'blocked')
    expect(blocked.map(({ summary, system }) => `${system}: ${summary}`)).toEqual([
      'pg-boss: start pg-boss',
      'pg-boss: work mail',
      'pg-boss: send to mail',
      'pg-boss: createQueue child-queue',
      'pg-boss: schedule mail',
      'pg-boss: fetch mail',
    ])
    expect(readRecords(journal).filter(({ type }) => type === 'problem')).toEqual([])
  })

  it('installs no schema; reads fail as they do without one', async () => {
    const { code, stdout, stderr } = await run(
      `
      const boss = new PgBoss({ connectionString, schema: 'never' })
      await boss.start()
      const read = await boss.getQueues().then(() => 'ok', (error) => error.message)
      await boss.stop()
      console.log(read)
      `,
      { DRY_RUN: '1' },
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('does not exist')
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    const { rows } = await client.query(`select 1 from information_schema.schemata where schema_name = 'never'`)
    await client.end()
    expect(rows).toEqual([])
  })

  it('loops jobs back to the handler when the policy says so', async () => {
    const policy = path.join(scratchDirectory(), 'policy.yaml')
    writeFileSync(
      policy,
      'version: 1\nrules:\n  - {name: loop, match: {system: pg-boss, destination: loop}, verdict: loopback}\n',
    )
    const before = await server.tables()
    const { code, stdout, stderr, journal } = await run(
      `
      const boss = await new PgBoss({ connectionString }).start()
      await boss.work('loop', async ([job]) => {
        console.log(JSON.stringify(job.data))
        if (job.data.n < 3) await boss.send('loop', { n: job.data.n + 1 })
        else await boss.stop()
      })
      await boss.send('loop', { n: 1 })
      `,
      { DRY_RUN: '1', DRYTRACE_POLICY: policy },
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.trim().split('\n')).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    expect(await server.tables()).toBe(before)
    expect(readEffects(journal).filter(({ outcome }) => outcome === 'forwarded')).toHaveLength(3)
  })
})

it('without the guard the same program consumes, writes and schedules: these tests can fail', async () => {
  await boss.deleteAllJobs('mail')
  const id = await boss.send('mail', { waiting: 'for a live worker' })
  const { code, stdout } = await run(WORKER, { DRY_RUN: '1' }, false)
  expect(code).toBe(0)
  const { handled, fetched } = JSON.parse(stdout) as { handled: string[]; fetched: { id: string }[] }
  expect([...handled, ...fetched.map((job) => job.id)]).toContain(id)
  expect(await boss.getQueue('child-queue')).not.toBeNull()
  expect(await boss.getSchedules('mail')).toHaveLength(1)
})

it('one server, one boss: dry requests store no job, live ones lose none, and the Postgres hook agrees', async () => {
  await boss.createQueue('busy')
  const { code, stdout, stderr, journal } = await run(`
    import http from 'node:http'
    const boss = await new PgBoss({ connectionString, supervise: false, schedule: false, max: 3 }).start()
    const server = http.createServer(async (request, response) => {
      try { response.end(await boss.send('busy', { url: request.url })) } catch (error) { response.writeHead(500).end(error.stack) }
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const base = 'http://127.0.0.1:' + server.address().port
    const wrong = []
    await Promise.all(Array.from({ length: 60 }, async (_, n) => {
      const dry = n % 2 === 1
      const reply = await fetch(base + '/' + (dry ? 'dry-' : 'live-') + n, { headers: dry ? { 'x-dry-run': '1:dr-test-' + n } : {} })
      const text = await reply.text()
      if (reply.status !== 200 || text.startsWith('d27ace') !== dry) wrong.push([n, reply.status, text])
    }))
    console.log(JSON.stringify(wrong))
    server.close()
    await boss.stop({ graceful: false })
  `)
  expect({ code, stderr, wrong: stdout.trim() }).toEqual({ code: 0, stderr: '', wrong: '[]' })
  const stored = (await server.jobs('busy')).map(({ data }) => (data as { url: string }).url)
  expect(stored.sort()).toEqual(Array.from({ length: 30 }, (_, n) => `/live-${n * 2}`).sort())
  const blocked = readEffects(journal).filter(({ outcome }) => outcome !== 'allowed')
  expect(blocked.map(({ system, outcome }) => `${system} ${outcome}`)).toEqual(Array(30).fill('pg-boss blocked'))
})

it('a boss and a worker made by a dry request serve live jobs live', async () => {
  await boss.createQueue('lazy')
  const { code, stdout, stderr } = await run(`
    import http from 'node:http'
    let boss
    const handled = []
    const server = http.createServer(async (request, response) => {
      try {
        if (boss === undefined) {
          boss = await new PgBoss({ connectionString, supervise: false, schedule: false }).start()
          await boss.work('lazy', { pollingIntervalSeconds: 0.5 }, async ([job]) => {
            await boss.send('lazy-done', job.data)
            handled.push(job.data.n)
          })
        }
        response.end(await boss.send('lazy', { n: request.url }))
      } catch (error) {
        response.writeHead(500).end(error.stack)
      }
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const base = 'http://127.0.0.1:' + server.address().port
    const dry = await (await fetch(base + '/dry', { headers: { 'x-dry-run': '1:dr-lazy' } })).text()
    const live = await (await fetch(base + '/live')).text()
    for (let round = 0; round < 200 && handled.length === 0; round += 1) await new Promise((resolve) => setTimeout(resolve, 25))
    await new Promise((resolve) => setTimeout(resolve, 300))
    console.log(JSON.stringify({ dry: dry.slice(0, 6), live: live.length, handled }))
    server.close()
    await boss.stop({ graceful: false })
  `)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toEqual({ dry: 'd27ace', live: 36, handled: ['/live'] })
  expect(await server.jobs('lazy')).toMatchObject([{ state: 'completed', data: { n: '/live' } }])
  expect(await server.jobs('lazy-done')).toMatchObject([{ data: { n: '/live' } }])
})

it('a job a rule allows is really stored, past the Postgres hook', async () => {
  await boss.createQueue('open')
  const policy = path.join(scratchDirectory(), 'policy.yaml')
  writeFileSync(
    policy,
    `version: 1
rules:
  - {name: open, match: {system: pg-boss, destination: open}, verdict: allow, owner: qa, reason: test, expires: 2999-01-01}
`,
  )
  const { code, stdout, stderr } = await run(
    `
    import http from 'node:http'
    const boss = await new PgBoss({ connectionString, supervise: false, schedule: false }).start()
    const server = http.createServer(async (request, response) => {
      response.end(JSON.stringify([await boss.send('open', { n: 1 }), await boss.send('mail', { n: 1 })]))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    console.log(await (await fetch('http://127.0.0.1:' + server.address().port, { headers: { 'x-dry-run': '1:dr-open' } })).text())
    server.close()
    await boss.stop({ graceful: false })
    `,
    { DRYTRACE_POLICY: policy },
  )
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const [open, mail] = JSON.parse(stdout) as [string, string]
  expect(mail).toMatch(/^d27ace/)
  expect(await server.jobs('open')).toMatchObject([{ id: open, data: { n: 1 } }])
})
