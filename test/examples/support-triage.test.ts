import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { compare } from '../../examples/support-triage/world/compare.mjs'
import { type InboundMail, loadMails, newDryRun } from '../../examples/support-triage/world/mails.mjs'
import { readReport } from '../../examples/support-triage/world/report.mjs'
import { type ServiceProcess, startService } from '../../examples/support-triage/world/service-process.mjs'
import { type Snapshot, startWorld, type World } from '../../examples/support-triage/world/world.mjs'

const REGISTER = new URL('../../dist/register.js', import.meta.url).href
const POLICY = fileURLToPath(new URL('../../examples/support-triage/drytrace.config.yaml', import.meta.url))

let world: World
let service: ServiceProcess | undefined
let journal: string

beforeEach(async () => {
  world = await startWorld()
  journal = await mkdtemp(join(tmpdir(), 'support-triage-test-'))
})

afterEach(async () => {
  await service?.stop()
  service = undefined
  await world?.stop()
  await rm(journal, { recursive: true, force: true })
})

async function startLive(): Promise<ServiceProcess> {
  service = await startService({ env: { ...world.env, FOLLOW_UP_SECONDS: '1' } })
  return service
}

async function startPreloaded(): Promise<ServiceProcess> {
  service = await startService({
    preload: REGISTER,
    env: { ...world.env, FOLLOW_UP_SECONDS: '1', DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: POLICY },
  })
  return service
}

async function mailNamed(name: string): Promise<InboundMail> {
  const found = (await loadMails()).find((candidate) => candidate.name === name)
  if (found === undefined) throw new Error(`no mail ${name}`)
  return found.mail
}

async function followedUp(ticketId: number): Promise<boolean> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const [ticket] = await world.rows<{ status: string }>('SELECT status FROM tickets WHERE id = $1', [ticketId])
    if (ticket?.status === 'escalated') return true
    await sleep(100)
  }
  return false
}

const linesThatChanged = (before: Snapshot, after: Snapshot) =>
  compare(before, after)
    .filter((line) => !line.unchanged)
    .map((line) => line.line)

const ALL_LINES = ['rows', 'sequences', 'WAL', 'tuple counters', 'inbox', 'CRM log']

describe('the support triage service, live', () => {
  it('opens a ticket: rows, CRM, mail and follow-up', async () => {
    const live = await startLive()
    const { status, body } = await live.post(await mailNamed('03-all-caps'))

    expect(status).toBe(200)
    expect(body).toMatchObject({ outcome: 'ticket_opened', category: 'technical', urgency: 'urgent', followUp: true })
    expect(await followedUp(body.ticketId)).toBe(true)

    const [customer] = await world.rows(
      `SELECT phone, open_tickets, last_contact_at FROM customers WHERE number = 'C-1003'`,
    )
    expect(customer).toMatchObject({ phone: '+1 312 555 0177', open_tickets: 1, last_contact_at: expect.any(Date) })
    const [ticket] = await world.rows('SELECT * FROM tickets WHERE id = $1', [body.ticketId])
    expect(ticket).toMatchObject({
      sentiment: 'angry',
      crm_activity_id: expect.stringMatching(/^act_/),
      replied_at: expect.any(Date),
    })
    const notes = await world.rows('SELECT author FROM ticket_notes WHERE ticket_id = $1 ORDER BY id', [body.ticketId])
    expect(notes.map((note) => note['author'])).toEqual(['customer', 'assistant', 'system'])

    expect(world.crm.writes().map((entry) => `${entry.method} ${entry.path}`)).toEqual([
      'PATCH /v1/contacts/ct_1003',
      'POST /v1/contacts/ct_1003/activities',
    ])
    expect(world.inbox.messages).toHaveLength(1)
    expect(world.inbox.messages[0]).toMatchObject({
      to: ['ops@lumenfreight.example'],
      subject: expect.stringContaining(`[#${body.ticketId}]`),
    })
    expect(world.model.requests).toHaveLength(1)
  })

  it('appends a second mail about the same subject to the open ticket, with no second reply', async () => {
    const live = await startLive()
    const first = await live.post(await mailNamed('03-all-caps'))
    const again = await live.post(await mailNamed('09-duplicate'))

    expect(again.body).toEqual({ outcome: 'appended', ticketId: first.body.ticketId })
    const [tickets] = await world.rows(
      `SELECT count(*)::int AS count FROM tickets WHERE sender = 'ops@lumenfreight.example'`,
    )
    expect(tickets).toEqual({ count: 1 })
    expect(world.inbox.messages).toHaveLength(1)
  })

  it('survives every ugly mail', async () => {
    const live = await startLive()
    const mails = await loadMails()
    expect(mails.length).toBeGreaterThanOrEqual(12)
    const outcomes: Record<string, string> = {}
    for (const { name, mail } of mails) {
      const { status, body } = await live.post(mail)
      expect({ name, status }).toEqual({ name, status: 200 })
      outcomes[name] = body.outcome
    }
    expect(outcomes).toMatchObject({
      '06-no-sender': 'needs_human',
      '14-reply-to-open-ticket': 'appended',
      '15-redelivered': 'appended',
      '16-unknown-sender': 'ticket_opened',
    })
    // The gullible model wanted no such thing as deleting customers to happen; nine is the seed and the unknown sender.
    expect(await world.rows('SELECT count(*)::int AS count FROM customers')).toEqual([{ count: 9 }])
  })
})

describe('the proof that the world is unchanged', () => {
  it('sees no change while the service idles, and a change in every line after one live mail', async () => {
    const start = await world.snapshot()
    const live = await startLive()
    await sleep(2_000)
    const idle = await world.snapshot()
    expect(linesThatChanged(start, idle)).toEqual([])
    expect(await world.walRecords(start.wal.lsn, idle.wal.lsn)).toEqual([])

    await live.post(await mailNamed('03-all-caps'))
    const written = await world.snapshot()
    expect(linesThatChanged(idle, written)).toEqual(ALL_LINES)
    expect(await world.walRecords(idle.wal.lsn, written.wal.lsn)).toContainEqual(
      expect.objectContaining({ manager: 'Heap', type: 'INSERT' }),
    )
  })

  it('sees a write that was rolled back', async () => {
    const start = await world.snapshot()
    await world.rows('BEGIN')
    await world.rows(`INSERT INTO customers (email, name) VALUES ('gone@nowhere.example', 'Gone')`)
    await world.rows('ROLLBACK')
    expect(linesThatChanged(start, await world.snapshot())).toEqual(['sequences', 'WAL', 'tuple counters'])
  })
})

describe('the support triage service, dry', () => {
  it('handles every mail and leaves the world as it was; the next live mail writes', async () => {
    const start = await world.snapshot()
    const preloaded = await startPreloaded()
    const run = newDryRun()
    for (const { name, mail } of await loadMails()) {
      const { status, body } = await preloaded.post(mail, run.headers())
      expect({ name, status, body }).toMatchObject({ name, status: 200 })
    }

    const afterDry = await world.snapshot()
    expect(compare(start, afterDry).flatMap((line) => line.changes)).toEqual([])
    expect(await world.walRecords(start.wal.lsn, afterDry.wal.lsn)).toEqual([])

    const report = await readReport(run.runId, journal)
    expect(report.schema).toBe('drytrace.report/1')
    expect(report.run).toMatchObject({ id: run.runId, verdict: 'clean' })
    expect(report.totals).toMatchObject({ allowedWrites: 0, unblocked: 0, failed: 0 })
    const blocked = report.effects.filter((effect) => effect.outcome === 'blocked')
    expect(blocked).toHaveLength(report.totals.blocked)
    expect(new Set(blocked.map((effect) => effect.system))).toEqual(new Set(['postgresql', 'http', 'smtp']))
    // A reply for every mail that has a sender and opens a ticket.
    expect(blocked.filter((effect) => effect.system === 'smtp').length).toBeGreaterThanOrEqual(12)
    // The handler of the follow-up ran inside the run: its note is among the blocked writes.
    expect(report.totals.forwarded).toBeGreaterThan(0)
    const phones = blocked.flatMap((effect) => effect.preview.diff.filter((change) => change.field === 'phone'))
    expect(phones).toContainEqual(expect.objectContaining({ before: '+1 312 555 0142', after: '+1 312 555 0177' }))

    const live = await preloaded.post(await mailNamed('03-all-caps'))
    expect(live.body).toMatchObject({ outcome: 'ticket_opened', ticketId: 2 })
    expect(await followedUp(live.body.ticketId)).toBe(true)
    expect(linesThatChanged(afterDry, await world.snapshot())).toEqual(ALL_LINES)
  })

  it('keeps dry and live apart when they share a pool, a mail transport and a worker', async () => {
    const preloaded = await startPreloaded()
    const run = newDryRun()
    const senders = ['mira.holm@brightpath.example', 'ops@lumenfreight.example', 'yuki.tanaka@hoshino.example']
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, index) => {
        const kind = index % 2 === 0 ? 'dry' : 'live'
        const mail = {
          messageId: `<${kind}-${index}@mixed.example>`,
          from: senders[index % senders.length],
          subject: `${kind} ${index}`,
          text: 'Production is down.',
        }
        return preloaded.post(mail, kind === 'dry' ? run.headers() : {})
      }),
    )
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    for (const [index, { body }] of answers.entries()) {
      if (index % 2 === 1) expect(await followedUp(body.ticketId)).toBe(true)
    }

    const tickets = await world.rows<{ id: number; message_id: string; customer_id: number }>(
      `SELECT id, message_id, customer_id FROM tickets WHERE message_id LIKE '%@mixed.example>' ORDER BY id`,
    )
    expect(tickets.map((ticket) => ticket.message_id).sort()).toEqual(
      answers.flatMap((_, index) => (index % 2 === 1 ? [`<live-${index}@mixed.example>`] : [])).sort(),
    )
    // No gap: no dry insert drew an id either.
    expect(tickets.map((ticket) => ticket.id)).toEqual(tickets.map((_, index) => index + 2))
    const [customers] = await world.rows('SELECT sum(open_tickets)::int AS open FROM customers')
    expect(customers).toEqual({ open: 1 + 12 })
    expect(
      world.inbox.messages.map((message) => message.subject).filter((subject) => !/^Re: live/.test(subject)),
    ).toEqual([])
    expect(world.inbox.messages).toHaveLength(12)
    expect(world.crm.writes()).toHaveLength(12)

    const report = await readReport(run.runId, journal)
    expect(report.run.verdict).toBe('clean')
    expect(report.effects.filter((effect) => effect.system === 'smtp')).toHaveLength(12)
  })
})
