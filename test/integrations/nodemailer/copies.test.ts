import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { type Inbox, startInbox } from './inbox.js'

let inbox: Inbox

beforeEach(async () => {
  inbox = await startInbox()
})

afterEach(() => inbox.close())

const SEND = `
async function send(nodemailer, subject, options = {}) {
  const transporter = nodemailer.createTransport({ host: '127.0.0.1', port: Number(process.env.PORT), ...options })
  const info = await transporter.sendMail({ from: 'a@shop.example', to: 'b@example.com', subject, text: 'x' })
  transporter.close()
  return info.response
}
`

const ESM = `
import nodemailer, { createTransport } from 'nodemailer'
${SEND}
console.log(await send(nodemailer, 'esm default'))
console.log(await send({ createTransport }, 'esm named', { pool: true }))
`

const CJS = `
const nodemailer = require('nodemailer')
${SEND}
send(nodemailer, 'cjs').then(console.log)
`

const BOTH = `
import { createRequire } from 'node:module'
import esm from 'nodemailer'
${SEND}
const cjs = createRequire(import.meta.url)('nodemailer')
if (cjs.createTransport === esm.createTransport) throw new Error('one copy only')
console.log(await send(esm, 'esm copy'))
console.log(await send(cjs, 'cjs copy'))
`

const PROGRAMS = [
  { name: 'an ES module', type: 'module', source: ESM, subjects: ['esm default', 'esm named'] },
  { name: 'a CommonJS program', type: 'commonjs', source: CJS, subjects: ['cjs'] },
  { name: 'both copies in one process', type: 'module', source: BOTH, subjects: ['esm copy', 'cjs copy'] },
] as const

describe.each(PROGRAMS)('$name', ({ type, source, subjects }) => {
  function run(env: Record<string, string>, register = true) {
    const journal = scratchDirectory()
    return runNode({
      register,
      source,
      type,
      env: { PORT: String(inbox.port), DRYTRACE_JOURNAL: journal, ...env },
    }).then((finished) => ({ ...finished, journal }))
  }

  it('sends nothing in a dry process and records every mail', async () => {
    const { code, stdout, stderr, journal } = await run({ DRY_RUN: '1' })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.trim().split('\n')).toEqual(subjects.map(() => '250 2.0.0 Ok: queued as DRYRUN'))
    expect(inbox.mails).toEqual([])
    expect(inbox.connections()).toBe(0)
    const effects = readEffects(journal)
    expect(effects.map(({ system, outcome }) => `${system} ${outcome}`)).toEqual(subjects.map(() => 'smtp blocked'))
    expect(effects.map(({ payload }) => (payload as { excerpt: { subject: string } }).excerpt.subject)).toEqual(
      subjects,
    )
    expect(effects.map(({ hook }) => hook.name)).toEqual(subjects.map(() => 'nodemailer'))
  })

  it('sends everything in a live process', async () => {
    const { code, stdout, journal } = await run({})
    expect(code).toBe(0)
    expect(stdout).not.toContain('DRYRUN')
    expect(inbox.mails.map(({ text }) => /^Subject: (.*)$/m.exec(text)?.[1]?.trim())).toEqual(subjects)
    expect(readEffects(journal)).toEqual([])
  })

  it('would send without the guard: the inbox of these tests is a real one', async () => {
    const { code } = await run({ DRY_RUN: '1' }, false)
    expect(code).toBe(0)
    expect(inbox.mails).toHaveLength(subjects.length)
  })
})

it('one server, one pooled transport: dry requests leave no mail, live ones lose none', async () => {
  const { code, stdout, stderr } = await runNode({
    register: true,
    type: 'module',
    env: { PORT: String(inbox.port) },
    source: `
      import http from 'node:http'
      import nodemailer from 'nodemailer'
      const transporter = nodemailer.createTransport({ host: '127.0.0.1', port: Number(process.env.PORT), pool: true, maxConnections: 2 })
      const server = http.createServer(async (request, response) => {
        const info = await transporter.sendMail({ from: 'a@shop.example', to: 'b@example.com', subject: request.url, text: 'x' })
        response.end(info.response)
      })
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
      const base = 'http://127.0.0.1:' + server.address().port
      const answers = await Promise.all(Array.from({ length: 60 }, async (_, n) => {
        const dry = n % 2 === 1
        const reply = await fetch(base + '/' + (dry ? 'dry-' : 'live-') + n, { headers: dry ? { 'x-dry-run': '1:dr-test-' + n } : {} })
        return [dry, reply.status, (await reply.text()).includes('DRYRUN')]
      }))
      console.log(JSON.stringify(answers.filter(([dry, status, simulated]) => status !== 200 || dry !== simulated)))
      transporter.close()
      server.close()
    `,
  })
  expect({ code, stderr, wrong: stdout.trim() }).toEqual({ code: 0, stderr: '', wrong: '[]' })
  const subjects = inbox.mails.map(({ text }) => /^Subject: (.*)$/m.exec(text)?.[1]?.trim())
  expect(subjects.sort()).toEqual(Array.from({ length: 30 }, (_, n) => `/live-${n * 2}`).sort())
})
