import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { type HttpWorld, startHttpWorld } from '../../support/http-world.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

async function dry<T>(policy: string, body: string) {
  const directory = scratchTree({ 'policy.yaml': policy })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    env: { ...world.env, DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    source: `import { dryRun } from ${JSON.stringify(INDEX_URL)}
      import http from 'node:http'
      import undici from 'undici'
      const url = process.env.URL
      const out = await dryRun({ id: 'refused' }, async () => { ${body} })
      console.log('OUT ' + JSON.stringify(out ?? null))`,
  })
  return { out: outputOf<T>(finished), effects: readEffects(journal) }
}

it('onBlocked: throw is a final answer, 451, and not a socket error', async () => {
  const before = world.connections()
  const { out, effects } = await dry<{ status: number; body: unknown }[]>(
    'version: 1\nonBlocked: throw\n',
    `const byHttp = new Promise((resolve, reject) => http.request(url + '/v1/a', { method: 'POST' }, async (response) => {
        let text = ''
        for await (const chunk of response) text += chunk
        resolve({ status: response.statusCode, mark: response.headers['x-dry-run'], body: JSON.parse(text) })
      }).on('error', reject).end('x'))
      const byFetch = fetch(url + '/v1/a', { method: 'DELETE' }).then(async (response) => ({ status: response.status, mark: response.headers.get('x-dry-run'), body: await response.json() }))
      const retry = new undici.RetryAgent(new undici.Agent())
      const byRetry = retry.request({ origin: url, method: 'PUT', path: '/v1/a', body: 'x' }).then(async ({ statusCode, headers, body }) => ({ status: statusCode, mark: headers['x-dry-run'], body: await body.json() }))
      return await Promise.all([byHttp, byFetch, byRetry])`,
  )
  const target = `${new URL(world.url).host}/v1/a`
  for (const answer of out) {
    expect(answer).toMatchObject({
      status: 451,
      mark: 'blocked',
      body: { error: { code: 'DRY_BLOCKED', rule: 'default.write', target } },
    })
  }
  expect(effects.map(({ outcome, error }) => `${outcome} ${error?.code}`)).toEqual(Array(3).fill('blocked DRY_BLOCKED'))
  expect([world.log, world.connections()]).toEqual([[], before])
})

it('reads that may write are told apart: certain ones are blocked, the others pass with a note', async () => {
  const { out, effects } = await dry<number[]>(
    `version: 1\ndisable: [suspicious.logout]\n`,
    `const statuses = []
      for (const path of ['/unsubscribe?u=1', '/orders/7/cancel', '/x?Action=SendMessage', '/logout', '/orders', '/x?Action=ListQueues'])
        statuses.push((await fetch(url + path)).status)
      for (const target of ['https://api.telegram.org/bot1:secret/sendMessage?chat_id=42&text=hi', 'https://sqs.eu-west-1.amazonaws.com/1/q?Action=SendMessage&MessageBody=x', 'https://hooks.slack.com/services/T1/B2/secret'])
        statuses.push((await fetch(target)).status)
      return statuses`,
  )
  expect(out).toEqual(Array(9).fill(200))
  expect(effects.map(({ outcome, note }) => `${outcome} ${/suspicious\.[\w-]+/.exec(note ?? '')?.[0] ?? '-'}`)).toEqual(
    [
      'allowed suspicious.unsubscribe',
      'allowed suspicious.verb',
      'allowed suspicious.action',
      'allowed -',
      'allowed -',
      'allowed -',
      'blocked -',
      'blocked -',
      'blocked -',
    ],
  )
  expect(effects.slice(6).map(({ action, rule }) => [action, rule])).toEqual([
    ['send', 'builtin.send.telegram'],
    ['execute', 'builtin.aws.query-write'],
    ['send', 'builtin.send.slack-webhook'],
  ])
  expect(effects[6]?.payload?.excerpt).toMatchObject({ recipients: ['42'] })
  // Whoever knows these paths may send.
  expect(JSON.stringify(effects)).not.toContain('secret')
})

it('what undici is given as query is seen by rules, and sent as such where it passes', async () => {
  const policy = `version: 1
rules:
  - {name: writes, match: {system: http, host: 127.0.0.1, query: {Action: "Send*"}}, effect: write}
`
  const { out, effects } = await dry<(string | undefined)[]>(
    policy,
    `const ask = async (path, query, method) => (await undici.request(url + path, { query, method })).headers['x-dry-run']
     const client = new undici.Client(url)
     const byClient = await client.request({ path: '/q', method: 'GET', query: { Action: 'SendMessage' } })
     return [await ask('/q', { Action: 'SendMessage' }), byClient.headers['x-dry-run'], await ask('/q', { Action: 'List', a: ['1', '2'] })]`,
  )
  expect(out).toEqual(['blocked', 'blocked', null])
  expect(effects.map(({ outcome, rule }) => `${outcome} ${rule}`)).toEqual([
    'blocked writes',
    'blocked writes',
    'allowed default.read',
  ])
  expect(world.reads.at(-1)).toBe('/q?Action=List&a=1&a=2')
})

it('whom a message would have reached is on record', async () => {
  const post = (url: string, body: unknown) =>
    `await fetch(${JSON.stringify(url)}, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(${JSON.stringify(body)}) })`
  const { effects } = await dry(
    'version: 1\n',
    [
      post('https://api.sendgrid.com/v3/mail/send', {
        personalizations: [{ to: [{ email: 'a@x.io' }], cc: [{ email: 'c@x.io' }] }],
      }),
      post('https://api.postmarkapp.com/email', { To: 'a@x.io, "B, C" <b@x.io>', Bcc: 'z@x.io' }),
      post('https://api.resend.com/emails', { to: ['a@x.io'], bcc: 'z@x.io' }),
      post('https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails', {
        Destination: { ToAddresses: ['A <a@x.io>'], BccAddresses: ['b@x.io'] },
      }),
      `await fetch('https://email.eu-west-1.amazonaws.com/', { method: 'POST', body: new URLSearchParams({ Action: 'SendEmail', 'Destination.ToAddresses.member.1': 'a@x.io' }) })`,
      `const form = new FormData(); form.set('to', 'a@x.io'); form.set('cc', 'C <c@x.io>'); await fetch('https://api.mailgun.net/v3/mg.x.io/messages', { method: 'POST', body: form })`,
      post('https://slack.com/api/chat.postMessage', { channel: 'C1', text: 'x' }),
      post('https://exp.host/--/api/v2/push/send', [{ to: ['p1', 'p2'] }]),
    ].join('\n'),
  )
  expect(
    effects.map(({ action, payload }) => [
      action,
      (payload?.excerpt as { recipients?: string[] } | undefined)?.recipients,
    ]),
  ).toEqual([
    ['send', ['a@x.io', 'c@x.io']],
    ['send', ['a@x.io', 'b@x.io', 'z@x.io']],
    ['send', ['a@x.io', 'z@x.io']],
    ['send', ['a@x.io', 'b@x.io']],
    ['send', ['a@x.io']],
    ['send', ['a@x.io', 'c@x.io']],
    ['send', ['C1']],
    ['send', ['p1', 'p2']],
  ])
})
