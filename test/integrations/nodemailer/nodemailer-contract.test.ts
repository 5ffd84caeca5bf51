import { describeContract } from '../../support/contract.js'
import { startMailWorld } from '../../support/mail-world.js'

describeContract({
  name: 'nodemailer',
  system: 'smtp',
  startWorld: startMailWorld,
  setup: `
    const loaded = await load('nodemailer')
    const nodemailer = loaded.default ?? loaded
    const options = { host: '127.0.0.1', port: Number(env.SMTP_PORT), ignoreTLS: true }
    const smtp = nodemailer.createTransport(options)
    const pooled = nodemailer.createTransport({ ...options, pool: true, maxConnections: 1 })
    const json = nodemailer.createTransport({ jsonTransport: true })
    const mail = { from: 'a@example.com', to: ['b@example.com', 'c@example.org'], bcc: 'd@example.net', subject: 'contract', text: 'hello' }
  `,
  reads: {
    verify: `smtp.verify()`,
    'JSON transport': `json.sendMail({ ...mail, messageId: '<fixed@example.com>', date: new Date(0) }).then(({ message }) => JSON.parse(message).subject)`,
  },
  writes: {
    promise: `smtp.sendMail(mail)`,
    callback: `new Promise((resolve, reject) => smtp.sendMail(mail, (error, info) => error ? reject(error) : resolve(info)))`,
    'pooled transport, three at once': `Promise.all([1, 2, 3].map(() => pooled.sendMail(mail)))`,
    attachments: `smtp.sendMail({ ...mail, html: '<b>hello</b>', attachments: [{ filename: 'a.txt', content: 'attached' }] })`,
  },
  effectsPerWrite: { 'pooled transport, three at once': 3 },
  teardown: `smtp.close(); pooled.close()`,
})
