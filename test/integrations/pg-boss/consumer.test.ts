import pg from 'pg'
import { type Job, PgBoss } from 'pg-boss'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createAdmission } from '../../../src/carriers/admission.js'
import { wrapBody } from '../../../src/carriers/message-envelope.js'
import { consume } from '../../../src/integrations/pg-boss/consumer.js'
import type { Boss } from '../../../src/integrations/pg-boss/library.js'
import { parsePolicy } from '../../../src/policy/parse.js'
import { createRunId } from '../../../src/run/run.js'
import { currentRun, shared } from '../../../src/run/store.js'
import { createToken } from '../../../src/run/token.js'
import { type Guarded, guarded } from '../nodemailer/guarded.js'
import { type BossServer, patchPgBoss, startBossServer } from './boss-server.js'

const SECRET = 'a shared secret'

let harness: Guarded
let server: BossServer
let boss: PgBoss

beforeAll(async () => {
  harness = guarded()
  await patchPgBoss(harness.guard)
  shared.slots.set('admission', createAdmission(parsePolicy('version: 1', 'test.yaml'), harness.barrier, SECRET))
  server = await startBossServer()
  boss = await server.boss()
})

afterAll(async () => {
  shared.slots.delete('admission')
  await server?.close()
  await harness.close()
})

let queue = ''
let count = 0

beforeEach(async () => {
  count += 1
  queue = `work-${count}`
  await boss.createQueue(queue, { retryLimit: 0 })
})

async function settled(size: number): Promise<Awaited<ReturnType<BossServer['jobs']>>> {
  for (let round = 0; round < 500; round += 1) {
    const jobs = await server.jobs(queue)
    if (jobs.length === size && jobs.every(({ state }) => state === 'completed' || state === 'failed')) return jobs
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`not settled: ${JSON.stringify(await server.jobs(queue))}`)
}

/** A message another service put on the queue, with the flag in it. */
function dryMessage(body: unknown, runId = createRunId(), secret = SECRET) {
  return wrapBody({ id: runId, token: createToken({ runId, secret }) }, body)
}

describe('a handler', () => {
  it('runs live for live jobs, whatever context work() was called in', async () => {
    const runs: unknown[] = []
    await harness.dry(() =>
      boss.work(queue, { pollingIntervalSeconds: 0.5 }, async ([job]) => {
        runs.push(currentRun())
        await boss.createQueue(`${queue}-made-by-${(job as Job<{ by: string }>).data.by}`)
      }),
    )
    await boss.send(queue, { by: 'live' })
    await settled(1)
    expect(runs).toEqual([undefined])
    expect(await boss.getQueue(`${queue}-made-by-live`)).not.toBeNull()
  })

  it('is live for a live job even when its loop is not', async () => {
    const runs: unknown[] = []
    const handler = consume({
      boss: boss as unknown as Boss,
      queue,
      options: {},
      handler: () => runs.push(currentRun()),
      originals: {},
      guard: harness.guard,
    })
    await harness.dry(async () => handler([{ id: '1', name: queue, data: { a: 1 } }]))
    expect(runs).toEqual([undefined])
  })

  it('runs a dry job in its run, without the envelope, and its writes are blocked', async () => {
    const seen: { data: unknown; runId: string | undefined }[] = []
    await boss.work(queue, { pollingIntervalSeconds: 0.5 }, async ([job]) => {
      seen.push({ data: job?.data, runId: currentRun()?.id })
      await boss.createQueue(`${queue}-never`)
    })
    const runId = createRunId()
    await boss.send(queue, dryMessage({ order: 7 }, runId))
    await settled(1)
    await boss.send(queue, dryMessage([1, 2], runId))
    await settled(2)
    expect(seen).toEqual([
      { data: { order: 7 }, runId },
      { data: [1, 2], runId },
    ])
    expect(await boss.getQueue(`${queue}-never`)).toBeNull()
    expect(harness.effects(runId).map(({ outcome }) => outcome)).toEqual(['blocked', 'blocked'])
  })

  it.each([
    ['an envelope that cannot be read', { a: 1, __drytrace: 'yes' }, 'cannot be read'],
    ['an emptied envelope', { a: 1, __drytrace: null }, 'cannot be read'],
    ['no token', { a: 1, __drytrace: { v: 1, run: 'dr-1' } }, 'without a token'],
    ['a token of somebody else', dryMessage({ a: 1 }, 'dr-2', 'another secret'), 'not signed with our secret'],
    [
      'the token of another run',
      { __drytrace: { v: 1, run: 'dr-3', token: createToken({ runId: 'dr-4', secret: SECRET }) } },
      'is for run dr-4',
    ],
  ])('is not given a dry job with %s: the job is failed, and says why', async (_, message, why) => {
    let handled = 0
    await boss.work(queue, { pollingIntervalSeconds: 0.5 }, async () => {
      handled += 1
    })
    await boss.send(queue, message)
    const [job] = await settled(1)
    expect(job).toMatchObject({ state: 'failed', output: { message: expect.stringContaining(why) } })
    expect(handled).toBe(0)
  })

  it('splits a mixed batch: each job gets its own outcome, and live jobs that of their handler', async () => {
    const handled: string[] = []
    const dryFails = createRunId()
    for (const data of [
      { n: 'live-1' },
      dryMessage({ n: 'dry-ok' }),
      dryMessage({ n: 'dry-bad' }, dryFails),
      { n: 'refused', __drytrace: 'x' },
      { n: 'live-2' },
    ]) {
      await boss.send(queue, data)
    }
    await boss.work(queue, { batchSize: 5, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      const names = jobs.map(({ data }) => (data as { n: string }).n)
      handled.push(`${currentRun() === undefined ? 'live' : 'dry'}: ${names.sort().join(', ')}`)
      if (names.includes('dry-bad')) throw new Error('bad')
    })
    const states = (await settled(5)).map(({ data, state }) => [(data as { n: string }).n, state])
    // Live jobs first, in one call; the order of the runs is that of the batch, which Postgres chooses.
    expect(handled[0]).toBe('live: live-1, live-2')
    expect(handled.slice(1).sort()).toEqual(['dry: dry-bad', 'dry: dry-ok'])
    expect(states).toEqual([
      ['live-1', 'completed'],
      ['dry-ok', 'completed'],
      ['dry-bad', 'failed'],
      ['refused', 'failed'],
      ['live-2', 'completed'],
    ])
  })

  it('fails the live jobs of a mixed batch, and only those, when their handler throws', async () => {
    for (const data of [{ n: 'live' }, dryMessage({ n: 'dry' })]) await boss.send(queue, data)
    await boss.work(queue, { batchSize: 2, pollingIntervalSeconds: 0.5 }, async () => {
      if (currentRun() === undefined) throw new Error('live handler failed')
    })
    expect((await settled(2)).map(({ data, state }) => [(data as { n: string }).n, state])).toEqual([
      ['live', 'failed'],
      ['dry', 'completed'],
    ])
  })

  it('settles a mixed batch with perJobResults and in a transaction', async () => {
    for (const options of [{ perJobResults: true }, { transactional: true }]) {
      await boss.createQueue(`${queue}-t`, { retryLimit: 0 }).catch(() => {})
      for (const data of [{ n: 'live' }, dryMessage({ n: 'dry' }), { n: 'refused', __drytrace: 1 }]) {
        await boss.send(queue, data)
      }
      await boss.work(
        queue,
        { batchSize: 3, pollingIntervalSeconds: 0.5, ...options } as never,
        (async (jobs: { id: string }[]) => jobs.map(({ id }) => ({ id, status: 'completed' }))) as never,
      )
      expect((await settled(3)).map(({ data, state }) => [(data as { n: string }).n, state])).toEqual([
        ['live', 'completed'],
        ['dry', 'completed'],
        ['refused', 'failed'],
      ])
      await boss.offWork(queue)
      await boss.deleteAllJobs(queue)
    }
  })
})

it('a live fetch() hands out no dry job: it is failed', async () => {
  await boss.send(queue, { n: 'live' })
  await boss.send(queue, dryMessage({ n: 'dry' }))
  const jobs = await boss.fetch(queue, { batchSize: 5 })
  expect(jobs.map(({ data }) => data)).toEqual([{ n: 'live' }])
  expect((await server.jobs(queue)).map(({ state }) => state)).toEqual(['active', 'failed'])
})

describe('inside a dry request of a live process', () => {
  it('offWork() and stop() leave the workers of live traffic alone', async () => {
    await boss.work(queue, { pollingIntervalSeconds: 0.5 }, async () => {})
    await harness.dry(async (run) => {
      await boss.offWork(queue)
      await boss.stop()
      expect(harness.effects(run.id).map(({ summary, outcome }) => [summary, outcome])).toEqual([
        [`offWork ${queue}`, 'blocked'],
        ['stop pg-boss', 'blocked'],
      ])
    })
    await boss.send(queue, {})
    expect(await settled(1)).toMatchObject([{ state: 'completed' }])
  })

  it('start() installs no schema, and says so', async () => {
    const client = new pg.Client({ connectionString: server.url })
    await client.connect()
    const fresh = new PgBoss({ connectionString: server.url, schema: 'elsewhere', supervise: false, schedule: false })
    await harness.dry(async (run) => {
      await expect(fresh.start()).rejects.toMatchObject({
        code: 'DRY_BLOCKED',
        message: expect.stringContaining('not installed'),
      })
      expect(harness.effects(run.id)).toMatchObject([{ action: 'ddl', outcome: 'blocked' }])
    })
    const { rows } = await client.query(`select 1 from information_schema.schemata where schema_name = 'elsewhere'`)
    expect(rows).toEqual([])
    await client.end()
    await fresh.start()
    await fresh.stop({ graceful: false })
  })

  it('a boss made there serves live traffic afterwards, and can be stopped by the run that made it', async () => {
    const lazy = new PgBoss({ connectionString: server.url, supervise: false, schedule: false })
    let handled: unknown = 'no'
    await harness.dry(async () => {
      await lazy.start()
      await lazy.work(queue, { pollingIntervalSeconds: 0.5 }, async () => {
        handled = currentRun()
      })
      expect(await lazy.send(queue, {})).toMatch(/^d27ace/)
    })
    await lazy.send(queue, {})
    await settled(1)
    expect(handled).toBeUndefined()
    await lazy.stop({ graceful: false })

    const own = new PgBoss({ connectionString: server.url, supervise: false, schedule: false })
    await harness.dry(async () => {
      await own.start()
      await own.stop({ graceful: false })
    })
    await expect(own.getQueues()).rejects.toThrow()
  })
})
