import { createServer, type Server } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { dryHttp } from '../../support/dry-http.js'

interface Seen {
  readonly line: string
  readonly headers: Record<string, string | string[] | undefined>
  readonly body: string
}

const seen: Seen[] = []
let reply: { status: number; body: string } = { status: 200, body: '' }
let server: Server
let port = 0

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request.setEncoding('latin1')) body += chunk
    seen.push({
      line: `${request.method} ${request.headers.host?.split(':')[0]}${request.url}`,
      headers: request.headers,
      body,
    })
    response.writeHead(reply.status, { 'x-own': '1', 'content-type': 'application/xml' }).end(reply.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})
afterAll(() => server.close())
beforeEach(() => {
  seen.length = 0
  reply = { status: 200, body: '' }
})

const policy = (validate: string, host: string, more = '') =>
  `version: 1\nrules:\n  - {name: check, match: {system: http, host: "${host}"}, validate: ${validate}, owner: ops, reason: the provider checks it${more}}\n`

interface Answer {
  readonly status: number
  readonly mark: string | null
  readonly body: string
}

/** The call by fetch, undici and http, all of them over plain HTTP to the recorder, whatever the host. */
async function calls(
  policyText: string,
  method: string,
  url: string,
  body: string | undefined,
  headers: Record<string, string> = { 'content-type': 'application/json' },
) {
  const { out, effects } = await dryHttp<Answer[]>(
    { 'policy.yaml': policyText },
    `const [method, to, body, headers] = ${JSON.stringify([method, url, body ?? null, headers])}
     const target = new URL(to); target.protocol = 'http:'; target.port = process.env.PORT
     const lookup = (_, options, done) => options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)
     const dispatcher = new undici.Agent({ connect: { lookup } })
     const init = { method, headers, ...(body === null ? {} : { body }), dispatcher }
     const byFetch = async () => { const r = await undici.fetch(target, init); return { status: r.status, mark: r.headers.get('x-dry-run'), body: await r.text() } }
     const byUndici = async () => { const r = await undici.request(target, init); return { status: r.statusCode, mark: r.headers['x-dry-run'] ?? null, body: await r.body.text() } }
     const byHttp = (agent) => new Promise((resolve, reject) => http.request(target, { method, headers: { ...headers, ...(body && { 'content-length': Buffer.byteLength(body) }) }, lookup, agent }, async (response) => {
       let text = ''
       for await (const chunk of response) text += chunk
       resolve({ status: response.statusCode, mark: response.headers['x-dry-run'] ?? null, body: text })
     }).on('error', reject).end(body ?? undefined))
     const keepAlive = new http.Agent({ keepAlive: true, maxSockets: 1 })
     const out = [await byFetch(), await byUndici(), await byHttp(), ...(await Promise.all([byHttp(keepAlive), byHttp(keepAlive)]))]
     keepAlive.destroy()
     await dispatcher.close()
     return out`,
    { PORT: String(port) },
  )
  return { out, effects }
}

const MAIL = {
  personalizations: [{ to: [{ email: 'a@x.io' }] }],
  mail_settings: { footer: { enable: true }, sandbox_mode: { enable: false } },
}
const SENDGRID = 'http://api.sendgrid.com/v3/mail/send'

describe('SendGrid', () => {
  it('gets a mail in its sandbox mode only, and the caller gets a live success', async () => {
    const { out, effects } = await calls(policy('sendgrid', 'api.sendgrid.com'), 'POST', SENDGRID, JSON.stringify(MAIL))
    expect(out).toEqual(Array(5).fill({ status: 202, mark: 'validated', body: '' }))
    expect(seen.map(({ line, body }) => `${line} ${body}`)).toEqual(
      Array(5).fill(
        'POST api.sendgrid.com/v3/mail/send {"personalizations":[{"to":[{"email":"a@x.io"}]}],"mail_settings":{"footer":{"enable":true},"sandbox_mode":{"enable":true}}}',
      ),
    )
    for (const { headers, body } of seen) {
      expect(headers['content-length']).toBe(String(body.length))
      expect(headers).not.toHaveProperty('baggage')
      expect(headers).not.toHaveProperty('x-dry-run')
    }
    expect(effects.map(({ outcome, rule, note }) => [outcome, rule, note])).toEqual(
      Array(5).fill(['forwarded', 'check', 'sent to SendGrid in its sandbox mode, which delivers nothing']),
    )
    expect(effects[0]?.payload?.excerpt).toMatchObject({ recipients: ['a@x.io'] })
  })

  it('gets it over http2 as well', async () => {
    const got: string[] = []
    const h2 = createHttp2Server().on('stream', async (stream, headers) => {
      let body = ''
      for await (const chunk of stream.setEncoding('utf8')) body += chunk
      got.push(`${headers[':method']} ${headers[':authority']}${headers[':path']} ${body}`)
      stream.respond({ ':status': 200 })
      stream.end()
    })
    await new Promise<void>((resolve) => h2.listen(0, '127.0.0.1', resolve))
    const authority = `api.sendgrid.com:${(h2.address() as AddressInfo).port}`
    const { out, effects } = await dryHttp<unknown[]>(
      { 'policy.yaml': policy('sendgrid', 'api.sendgrid.com') },
      `const session = http2.connect('http://${authority}', { lookup: (_, options, done) => options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4) })
       const send = (path) => new Promise((resolve, reject) => {
         const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' })
         stream.on('error', reject).on('response', (headers) => { stream.resume().on('end', () => resolve([headers[':status'], headers['x-dry-run']])) })
         stream.end('{"subject":"x"}')
       })
       const out = [await send('/v3/mail/send'), await send('/v3/contacts')]
       session.close()
       return out`,
    )
    h2.close()
    expect(out).toEqual([
      [202, 'validated'],
      [200, 'blocked'],
    ])
    expect(got).toEqual([
      `POST ${authority}/v3/mail/send {"subject":"x","mail_settings":{"sandbox_mode":{"enable":true}}}`,
    ])
    expect(effects.map(({ outcome }) => outcome)).toEqual(['forwarded', 'blocked'])
  })

  it('hands its refusal to the caller as it is', async () => {
    reply = { status: 400, body: '{"errors":[{"message":"no from"}]}' }
    const { out } = await calls(policy('sendgrid', 'api.sendgrid.com'), 'POST', SENDGRID, '{}')
    expect(out).toEqual(Array(5).fill({ status: 400, mark: 'validated', body: reply.body }))
  })

  it.each([
    [
      'another path',
      'http://api.sendgrid.com/v3/mail/send?a=1',
      '{}',
      {},
      'SendGrid has its sandbox mode for POST /v3/mail/send only',
    ],
    [
      'another API',
      'http://api.sendgrid.com/v3/marketing/contacts',
      '{}',
      {},
      'SendGrid has its sandbox mode for POST /v3/mail/send only',
    ],
    ['another host', 'http://mail.example/v3/mail/send', '{}', {}, 'mail.example is not SendGrid'],
    ['a body that is no JSON', SENDGRID, 'a=b', {}, 'its body is no JSON object'],
    ['a list', SENDGRID, '[{}]', {}, 'its body is no JSON object'],
    ['JSON that does not say so', SENDGRID, '{}', { 'content-type': 'text/plain' }, 'its body is no JSON object'],
    ['settings of another kind', SENDGRID, '{"mail_settings":[]}', {}, 'mail_settings is no object'],
    ['a compressed body', SENDGRID, '{}', { 'content-encoding': 'gzip' }, 'its body is compressed'],
    [
      'a digest of the body',
      SENDGRID,
      '{}',
      { 'content-md5': 'x' },
      'content-md5 covers the body, which has to change',
    ],
    [
      'another method in a header',
      SENDGRID,
      '{}',
      { 'x-http-method-override': 'PUT' },
      'x-http-method-override may make it another request',
    ],
    [
      'a body that is not held',
      SENDGRID,
      JSON.stringify({ a: 'x'.repeat(1024 * 1024) }),
      {},
      'its body is larger than what is held',
    ],
    [
      'a body that grows too large',
      SENDGRID,
      JSON.stringify({ a: 'x'.repeat(1024 * 1024 - 20) }),
      {},
      'its body is too large',
    ],
  ])('is not asked about %s: blocked as usual, with a note', async (_, url, body, headers, note) => {
    const { out, effects } = await calls(policy('sendgrid', '**'), 'POST', url, body, {
      'content-type': 'application/json',
      ...headers,
    })
    expect(out.map(({ mark }) => mark)).toEqual(Array(5).fill('blocked'))
    expect(seen).toEqual([])
    expect(effects.map((effect) => [effect.outcome, effect.note])).toEqual(
      Array(5).fill(['blocked', `not validated by sendgrid: ${note}`]),
    )
  })

  it('that cannot be reached is an error of the caller’s, and nothing is sent', async () => {
    const { out, effects } = await dryHttp<string>(
      { 'policy.yaml': policy('sendgrid', 'api.sendgrid.com') },
      `const lookup = (_, options, done) => done(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' }))
       return await new Promise((resolve) => http.request('${SENDGRID}', { method: 'POST', lookup, headers: { 'content-type': 'application/json' } }, () => resolve('answered')).on('error', (error) => resolve(error.code)).end('{}'))`,
    )
    expect(out).toBe('ENOTFOUND')
    expect(effects).toMatchObject([{ outcome: 'forwarded' }])
  })

  it('with onBlocked: throw gets the mail too, and what stays blocked is refused', async () => {
    const text = policy('sendgrid', 'api.sendgrid.com', ', onBlocked: throw')
    expect((await calls(text, 'POST', SENDGRID, '{}')).out.map(({ status }) => status)).toEqual(Array(5).fill(202))
    const { out, effects } = await calls(text, 'POST', SENDGRID, '[]')
    expect(out.map(({ status }) => status)).toEqual(Array(5).fill(451))
    expect(effects[0]).toMatchObject({
      outcome: 'blocked',
      note: 'not validated by sendgrid: its body is no JSON object',
    })
  })
})

const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8', authorization: 'AWS4-HMAC-SHA256 x' }
const EC2 = 'http://ec2.eu-west-1.amazonaws.com/'
const DRY_RUN_OPERATION =
  '<Response><Errors><Error><Code>DryRunOperation</Code><Message>Request would have succeeded</Message></Error></Errors></Response>'

describe('EC2', () => {
  it('gets a signed call that carries DryRun=true, byte for byte, and its yes is a success', async () => {
    reply = { status: 412, body: DRY_RUN_OPERATION }
    const body = 'Action=RunInstances&DryRun=true&MinCount=1&Version=2016-11-15'
    const { out, effects } = await calls(policy('aws-ec2', 'ec2.*.amazonaws.com'), 'POST', EC2, body, FORM)
    expect(seen.map(({ line, body }) => `${line} ${body}`)).toEqual(
      Array(5).fill(`POST ec2.eu-west-1.amazonaws.com/ ${body}`),
    )
    expect(seen[0]?.headers['authorization']).toBe(FORM.authorization)
    for (const answer of out) {
      expect(answer).toEqual({
        status: 200,
        mark: 'validated',
        body: expect.stringMatching(
          /<RunInstancesResponse xmlns="[^"]+"><requestId>dry_\w+<\/requestId><return>true<\/return><\/RunInstancesResponse>$/,
        ),
      })
    }
    expect(effects.map(({ outcome }) => outcome)).toEqual(Array(5).fill('forwarded'))
  })

  it.each([
    [403, '<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>'],
    [412, '<Response><Errors><Error><Code>Other</Code></Error></Errors></Response>'],
    [412, `<Response>${'x'.repeat(200_000)}</Response>`],
  ])('hands any other verdict to the caller as it is: %s', async (status, body) => {
    reply = { status, body }
    const { out } = await calls(
      policy('aws-ec2', 'ec2.*.amazonaws.com'),
      'POST',
      EC2,
      'Action=RunInstances&DryRun=true',
      FORM,
    )
    expect(out).toEqual(Array(5).fill({ status, mark: 'validated', body }))
  })

  it.each([
    ['Action=RunInstances', 'it does not carry DryRun=true, and AWS signs the body'],
    ['Action=RunInstances&DryRun=false', 'its DryRun is not true'],
    ['Action=RunInstances&DryRun=true&DryRun=false', 'its DryRun is not true'],
    ['Action=RunInstances&DryRun=true&dryrun=false', 'its DryRun is not true'],
    ['Action=RunInstances&Action=X&DryRun=true', 'it does not name one Action'],
    ['Action=RunInstances&X=a;DryRun=true', 'its body is no form'],
  ])('is not sent %s', async (body, note) => {
    const { out, effects } = await calls(policy('aws-ec2', 'ec2.*.amazonaws.com'), 'POST', EC2, body, FORM)
    expect(out.map(({ mark }) => mark)).toEqual(Array(5).fill('blocked'))
    expect(seen).toEqual([])
    expect(effects[0]).toMatchObject({ outcome: 'blocked', note: `not validated by aws-ec2: ${note}` })
  })

  it.each([
    ['POST', 'http://s3.eu-west-1.amazonaws.com/', 's3.eu-west-1.amazonaws.com is not EC2'],
    ['POST', `${EC2}?Action=RunInstances&DryRun=true`, 'EC2 is called by POST /'],
  ])('%s %s is not EC2’s', async (method, url, note) => {
    const { effects } = await calls(policy('aws-ec2', '**.amazonaws.com'), method, url, 'Action=X&DryRun=true', FORM)
    expect(seen).toEqual([])
    expect(effects[0]).toMatchObject({ outcome: 'blocked', note: `not validated by aws-ec2: ${note}` })
  })

  it('a write by GET is blocked: the rule lets no read through', async () => {
    const { effects } = await calls(
      policy('aws-ec2', '**.amazonaws.com'),
      'GET',
      `${EC2}?Action=RunInstances`,
      undefined,
      {},
    )
    expect(seen).toEqual([])
    expect(effects[0]).toMatchObject({ outcome: 'blocked', rule: 'builtin.aws.query-write' })
  })
})

describe('Kubernetes', () => {
  const K8S = 'http://kube.example'
  const ask = (method: string, path: string, body?: string, headers?: Record<string, string>) =>
    calls(policy('kubernetes', 'kube.example'), method, `${K8S}${path}`, body, headers)

  it.each([
    ['POST', '/api/v1/namespaces/a/pods', '{"kind":"Pod"}', '/api/v1/namespaces/a/pods?dryRun=All', '{"kind":"Pod"}'],
    [
      'PUT',
      '/apis/apps/v1/namespaces/a/deployments/web?pretty=1&dryRun=None&dryRun=',
      '{}',
      '/apis/apps/v1/namespaces/a/deployments/web?pretty=1&dryRun=All',
      '{}',
    ],
    [
      'PATCH',
      '/apis/apps/v1/namespaces/a/deployments/web/scale?%64ryRun=x',
      '{"spec":{}}',
      '/apis/apps/v1/namespaces/a/deployments/web/scale?dryRun=All',
      '{"spec":{}}',
    ],
    ['DELETE', '/api/v1/namespaces/a', undefined, '/api/v1/namespaces/a?dryRun=All', ''],
    // The API server reads the options of a DELETE from its body when it has one.
    [
      'DELETE',
      '/api/v1/namespaces/a/pods/web-0',
      '{"gracePeriodSeconds":0,"dryRun":[]}',
      '/api/v1/namespaces/a/pods/web-0?dryRun=All',
      '{"gracePeriodSeconds":0,"dryRun":["All"]}',
    ],
  ])('%s %s is sent as a dry run', async (method, path, body, sentPath, sentBody) => {
    reply = { status: 201, body: '{"kind":"Pod"}' }
    const { out, effects } = await ask(method, path, body)
    expect(seen.map(({ line, body }) => [line, body])).toEqual(
      Array(5).fill([`${method} kube.example${sentPath}`, sentBody]),
    )
    expect(out).toEqual(Array(5).fill({ status: 201, mark: 'validated', body: '{"kind":"Pod"}' }))
    expect(effects.map(({ outcome, note }) => [outcome, note])).toEqual(
      Array(5).fill(['forwarded', 'sent to Kubernetes with dryRun=All, which stores nothing']),
    )
  })

  it.each([
    [
      'POST',
      '/api/v1/namespaces/a/pods/web-0/exec?command=rm',
      '',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    [
      'POST',
      '/api/v1/namespaces/a/services/web/proxy',
      '',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    [
      'POST',
      '/api/v1/namespaces/a/pods/web-0/eviction',
      '{}',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    [
      'POST',
      '/apis/crm.example/v1/namespaces/a/contacts',
      '{}',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    [
      'POST',
      '/k8s/clusters/c/api/v1/namespaces/a/pods',
      '{}',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    [
      'POST',
      '/api/v1/namespaces/a%2Fpods',
      '{}',
      'its path is no resource that the API server itself is known to dry-run',
    ],
    ['DELETE', '/api/v1/namespaces/a/pods/web-0', 'k8s\u0000', 'its DeleteOptions are not JSON'],
  ])('%s %s is not', async (method, path, body, note) => {
    const { out, effects } = await ask(
      method,
      path,
      body,
      body.startsWith('k8s') ? { 'content-type': 'application/vnd.kubernetes.protobuf' } : undefined,
    )
    expect(out.map(({ mark }) => mark)).toEqual(Array(5).fill('blocked'))
    expect(seen).toEqual([])
    expect(effects[0]).toMatchObject({ outcome: 'blocked', note: `not validated by kubernetes: ${note}` })
  })

  it('is read as ever', async () => {
    const { out } = await ask('GET', '/api/v1/namespaces/a/pods', undefined, {})
    expect(seen.map(({ line }) => line)).toEqual(Array(5).fill('GET kube.example/api/v1/namespaces/a/pods'))
    expect(out[0]?.mark).toBeNull()
  })
})
