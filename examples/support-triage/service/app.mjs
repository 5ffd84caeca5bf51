import Fastify from 'fastify'
import { createCrm } from './crm.mjs'
import { createDatabase } from './db.mjs'
import { createFollowUps } from './follow-ups.mjs'
import { createInboundMail } from './inbound-mail.mjs'
import { createMailer } from './mailer.mjs'
import { createTriage } from './triage.mjs'

const inboundMailSchema = {
  body: {
    type: 'object',
    required: ['messageId'],
    properties: {
      messageId: { type: 'string', minLength: 3, maxLength: 500 },
      from: { type: 'string', maxLength: 500, default: '' },
      subject: { type: 'string', maxLength: 2000, default: '' },
      text: { type: 'string', maxLength: 100_000, default: '' },
      html: { type: 'string', maxLength: 200_000, default: '' },
    },
  },
}

/** The whole service, wired but not listening. */
export async function buildApp(config) {
  const app = Fastify({ logger: { level: config.logLevel }, bodyLimit: 1024 * 1024 })

  const db = createDatabase(config.databaseUrl)
  const crm = createCrm(config.crmUrl, config.crmToken)
  const mailer = createMailer(config.smtpUrl, config.supportAddress)
  const triage = createTriage({ url: config.llmUrl, key: config.llmKey, model: config.llmModel, log: app.log })
  const followUps = createFollowUps({
    databaseUrl: config.databaseUrl,
    delaySeconds: config.followUpSeconds,
    db,
    log: app.log,
  })
  const inboundMail = createInboundMail({ db, crm, mailer, triage, followUps, log: app.log })

  app.post('/inbound-mail', { schema: inboundMailSchema }, (request) => inboundMail.handle(request.body))

  app.get('/health', async () => {
    await db.query('SELECT 1')
    return { status: 'ok' }
  })

  app.addHook('onReady', () => followUps.start())
  app.addHook('onClose', async () => {
    await followUps.stop()
    mailer.close()
    crm.close()
    await db.end()
  })
  return app
}
