import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { createTransport } from 'nodemailer'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Guard } from '../../../src/guard/guard.js'
import { nodemailerIntegration } from '../../../src/integrations/nodemailer/nodemailer.js'
import { currentRun } from '../../../src/run/store.js'
import { type Guarded, guarded } from './guarded.js'
import { type Inbox, startInbox } from './inbox.js'

let harness: Guarded
let inbox: Inbox

beforeAll(async () => {
  harness = guarded()
  await patchEsModules(harness.guard)
})

afterAll(() => harness.close())

beforeEach(async () => {
  harness.policy()
  inbox = await startInbox()
})

afterEach(() => inbox.close())

/** What the loader does to the ES module copy, done by hand: the child-process tests cover the loader. */
async function patchEsModules(guard: Guard): Promise<void> {
  for (const target of nodemailerIntegration.targets) {
    const name = target.bindings?.[0]
    if (name === undefined) continue
    const file = target.file.replace('nodemailer/dist/esm/', 'nodemailer/lib/').replace('/index.js', '')
    const module = (await import(file)) as { default: unknown }
    target.patch({ [name]: module.default }, guard, { file: target.file, version: '10.6.0' })
  }
}

function smtp(options: object = {}) {
  return createTransport({ host: '127.0.0.1', port: inbox.port, ...options } as Parameters<typeof createTransport>[0])
}

const MAIL = {
  from: 'Support <support@shop.example>',
  to: ['alice@example.com', 'Bob, B <bob@example.org>'],
  bcc: 'carol@example.net',
  subject: 'Your order',
  text: 'Hello Alice\n.a line that starts with a dot\n',
}

describe('sendMail in a dry run', () => {
  it('leaves the inbox empty, opens no connection, and answers in the shape of the live call', async () => {
    const live = await smtp().sendMail(MAIL)
    const before = inbox.connections()
    expect(inbox.mails).toHaveLength(1)

    const dry = await harness.dry(async () => await smtp().sendMail(MAIL))

    expect(inbox.mails).toHaveLength(1)
    expect(inbox.connections()).toBe(before)
    expect(Object.keys(dry).sort()).toEqual(Object.keys(live).sort())
    for (const key of Object.keys(live) as (keyof typeof live)[]) {
      expect([key, typeof dry[key]]).toEqual([key, typeof live[key]])
    }
    expect(dry.accepted).toEqual(live.accepted)
    expect(dry.rejected).toEqual(live.rejected)
    expect(dry.envelope).toEqual(live.envelope)
    expect((dry as unknown as { messageSize: number }).messageSize).toBe(
      (live as unknown as { messageSize: number }).messageSize,
    )
    expect(dry.response).toBe('250 2.0.0 Ok: queued as DRYRUN')
    expect(dry.messageId).toMatch(/^<.+@shop\.example>$/)
  })

  it('records recipients including Bcc, subject, attachments and text, with addresses redacted', async () => {
    const run = await harness.dry(async (run) => {
      await smtp().sendMail({
        ...MAIL,
        attachments: [
          { filename: 'invoice.txt', content: 'pay me' },
          { filename: 'stream.bin', content: Readable.from([Buffer.alloc(3_000, 7)]) },
        ],
      })
      return run
    })
    const [effect, ...more] = harness.effects(run.id)
    expect(more).toEqual([])
    expect(effect).toMatchObject({
      system: 'smtp',
      action: 'send',
      effect: 'write',
      outcome: 'blocked',
      target: `127.0.0.1:${inbox.port}`,
      summary: `send mail via 127.0.0.1:${inbox.port} to 3 recipients`,
      fidelity: 'plausible',
    })
    expect(effect?.payload?.excerpt).toEqual({
      from: 's***@shop.example',
      recipients: ['a***@example.com', 'b***@example.org', 'c***@example.net'],
      subject: 'Your order',
      attachments: [
        { name: 'invoice.txt', size: 6 },
        { name: 'stream.bin', size: 3_000 },
      ],
      text: 'Hello Alice .a line that starts with a dot',
    })
    const record = JSON.stringify(effect)
    expect(record).not.toContain('alice')
    expect(`${effect?.summary}${effect?.target}${effect?.fingerprint}`).not.toContain('order')
  })

  it('digests the content, so that the same mail has the same digest and another one has not', async () => {
    const send = (mail: object) =>
      harness.dry(async (run) => {
        await smtp({ attachDataUrls: true }).sendMail(mail)
        return harness.effects(run.id)[0]?.payload?.digest
      })
    const html = '<p>hi <img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></p>'
    const first = await send({ ...MAIL, html, attachments: [{ content: Readable.from(['abc']), filename: 'a' }] })
    const again = await send({ ...MAIL, html, attachments: [{ content: Readable.from(['abc']), filename: 'a' }] })
    const other = await send({ ...MAIL, html, attachments: [{ content: Readable.from(['abd']), filename: 'a' }] })
    const elsewhere = await send({ ...MAIL, html, to: 'dave@example.com', attachments: [] })
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    expect(again).toBe(first)
    expect(new Set([first, other, elsewhere]).size).toBe(3)
  })

  it('runs plugins, DKIM and attachments, and gives the error a live compilation gives', async () => {
    const transporter = smtp()
    const seen: string[] = []
    transporter.use('compile', (mail, done) => {
      seen.push('compile')
      mail.data.bcc = ['added@plugin.example']
      done()
    })
    const missing = { ...MAIL, attachments: [{ path: '/does/not/exist.pdf' }] }
    const live = await smtp()
      .sendMail(missing)
      .then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error,
      )
    const { dry, run, info } = await harness.dry(async (run) => ({
      run,
      dry: await transporter.sendMail(missing).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error,
      ),
      info: await transporter.sendMail(MAIL),
    }))
    expect(live?.message).toContain('ENOENT')
    expect({ ...dry, message: dry?.message }).toEqual({ ...live, message: live?.message })
    expect(seen).toEqual(['compile', 'compile'])
    expect(info.accepted).toContain('added@plugin.example')
    const [failing] = harness.effects(run.id)
    expect(failing).toMatchObject({ outcome: 'blocked', note: expect.stringContaining('would fail: ENOENT') })
    expect(inbox.mails).toEqual([])
  })

  it('gives the native errors for what a transport refuses before it connects', async () => {
    const noOne = { from: 'a@b.example', subject: 'x', text: 'y' }
    const refused = async (send: () => Promise<unknown>) => {
      const error = (await send().then(
        () => undefined,
        (thrown: unknown) => thrown,
      )) as (Error & { code?: string; command?: string }) | undefined
      return { message: error?.message, code: error?.code, command: error?.command, name: error?.name }
    }
    const closed = smtp({ pool: true })
    closed.close()
    const aborted = { ...MAIL, signal: AbortSignal.abort(new Error('enough')) }
    for (const send of [() => smtp().sendMail(noOne), () => closed.sendMail(MAIL), () => smtp().sendMail(aborted)]) {
      const live = await refused(send)
      expect(live.message).toBeTypeOf('string')
      expect(await harness.dry(() => refused(send))).toEqual(live)
    }
  })

  it('answers callbacks in the context of the caller', async () => {
    const transporter = smtp()
    const { run, seen, info, returned } = await harness.dry(async (run) => {
      let returned: unknown = 'unset'
      const [info, seen] = await new Promise<[{ messageId: string }, unknown]>((resolve, reject) => {
        returned = transporter.sendMail(MAIL, (error, info) => (error ? reject(error) : resolve([info, currentRun()])))
      })
      return { run, seen, info, returned }
    })
    expect(returned).toBeUndefined()
    expect(seen).toBe(run)
    expect(info.messageId).toContain('@')
  })

  it('answers SES and sendmail transports in their own shape and starts neither', async () => {
    const sent: unknown[] = []
    class SendEmailCommand {
      constructor(readonly input: unknown) {}
    }
    const sesClient = {
      config: { region: async () => 'eu-west-1' },
      send: async (command: unknown) => {
        sent.push(command)
        return { MessageId: 'real-id' }
      },
    }
    const ses = createTransport({ SES: { sesClient, SendEmailCommand } } as unknown as Parameters<
      typeof createTransport
    >[0])
    const liveSes = (await ses.sendMail(MAIL)) as unknown as Record<string, unknown>
    const drySes = (await harness.dry(() => ses.sendMail(MAIL))) as unknown as Record<string, unknown>
    expect(sent).toHaveLength(1)
    expect(Object.keys(drySes).sort()).toEqual(Object.keys(liveSes).sort())
    expect(Buffer.isBuffer(drySes['raw'])).toBe(true)

    const sendmail = createTransport({ sendmail: true, path: '/does/not/exist/sendmail' })
    await expect(sendmail.sendMail(MAIL)).rejects.toThrow()
    const info = await harness.dry(() => sendmail.sendMail(MAIL))
    expect(info).toMatchObject({ response: 'Messages queued for delivery', envelope: { from: 'support@shop.example' } })
  })

  it('blocks a transport of the application, whatever it calls itself', async () => {
    const sent: unknown[] = []
    const custom = createTransport({
      name: 'JSONTransport',
      version: '1',
      send: (mail: unknown, callback: (error: null, info: object) => void) => {
        sent.push(mail)
        callback(null, {})
      },
    } as unknown as Parameters<typeof createTransport>[0])
    await harness.dry(() => custom.sendMail(MAIL))
    expect(sent).toEqual([])
    await custom.sendMail(MAIL)
    expect(sent).toHaveLength(1)
  })

  it('lets stream and JSON transports pass: nothing leaves', async () => {
    const run = await harness.dry(async (run) => {
      const json = await createTransport({ jsonTransport: true }).sendMail(MAIL)
      expect(JSON.parse((json as unknown as { message: string }).message).subject).toBe('Your order')
      const stream = await createTransport({ streamTransport: true, buffer: true }).sendMail(MAIL)
      expect(String((stream as unknown as { message: Buffer }).message)).toContain('Subject: Your order')
      return run
    })
    expect(harness.effects(run.id)).toEqual([])
  })

  it('sends what a plugin keeps the mailer for, when it is live by then', async () => {
    const transporter = smtp()
    let kept: { sendMail(mail: object): Promise<unknown> } | undefined
    transporter.use('compile', (mail, done) => {
      kept = (mail as unknown as { mailer: typeof kept }).mailer
      done()
    })
    await harness.dry(() => transporter.sendMail(MAIL))
    await kept?.sendMail(MAIL)
    expect(inbox.mails).toHaveLength(1)
    await harness.dry(() => kept?.sendMail(MAIL) ?? Promise.resolve())
    expect(inbox.mails).toHaveLength(1)
  })

  it('keeps the run open while a mail nobody waits for is compiled', async () => {
    let sent: Promise<unknown> = Promise.resolve()
    const run = await harness.dry(async (run) => {
      sent = smtp().sendMail(MAIL)
      return run
    })
    expect(run.endedAt).toBeUndefined()
    await sent
    await new Promise(setImmediate)
    expect(run.endedAt).toBeTypeOf('number')
    expect(harness.effects(run.id)).toHaveLength(1)
  })

  it('gives the caller an error, and no mail, when the journal cannot be written', async () => {
    await harness.dry(async () => {
      const repair = harness.breakJournal()
      await expect(smtp().sendMail(MAIL)).rejects.toThrow('disk full')
      repair()
    })
    expect(inbox.mails).toEqual([])
  })
})

describe('policy', () => {
  it('onBlocked: throw gives the error and still records the mail', async () => {
    harness.policy('version: 1\nonBlocked: throw')
    const run = await harness.dry(async (run) => {
      await expect(smtp().sendMail(MAIL)).rejects.toMatchObject({ code: 'DRY_BLOCKED' })
      return run
    })
    expect(harness.effects(run.id)).toMatchObject([
      { outcome: 'blocked', payload: { excerpt: { subject: 'Your order' } }, error: { code: 'DRY_BLOCKED' } },
    ])
  })

  it('an allowed domain gets its mail, and a recipient elsewhere keeps the message in', async () => {
    harness.policy(`
version: 1
rules:
  - name: own-domain
    match: {system: smtp, destination: example.com}
    verdict: allow
    owner: qa
    reason: our own test inbox
    expires: 2999-01-01
`)
    for (const options of [{}, { pool: true }]) {
      const transporter = smtp(options)
      inbox.mails.length = 0
      await harness.dry(async (run) => {
        await transporter.sendMail({ ...MAIL, to: 'alice@example.com', bcc: [] })
        // A Bcc counts: this one stays in.
        await transporter.sendMail({ ...MAIL, to: 'alice@example.com', bcc: 'x@example.org' })
        expect(harness.effects(run.id).map(({ outcome }) => outcome)).toEqual(['allowed', 'blocked'])
        await new Promise<void>((resolve, reject) =>
          transporter.sendMail({ ...MAIL, to: 'a@example.com', bcc: [] }, (error) => {
            expect(currentRun()).toBe(run)
            return error ? reject(error) : resolve()
          }),
        )
      })
      expect(inbox.mails.map(({ to }) => to)).toEqual([['alice@example.com'], ['a@example.com']])
      // The pooled connection made by the dry caller serves live mail.
      await transporter.sendMail(MAIL)
      expect(inbox.mails).toHaveLength(3)
      transporter.close()
    }
  })

  it('counts a plugin that adds a recipient after the call', async () => {
    harness.policy(`
version: 1
rules:
  - {name: own, match: {system: smtp, destination: example.com}, verdict: allow, owner: qa, reason: inbox, expires: 2999-01-01}
`)
    const transporter = smtp()
    transporter.use('compile', (mail, done) => {
      mail.data.bcc = 'audit@elsewhere.example'
      done()
    })
    await harness.dry(() => transporter.sendMail({ ...MAIL, to: 'alice@example.com', bcc: [] }))
    expect(inbox.mails).toEqual([])
  })
})

describe('verify', () => {
  it('connects in a dry run, as a read, by promise and by callback', async () => {
    const run = await harness.dry(async (run) => {
      expect(await smtp().verify()).toBe(true)
      expect(await smtp({ pool: true }).verify()).toBe(true)
      await new Promise<void>((resolve, reject) => smtp().verify((error) => (error ? reject(error) : resolve())))
      return run
    })
    expect(inbox.connections()).toBe(3)
    expect(inbox.mails).toEqual([])
    expect(harness.effects(run.id).map(({ effect, outcome }) => [effect, outcome])).toEqual(
      Array(3).fill(['read', 'allowed']),
    )
  })
})

describe('live and dry on one pooled transport', () => {
  it('leaks no dry mail and swallows no live one', async () => {
    const transporter = smtp({ pool: true, maxConnections: 3 })
    const live: string[] = []
    const sends: Promise<unknown>[] = []
    for (let index = 0; index < 120; index += 1) {
      const dry = index % 3 !== 0
      const subject = `${dry ? 'dry' : 'live'}-${index}`
      const send = () => transporter.sendMail({ ...MAIL, subject })
      if (!dry) live.push(subject)
      sends.push(dry ? harness.dry(send) : send())
      if (index % 10 === 0) await new Promise(setImmediate)
    }
    const infos = await Promise.all(sends)
    expect(infos).toHaveLength(120)
    const arrived = inbox.mails.map(({ text }) => /^Subject: (.*)$/m.exec(text)?.[1]?.trim())
    expect(arrived.sort()).toEqual(live.sort())
    transporter.close()
  })
})

it('streams a large attachment through and measures what it read', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'drytrace-mail-'))
  const file = path.join(directory, 'big.bin')
  const content = Buffer.alloc(2_000_000, 'x.\n')
  writeFileSync(file, content)
  try {
    const mail = { ...MAIL, attachments: [{ path: file }] }
    const live = (await smtp().sendMail(mail)) as unknown as { messageSize: number }
    const dry = (await harness.dry(() => smtp().sendMail(mail))) as unknown as { messageSize: number }
    expect(dry.messageSize).toBe(live.messageSize)
    expect(inbox.mails).toHaveLength(1)
    const excerpt = harness.effects().at(-1)?.payload?.excerpt as { attachments: unknown[] }
    expect(excerpt.attachments).toEqual([{ name: 'big.bin', size: content.length }])
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

it('a live call is the original call: same arguments, same result, no record', async () => {
  const before = harness.effects().length
  const info = await smtp().sendMail({ ...MAIL, headers: { 'x-test': createHash('md5').update('a').digest('hex') } })
  expect(info.response).toMatch(/^250/)
  expect(info.response).not.toContain('DRYRUN')
  expect(inbox.mails).toHaveLength(1)
  expect(harness.effects()).toHaveLength(before)
})
