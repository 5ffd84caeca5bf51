import type { EffectRecord, FieldChange, JournalEntry } from '../../src/journal/record.js'
import {
  effectEntry,
  endEntry,
  journalLines,
  type Moment,
  moment,
  problemEntry,
  processEntry,
  RUN_ID,
  readEntry,
  runEntry,
  TRACE_ID,
} from './journal-builder.js'

const change = (target: string, key: string | null, field: string, values: object): FieldChange => ({
  target,
  key,
  field,
  ...values,
})

const SECOND_TRACE = '0af7651916cd43dd8448eb211c80319c'

const LETTER =
  'Dear Ann, thank you for your patience. We have looked into the parcel that went missing between Rotterdam and Chicago, and '

/** A run of a support service as the guard records one: every kind of write, reads, a model call, and what went through by rule. */
export const sampleMoments: readonly Moment[] = [
  moment(0, processEntry()),
  moment(0, runEntry()),
  moment(4, readEntry()),
  moment(6, readEntry()),
  moment(9, readEntry({ target: 'public.tickets', summary: 'SELECT public.tickets' })),
  moment(480, {
    type: 'decision',
    runId: RUN_ID,
    traceId: TRACE_ID,
    spanId: '00000000000000aa',
    kind: 'llm',
    name: 'responses.create',
    model: 'gpt-5-mini',
    promptName: 'triage',
    promptVersion: 'v7',
  }),
  moment(500, readEntry({ system: 'http', target: 'crm.example/v1/contacts', summary: 'GET crm.example/v1/contacts' })),
  moment(
    512,
    effectEntry({
      preview: {
        method: 'select',
        rows: 1,
        diff: [
          change('public.customers', 'id=42', 'status', { before: 'open', after: 'closed' }),
          change('public.customers', 'id=42', 'note', {
            before: `${LETTER}we are still looking for it. We will write again by Friday at the latest.`,
            after: `${LETTER}we have found it. It will be with you on Thursday before noon, free of charge.`,
          }),
          change('public.customers', 'id=42', 'meta', {
            before: { tier: 'gold', flags: { vip: false, beta: true } },
            after: { tier: 'gold', flags: { vip: true, beta: true }, since: '2026-11-20' },
          }),
        ],
        notes: ['the trigger customers_audit on public.customers was not run'],
      },
    }),
  ),
  moment(
    530,
    effectEntry({
      action: 'create',
      target: 'public.ticket_notes',
      summary: 'INSERT INTO public.ticket_notes',
      preview: {
        method: 'synthesized',
        rows: 1,
        diff: [
          change('public.ticket_notes', null, 'ticket_id', { after: 7 }),
          change('public.ticket_notes', null, 'author', { after: 'assistant' }),
          change('public.ticket_notes', null, 'body', { after: `${LETTER}${LETTER}that is all.` }),
          change('public.ticket_notes', null, 'closed_at', { after: null }),
        ],
      },
    }),
  ),
  moment(
    544,
    effectEntry({
      action: 'delete',
      target: 'public.reminders',
      summary: 'DELETE public.reminders',
      preview: {
        method: 'select',
        rows: 24,
        diff: [
          change('public.reminders', 'id=1', 'due', { before: '2026-11-21' }),
          change('public.reminders', 'id=1', 'text', { before: 'call Ann' }),
          change('public.reminders', 'id=2', 'due', { before: '2026-11-22' }),
          change('public.reminders', 'id=2', 'text', { before: 'call Bob' }),
        ],
      },
    }),
  ),
  moment(
    601,
    effectEntry({
      system: 'http',
      action: 'create',
      target: 'crm.example/v1/contacts/{id}/activities',
      summary: 'POST crm.example/v1/contacts/{id}/activities',
      rule: 'crm-activity',
      reason: 'answered by the policy',
      payload: {
        digest: 'aa',
        size: 214,
        contentType: 'application/json',
        excerpt: { kind: 'note', subject: 'Parcel found', api_key: '[redacted]', tags: ['parcel', 'delay'] },
      },
    }),
  ),
  moment(
    640,
    effectEntry({
      system: 'smtp',
      action: 'send',
      target: 'mail.example:587',
      summary: 'send mail via mail.example:587 to 2 recipients',
      payload: {
        digest: 'bb',
        size: 2900,
        contentType: 'message/rfc822',
        excerpt: {
          text: `${LETTER}we have found it.`,
          subject: 'Your parcel [#7]',
          from: 's***@lumen.example',
          recipients: ['a***@example.com', 'b***@example.com'],
          attachments: [],
        },
      },
    }),
  ),
  ...[700, 701, 702].map((after) =>
    moment(
      after,
      effectEntry({
        system: 'pg-boss',
        action: 'enqueue',
        target: 'follow-ups',
        summary: 'enqueue follow-ups',
        payload: { digest: 'cc', size: 31, contentType: 'application/json', excerpt: { ticketId: 7, after: '2 days' } },
      }),
    ),
  ),
  moment(
    760,
    effectEntry({
      action: 'create',
      outcome: 'allowed',
      target: 'app.page_views',
      summary: 'INSERT INTO app.page_views',
      rule: 'metrics-table',
      reason: 'append-only counter (owner: growth)',
    }),
  ),
  moment(
    790,
    effectEntry({
      action: 'create',
      target: 'public.tickets',
      summary: 'INSERT INTO public.tickets',
      preview: { method: 'synthesized', rows: 1, diff: [change('public.tickets', null, 'number', { after: 'T-7' })] },
      note: 'would fail: 23505 duplicate key value violates unique constraint "tickets_number_key"',
    }),
  ),
  moment(
    820,
    problemEntry({
      kind: 'synthetic_used',
      message: 'UPDATE public.tickets uses an id made up for a simulated result: 900000000000001',
      spanId: '0000000000000099',
    }),
  ),
  moment(1240, endEntry()),
]

/** Two mails in one run, the second entered before the follow-up of the first, and answered with an error. */
export const batchMoments: readonly Moment[] = [
  moment(0, runEntry({ traceId: null })),
  moment(20, readEntry({ target: 'tickets', summary: 'SELECT tickets' })),
  moment(90, {
    type: 'decision',
    runId: RUN_ID,
    traceId: TRACE_ID,
    spanId: '00000000000000aa',
    kind: 'llm',
    name: 'responses.create',
    model: 'gpt-5-mini',
    promptName: 'triage',
    promptVersion: 'v7',
    output: { category: 'billing', urgency: 'high' },
  }),
  moment(110, ticket('2001000001', 'a few things')),
  ...[111, 112].flatMap((after) => using('2001000001', after, note('2001000001'))),
  ...using('2001000001', 130, {
    system: 'http',
    action: 'create',
    target: 'crm.example:8443/v1/contacts/ct_1001/activities',
    summary: 'POST crm.example:8443/v1/contacts/ct_1001/activities',
    rule: 'crm-activity',
  }),
  ...using('2001000001', 140, {
    system: 'pg-boss',
    action: 'enqueue',
    outcome: 'forwarded',
    target: 'follow-ups',
    summary: 'send to follow-ups',
    rule: 'follow-ups',
    reason: 'loopback by rule',
    syntheticIds: ['d27ace00-0000-4000-8000-000000000001'],
  }),
  moment(150, readEntry({ traceId: SECOND_TRACE, target: 'tickets', summary: 'SELECT tickets' })),
  ...using('2001000001', 160, { ...note('2001000001'), rule: 'notes', reason: 'kept by the desk (owner: support)' }),
  moment(170, ticket('2001000009', 'room booking', SECOND_TRACE)),
  ...using('2001000009', 180, { ...note('2001000009'), traceId: SECOND_TRACE }),
  moment(190, endEntry('POST /inbound-mail answered 500')),
]

function ticket(id: string, subject: string, traceId = TRACE_ID): JournalEntry {
  const diff = [
    change('tickets', `id=${id}`, 'id', { after: Number(id) }),
    change('tickets', `id=${id}`, 'subject', { after: subject }),
  ]
  const preview = { method: 'synthesized' as const, rows: 1, diff }
  return effectEntry({
    ...{ traceId, preview, action: 'create', target: 'tickets', summary: 'INSERT tickets', syntheticIds: [id] },
  })
}

function note(ticketId: string): Partial<EffectRecord> {
  const diff = [change('ticket_notes', null, 'ticket_id', { after: Number(ticketId) })]
  const preview = { method: 'synthesized' as const, rows: 1, diff }
  return { preview, action: 'create', target: 'ticket_notes', summary: 'INSERT ticket_notes' }
}

/** An effect that uses a made-up id, and the problem the guard records with it. */
function using(id: string, after: number, over: Partial<EffectRecord>): Moment[] {
  const spanId = `b${String(after).padStart(15, '0')}`
  const message = `${over.summary} uses an id made up for a simulated result: ${id}`
  return [
    moment(after, effectEntry({ ...over, spanId, syntheticUsed: true })),
    moment(after, problemEntry({ kind: 'synthetic_used', message, spanId })),
  ]
}

export const sampleLines = (): string[] => journalLines(sampleMoments)
