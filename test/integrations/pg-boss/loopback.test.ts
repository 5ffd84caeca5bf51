import type { Job, PgBoss } from 'pg-boss'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { currentRun } from '../../../src/run/store.js'
import { type Guarded, guarded } from '../nodemailer/guarded.js'
import { type BossServer, patchPgBoss, startBossServer } from './boss-server.js'

let harness: Guarded
let server: BossServer
let boss: PgBoss

const LOOPBACK = `
version: 1
rules:
  - {name: follow, match: {system: pg-boss, destination: 'loop-*'}, verdict: loopback}
`

beforeAll(async () => {
  harness = guarded()
  await patchPgBoss(harness.guard)
  server = await startBossServer()
  boss = await server.boss()
  harness.policy(LOOPBACK)
})

afterAll(async () => {
  await server?.close()
  await harness.close()
})

let queue = ''
let count = 0

beforeEach(async () => {
  count += 1
  queue = `loop-${count}`
  await boss.createQueue(queue, { expireInSeconds: 30 })
})

async function until(condition: () => boolean): Promise<void> {
  for (let round = 0; round < 500 && !condition(); round += 1) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(condition()).toBe(true)
}

describe('verdict: loopback', () => {
  it('runs the handler of this process inside the run, with a job like a fetched one, and stores nothing', async () => {
    const seen: { job: Job<unknown>; runId: string | undefined }[] = []
    await boss.work(queue, { pollingIntervalSeconds: 1 }, async ([job]) => {
      if (job !== undefined) seen.push({ job, runId: currentRun()?.id })
    })
    const liveId = await boss.send(queue, { live: true, at: new Date(0) }, { priority: 2 })
    await until(() => seen.length === 1)
    const before = await server.tables()

    const run = await harness.dry(async (run) => {
      const id = await boss.sendAfter(queue, { live: false, at: new Date(0) }, { priority: 2 }, 3_600)
      // The sender has its answer before the handler runs.
      expect(seen).toHaveLength(1)
      await until(() => seen.length === 2)
      expect(seen[1]?.job.id).toBe(id)
      return run
    })
    const [live, dry] = seen
    expect(live).toMatchObject({ job: { id: liveId }, runId: undefined })
    expect(dry?.runId).toBe(run.id)
    expect(Object.keys(dry?.job ?? {})).toEqual(Object.keys(live?.job ?? {}))
    const { id: _, data: __, signal: ___, ...liveRest } = (live as { job: Job<unknown> }).job
    expect(dry?.job).toMatchObject({ ...liveRest, data: { live: false, at: '1970-01-01T00:00:00.000Z' } })
    expect(dry?.job.signal).toBeInstanceOf(AbortSignal)
    expect(harness.effects(run.id)).toMatchObject([{ outcome: 'forwarded', rule: 'follow' }])
    expect(await server.tables()).toBe(before)
    await boss.offWork(queue)
  })

  it('gives a handler with includeMetadata the keys a live job has', async () => {
    const seen: object[] = []
    await boss.work(queue, { pollingIntervalSeconds: 1, includeMetadata: true }, async ([job]) => {
      if (job !== undefined) seen.push(job)
    })
    await boss.send(queue, {})
    await until(() => seen.length === 1)
    await harness.dry(async () => {
      await boss.send(queue, {})
      await until(() => seen.length === 2)
    })
    const [live, dry] = seen as Record<string, unknown>[]
    expect(Object.keys(dry ?? {}).sort()).toEqual(Object.keys(live ?? {}).sort())
    for (const key of [
      'state',
      'policy',
      'priority',
      'retryLimit',
      'retryDelay',
      'retryBackoff',
      'expireInSeconds',
      'deleteAfterSeconds',
      'deadLetter',
      'output',
    ]) {
      expect([key, dry?.[key]]).toEqual([key, live?.[key]])
    }
    await boss.offWork(queue)
  })

  it('keeps the run open until the handler is done, and hands inserts over in batches', async () => {
    const sizes: number[] = []
    await boss.work(queue, { batchSize: 3 }, async (jobs) => {
      sizes.push(jobs.length)
      await new Promise((resolve) => setTimeout(resolve, 50))
    })
    const run = await harness.dry(async (run) => {
      await boss.insert(
        queue,
        Array.from({ length: 7 }, (_, n) => ({ data: { n } })),
      )
      return run
    })
    expect(run.endedAt).toBeUndefined()
    await until(() => run.endedAt !== undefined)
    expect(sizes).toEqual([3, 3, 1])
    await boss.offWork(queue)
  })

  it('reports the errors of a handler and does not throw them at the sender', async () => {
    await boss.work(queue, async () => {
      throw new Error('boom in handler')
    })
    const run = await harness.dry(async (run) => {
      await boss.send(queue, {})
      return run
    })
    await until(() => run.endedAt !== undefined)
    expect(harness.problems().filter(({ runId }) => runId === run.id)).toMatchObject([
      { kind: 'run_error', message: expect.stringContaining('boom in handler') },
    ])
    await boss.offWork(queue)
  })

  it('stops after 100 deliveries when a handler enqueues its own kind', async () => {
    let handled = 0
    await boss.work(queue, async ([job]) => {
      handled += 1
      await boss.send(job?.name as string, { again: true })
    })
    const run = await harness.dry(async (run) => {
      await boss.send(queue, {})
      return run
    })
    await until(() => run.endedAt !== undefined)
    expect(handled).toBe(100)
    expect(harness.effects(run.id).map(({ outcome }) => outcome)).toEqual([...Array(100).fill('forwarded'), 'blocked'])
    expect(harness.problems().filter(({ runId }) => runId === run.id)).toMatchObject([
      { kind: 'run_error', message: expect.stringContaining('more than 100') },
    ])
    await boss.offWork(queue)
  })

  it('says so, and blocks, where there is no handler or no loopback', async () => {
    const run = await harness.dry(async (run) => {
      await boss.send(queue, {})
      await boss.cancel(queue, '0f0f0f0f-0000-4000-8000-000000000001')
      return run
    })
    const [sent, cancelled] = harness.effects(run.id)
    expect(sent).toMatchObject({ outcome: 'blocked', note: expect.stringContaining('no handler') })
    expect(cancelled).toMatchObject({ outcome: 'blocked', note: expect.stringContaining('cannot be looped back') })
  })

  it('finds the handler of another boss on the same queues', async () => {
    const worker = await server.boss()
    let handled = 0
    await worker.work(queue, async () => {
      handled += 1
    })
    await harness.dry(async () => {
      await boss.send(queue, {})
      await until(() => handled === 1)
    })
    await worker.offWork(queue)
  })
})
