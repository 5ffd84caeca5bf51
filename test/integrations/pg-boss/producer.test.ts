import { PgBoss } from 'pg-boss'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { READING_METHODS } from '../../../src/integrations/pg-boss/method-lists.js'
import { type Guarded, guarded } from '../nodemailer/guarded.js'
import { type BossServer, patchPgBoss, startBossServer } from './boss-server.js'

let harness: Guarded
let server: BossServer
let boss: PgBoss

const ALLOW_QUEUE = `
version: 1
rules:
  - {name: open, match: {system: pg-boss, destination: open}, verdict: allow, owner: qa, reason: test, expires: 2999-01-01}
`

beforeAll(async () => {
  harness = guarded()
  // Before the patch: a method added later, which the integration has never heard of.
  Object.defineProperty(PgBoss.prototype, 'teleport', {
    configurable: true,
    writable: true,
    value(this: PgBoss, name: string) {
      return this.deleteAllJobs(name)
    },
  })
  await patchPgBoss(harness.guard)
  server = await startBossServer()
  boss = await server.boss()
  for (const queue of ['mail', 'dead', 'open']) await boss.createQueue(queue)
  await boss.schedule('mail', '0 3 * * *', { nightly: true })
  await boss.subscribe('order-placed', 'mail')
})

afterAll(async () => {
  await server?.close()
  await harness.close()
})

afterEach(() => harness.policy())

/** Each writing form, on a queue that has one job waiting and one active. */
function writes(
  ids: { waiting: string; active: string },
  queue: string,
): Record<string, (b: PgBoss) => Promise<unknown>> {
  return {
    send: (b) => b.send(queue, { to: 'a' }),
    'send(request)': (b) => b.send({ name: queue, data: { to: 'a' } }),
    sendAfter: (b) => b.sendAfter(queue, { to: 'a' }, null, 60),
    sendThrottled: (b) => b.sendThrottled(queue, { to: 'a' }, null, 60, 'k'),
    sendDebounced: (b) => b.sendDebounced(queue, { to: 'a' }, null, 60, 'd'),
    insert: (b) => b.insert(queue, [{ data: { n: 1 } }, { data: { n: 2 } }]),
    'insert returning ids': (b) => b.insert(queue, [{ data: { n: 1 } }, { data: { n: 2 } }], { returnId: true }),
    update: (b) => b.update(queue, { to: 'b' }, { id: ids.waiting }),
    'upsert of a job that exists': (b) => b.upsert(queue, { to: 'b' }, { id: ids.waiting }),
    'upsert of a new job': (b) => b.upsert(queue, { to: 'b' }, { singletonKey: `new-${queue}` }),
    flow: (b) =>
      b.flow([
        { ref: 'first', name: queue, data: {} },
        { ref: 'then', name: queue, data: {}, dependsOn: ['first'] },
      ]),
    publish: (b) => b.publish('order-placed', { id: 1 }),
    subscribe: (b) => b.subscribe('order-shipped', queue),
    unsubscribe: (b) => b.unsubscribe('order-placed', queue),
    schedule: (b) => b.schedule(queue, '0 4 * * *', { nightly: true }),
    unschedule: (b) => b.unschedule(queue),
    touch: (b) => b.touch(queue, ids.active),
    complete: (b) => b.complete(queue, ids.active, { done: true }),
    fail: (b) => b.fail(queue, ids.active, { no: true }),
    cancel: (b) => b.cancel(queue, [ids.waiting]),
    resume: (b) => b.resume(queue, ids.waiting),
    retry: (b) => b.retry(queue, ids.active),
    deleteJob: (b) => b.deleteJob(queue, ids.waiting),
    redrive: (b) => b.redrive(queue),
    createQueue: (b) => b.createQueue(`${queue}-new`, { retryLimit: 3 }),
    updateQueue: (b) => b.updateQueue(queue, { retryLimit: 4 }),
    supervise: (b) => b.supervise(queue),
    resolveFlow: (b) => b.resolveFlow(),
    deleteQueuedJobs: (b) => b.deleteQueuedJobs(queue),
    deleteStoredJobs: (b) => b.deleteStoredJobs(queue),
    deleteAllJobs: (b) => b.deleteAllJobs(queue),
    deleteQueue: (b) => b.deleteQueue(queue),
  }
}

async function twoJobs(queue: string): Promise<{ waiting: string; active: string }> {
  const active = (await boss.send(queue, { first: true })) as string
  await boss.fetch(queue)
  const waiting = (await boss.send(queue, { second: true })) as string
  return { waiting, active }
}

/** The shape of a value: types and keys, not contents. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shapeOf(item)]))
  }
  return value === null ? null : typeof value
}

describe('a writing call in a dry run', () => {
  it('changes no row, whichever method it is, and answers in the shape of the live call', async () => {
    const ids = await twoJobs('mail')
    const before = await server.tables()
    const answers = new Map<string, unknown>()
    for (const [name, call] of Object.entries(writes(ids, 'mail'))) {
      await harness.dry(async (run) => {
        answers.set(name, await call(boss))
        const [effect, ...more] = harness.effects(run.id)
        expect([name, more]).toEqual([name, []])
        expect(effect).toMatchObject({ system: 'pg-boss', effect: 'write', outcome: 'blocked', error: null })
      })
      expect([name, (await server.tables()) === before]).toEqual([name, true])
    }
    for (const [index, name] of [...answers.keys()].entries()) {
      const queue = `live-${index}`
      await boss.createQueue(queue)
      const call = writes(await twoJobs(queue), queue)[name] as (b: PgBoss) => Promise<unknown>
      expect([name, shapeOf(answers.get(name))]).toEqual([name, shapeOf(await call(boss))])
    }
  })

  it('covers every public method: each one is a known read, a known write, or blocked', async () => {
    const before = await server.tables()
    await harness.dry(async (run) => {
      const unknown = boss as unknown as { teleport(name: string): Promise<unknown> }
      await expect(unknown.teleport('mail')).rejects.toMatchObject({ code: 'DRY_BLOCKED' })
      expect(harness.effects(run.id)).toMatchObject([{ effect: 'unknown', outcome: 'blocked', target: 'mail' }])
    })
    expect(await server.tables()).toBe(before)
    const covered = new Set([...READING_METHODS, ...Object.keys(writes({ waiting: '', active: '' }, 'mail'))])
    const rest = ['constructor', 'teleport', 'upsert', 'fetch', 'start', 'stop', 'work', 'offWork']
    const missing = Object.getOwnPropertyNames(PgBoss.prototype).filter(
      (name) => !covered.has(name) && !rest.includes(name),
    )
    expect(missing).toEqual([])
  })

  it('never uses a db the caller gives', async () => {
    const used: string[] = []
    const db = {
      executeSql: async (text: string) => {
        used.push(text)
        return { rows: [] }
      },
    }
    await harness.dry(async () => {
      expect(await boss.send('mail', { to: 'a' }, { db })).toMatch(/^d27ace/)
      await boss.insert('mail', [{ data: {} }], { db })
    })
    expect(used).toEqual([])
  })

  it('keeps an id the caller chose, and makes up one nobody can take for real', async () => {
    const id = '0f0f0f0f-0000-4000-8000-000000000001'
    await harness.dry(async (run) => {
      expect(await boss.send('mail', {}, { id })).toBe(id)
      const made = await boss.send('mail', { secretToken: 'hush', to: 'bob' })
      expect(made).toMatch(/^d27ace[0-9a-f]{2}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/)
      const [, effect] = harness.effects(run.id)
      expect(effect).toMatchObject({
        action: 'enqueue',
        target: 'mail',
        summary: 'send to mail',
        syntheticIds: [made],
        payload: { excerpt: { data: { secretToken: '[redacted]', to: 'bob' } } },
      })
      // The made-up id turns up again: the report says so.
      await boss.cancel('mail', made as string)
      expect(harness.effects(run.id).at(-1)).toMatchObject({ syntheticUsed: true })
    })
  })

  it('says that a live call could have been throttled', async () => {
    await harness.dry(async (run) => {
      await boss.send('mail', {}, { singletonKey: 'once' })
      expect(harness.effects(run.id)[0]?.note).toContain('may return null')
    })
  })

  it('fails where the live call fails', async () => {
    const outcome = (call: () => Promise<unknown>) =>
      call().then(
        () => 'ok',
        (error: Error) => `${error.name}: ${error.message}`,
      )
    const circular: Record<string, unknown> = {}
    circular['self'] = circular
    const calls: (() => Promise<unknown>)[] = [
      () => boss.send('nowhere', {}),
      () => boss.insert('nowhere', [{ data: {} }]),
      () => boss.send('', {}),
      () => boss.send('mail', {}, { priority: 1.5 }),
      () => boss.send('mail', circular),
      () => boss.insert('mail', {} as never),
      () => boss.flow([{ ref: 'a', name: 'mail' }] as never),
      () => boss.complete('mail', '' as never),
      () => boss.update('mail', {}, {} as never),
      () => boss.schedule('mail', 'not a cron'),
      () => boss.schedule('nowhere', '* * * * *'),
      () => boss.createQueue('bad name!'),
      () => boss.createQueue('fine', { deadLetter: 'nowhere' }),
      () => boss.updateQueue('mail', {}),
    ]
    for (const call of calls) {
      const live = await outcome(call)
      expect(live).not.toBe('ok')
      expect(await harness.dry(() => outcome(call))).toBe(live)
    }
  })

  it('remembers the queues it would have created', async () => {
    await harness.dry(async () => {
      await boss.createQueue('fresh')
      expect(await boss.send('fresh', {})).toMatch(/^d27ace/)
    })
    await expect(boss.send('fresh', {})).rejects.toThrow('Queue fresh does not exist')
  })

  it('takes no live job by fetch()', async () => {
    const id = await boss.send('dead', { waiting: true })
    expect(await harness.dry(() => boss.fetch('dead'))).toEqual([])
    expect(await server.jobs('dead')).toMatchObject([{ id, state: 'created' }])
    expect(await boss.fetch('dead')).toMatchObject([{ id, data: { waiting: true } }])
  })

  it('lets reads pass', async () => {
    await harness.dry(async (run) => {
      expect(await boss.getQueue('mail')).toMatchObject({ name: 'mail' })
      expect(await boss.getSchedules('mail')).toHaveLength(1)
      expect(await boss.findJobs('mail')).not.toHaveLength(0)
      expect(harness.effects(run.id)).toEqual([])
    })
  })

  it('gives the caller an error, and no job, when the journal cannot be written', async () => {
    const before = await server.tables()
    await harness.dry(async () => {
      const repair = harness.breakJournal()
      await expect(boss.send('mail', {})).rejects.toThrow('disk full')
      repair()
    })
    expect(await server.tables()).toBe(before)
  })

  it('gives an error when the policy says onBlocked: throw', async () => {
    harness.policy('version: 1\nonBlocked: throw')
    await harness.dry(async () => {
      await expect(boss.send('mail', {})).rejects.toMatchObject({ code: 'DRY_BLOCKED' })
    })
  })
})

it('a rule that allows a queue lets its jobs, and no others, through', async () => {
  harness.policy(ALLOW_QUEUE)
  await harness.dry(async (run) => {
    const id = await boss.send('open', { real: true })
    expect(await boss.send('mail', { real: false })).toMatch(/^d27ace/)
    expect(await server.jobs('open')).toMatchObject([{ id, state: 'created', data: { real: true } }])
    expect(harness.effects(run.id).map(({ outcome }) => outcome)).toEqual(['allowed', 'blocked'])
  })
})

it('live and dry senders on one boss: no dry job is stored, no live one is lost', async () => {
  await boss.createQueue('busy')
  const live: number[] = []
  const sends: Promise<unknown>[] = []
  for (let n = 0; n < 120; n += 1) {
    const dry = n % 3 !== 0
    const send = (): Promise<unknown> =>
      n % 2 === 0 ? boss.send('busy', { n }) : boss.insert('busy', [{ data: { n } }])
    if (!dry) live.push(n)
    sends.push(dry ? harness.dry(send) : send())
    if (n % 10 === 0) await new Promise(setImmediate)
  }
  await Promise.all(sends)
  const stored = (await server.jobs('busy')).map(({ data }) => (data as { n: number }).n)
  expect(stored.sort((a, b) => a - b)).toEqual(live)
})
