import { type BlockedCall, fieldsOf, json, list, type ResponsePack, xml } from '../response-pack.js'

/** Addresses as mail APIs take them: `Ada <a@x>, b@x`, `{email}`, or lists of those. */
function addresses(value: unknown): string[] {
  return list(value).flatMap((item) => {
    if (typeof item === 'string') return splitAddresses(item)
    const { email, Email, address, EmailAddress } = item as Record<string, unknown>
    return [email, Email, address, EmailAddress].filter((found) => typeof found === 'string')
  })
}

/** Commas inside quotes and angle brackets do not separate. */
function splitAddresses(text: string): string[] {
  return [...text.matchAll(/(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<])+/g)].flatMap(([part]) => {
    const address = (/<([^>]+)>/.exec(part)?.[1] ?? part).trim()
    return address === '' ? [] : [address]
  })
}

const named = (call: BlockedCall, ...names: string[]) => {
  const fields = fieldsOf(call)
  return names.flatMap((name) => addresses(fields[name]))
}
const text = (value: unknown) => (value === undefined || value === null ? undefined : String(value))
const items = ({ body }: BlockedCall) => list(body.json()) as Record<string, unknown>[]
const now = () => Math.floor(Date.now() / 1000)

const slack: ResponsePack = {
  id: 'answer.slack',
  matches: ({ host, path }) => /(^|\.)slack\.com$/.test(host) && path.startsWith('/api/'),
  respond(call) {
    const { channel, text: message } = fieldsOf(call)
    const ts = `${now()}.000000`
    return json({ ok: true, channel: channel ?? 'C0DRYRUN', ts, message: { type: 'message', text: message, ts } })
  },
  recipients: (call) => list(text(fieldsOf(call)['channel'])) as string[],
}

const slackWebhook: ResponsePack = {
  id: 'answer.slack-webhook',
  matches: ({ host }) => host === 'hooks.slack.com',
  respond: () => ({ status: 200, headers: { 'content-type': 'text/html' }, body: 'ok' }),
  recipients: ({ path }) => [`slack webhook ${path.split('/').slice(2, 4).join('/')}`],
}

const telegram: ResponsePack = {
  id: 'answer.telegram',
  matches: ({ host }) => host === 'api.telegram.org',
  respond(call, ids) {
    const fields = { ...Object.fromEntries(call.query), ...fieldsOf(call) }
    if (!/\/(send|edit|forward|copy)\w*$/i.test(call.path)) return json({ ok: true, result: true })
    const chat = { id: Number(fields['chat_id']) || text(fields['chat_id']), type: 'private' }
    return json({
      ok: true,
      result: { message_id: Number(ids.integer()), date: now(), chat, text: fields['text'] },
    })
  },
  recipients: (call) => list(text(fieldsOf(call)['chat_id'] ?? call.query.get('chat_id'))) as string[],
}

const discord: ResponsePack = {
  id: 'answer.discord',
  matches: ({ host, path }) => /(^|\.)discord(app)?\.com$/.test(host) && /\/(webhooks|channels)\/[^/]+\//.test(path),
  respond(call, ids) {
    const webhook = call.path.includes('/webhooks/')
    if (webhook && call.query.get('wait') !== 'true') return { status: 204 }
    return json({ id: ids.integer(), type: 0, content: fieldsOf(call)['content'] })
  },
  recipients: ({ path }) => [`discord ${/\/(webhooks|channels)\/[^/]+/.exec(path)?.[0].slice(1) ?? ''}`],
}

const sendgrid: ResponsePack = {
  id: 'answer.sendgrid',
  matches: ({ host, path }) => /^api(\.eu)?\.sendgrid\.com$/.test(host) && path === '/v3/mail/send',
  respond: (_, ids) => ({ status: 202, headers: { 'x-message-id': ids.string() } }),
  recipients: (call) =>
    (list(fieldsOf(call)['personalizations']) as Record<string, unknown>[]).flatMap(({ to, cc, bcc }) =>
      [to, cc, bcc].flatMap(addresses),
    ),
}

const postmark: ResponsePack = {
  id: 'answer.postmark',
  matches: ({ host, path }) => host === 'api.postmarkapp.com' && path.startsWith('/email'),
  respond(call, ids) {
    const one = (message: Record<string, unknown>) => ({
      To: message['To'],
      SubmittedAt: new Date().toISOString(),
      MessageID: ids.uuid(),
      ErrorCode: 0,
      Message: 'OK',
    })
    return json(/batch/i.test(call.path) ? postmarkBatch(call).map(one) : one(fieldsOf(call)))
  },
  recipients: (call) =>
    (/batch/i.test(call.path) ? postmarkBatch(call) : [fieldsOf(call)]).flatMap(({ To, Cc, Bcc }) =>
      [To, Cc, Bcc].flatMap(addresses),
    ),
}

function postmarkBatch(call: BlockedCall): Record<string, unknown>[] {
  return list(fieldsOf(call)['Messages'] ?? call.body.json()) as Record<string, unknown>[]
}

const resend: ResponsePack = {
  id: 'answer.resend',
  matches: ({ host, path }) => host === 'api.resend.com' && path.startsWith('/emails'),
  respond: (call, ids) =>
    json(call.path.endsWith('/batch') ? { data: items(call).map(() => ({ id: ids.uuid() })) } : { id: ids.uuid() }),
  recipients: (call) => items(call).flatMap(({ to, cc, bcc }) => [to, cc, bcc].flatMap(addresses)),
}

const mailgun: ResponsePack = {
  id: 'answer.mailgun',
  matches: ({ host, path }) => /^api(\.eu)?\.mailgun\.net$/.test(host) && /\/messages(\.mime)?$/.test(path),
  respond: ({ path }, ids) =>
    json({ id: `<${ids.string()}@${path.split('/')[2] ?? 'dry-run.invalid'}>`, message: 'Queued. Thank you.' }),
  recipients: (call) => named(call, 'to', 'cc', 'bcc'),
}

const ses: ResponsePack = {
  id: 'answer.ses',
  matches: ({ host, path }) =>
    /^email(-fips)?\.[\w-]+\.amazonaws\.com$/.test(host) && path.startsWith('/v2/email/outbound'),
  respond: (call, ids) =>
    json(
      call.path.endsWith('bulk-emails')
        ? {
            BulkEmailEntryResults: list(fieldsOf(call)['BulkEmailEntries']).map(() => ({
              Status: 'SUCCESS',
              MessageId: ids.uuid(),
            })),
          }
        : { MessageId: ids.uuid() },
    ),
  recipients(call) {
    const { Destination, BulkEmailEntries } = fieldsOf(call)
    const entries = list(BulkEmailEntries) as { Destination?: unknown }[]
    return [Destination, ...entries.map((entry) => entry.Destination)].flatMap((destination) => {
      const { ToAddresses, CcAddresses, BccAddresses } = (destination ?? {}) as Record<string, unknown>
      return [ToAddresses, CcAddresses, BccAddresses].flatMap(addresses)
    })
  },
}

const twilio: ResponsePack = {
  id: 'answer.twilio',
  matches: ({ host, path }) => /^api(\.[\w-]+)*\.twilio\.com$/.test(host) && path.startsWith('/2010-04-01/Accounts/'),
  respond(call, ids) {
    const { To, From, Body } = fieldsOf(call)
    const date = new Date().toUTCString()
    return json(
      {
        sid: ids.string(),
        account_sid: call.path.split('/')[3],
        to: To,
        from: From ?? null,
        body: Body,
        status: 'queued',
        direction: 'outbound-api',
        num_segments: '1',
        num_media: '0',
        error_code: null,
        error_message: null,
        date_created: date,
        date_updated: date,
        date_sent: null,
        price: null,
        price_unit: 'USD',
        api_version: '2010-04-01',
        uri: call.path,
        subresource_uris: {},
      },
      201,
    )
  },
  recipients: (call) => list(text(fieldsOf(call)['To'])) as string[],
}

const fcm: ResponsePack = {
  id: 'answer.fcm',
  matches: ({ host, path }) => host === 'fcm.googleapis.com' && path.endsWith('/messages:send'),
  respond: ({ path }, ids) => json({ name: `${path.slice('/v1/'.length).replace(':send', '/')}${ids.string()}` }),
  recipients: (call) => {
    const { token, topic, condition } = (fieldsOf(call)['message'] ?? {}) as Record<string, unknown>
    return list(text(token ?? topic ?? condition)) as string[]
  },
}

const expo: ResponsePack = {
  id: 'answer.expo-push',
  matches: ({ host, path }) => host === 'exp.host' && path.endsWith('/push/send'),
  respond: (call, ids) =>
    json({ data: items(call).flatMap(({ to }) => list(to).map(() => ({ status: 'ok', id: ids.uuid() }))) }),
  recipients: (call) => items(call).flatMap(({ to }) => list(to).map(String)),
}

const vonage: ResponsePack = {
  id: 'answer.vonage',
  matches: ({ host, path }) => host === 'rest.nexmo.com' && /^\/sms\/(json|xml)$/.test(path),
  respond(call, ids) {
    const id = ids.string()
    return call.path.endsWith('xml')
      ? xml(
          `<mt-submission-response><messages count="1"><message><messageId>${id}</messageId><status>0</status></message></messages></mt-submission-response>`,
        )
      : json({ 'message-count': '1', messages: [{ to: fieldsOf(call)['to'], 'message-id': id, status: '0' }] })
  },
  recipients: (call) => list(text(fieldsOf(call)['to'])) as string[],
}

export const messageAnswers: readonly ResponsePack[] = [
  slack,
  slackWebhook,
  telegram,
  discord,
  sendgrid,
  postmark,
  resend,
  mailgun,
  ses,
  twilio,
  fcm,
  expo,
  vonage,
]
