import { startCrm } from './crm.mjs'
import { startInbox } from './inbox.mjs'
import { startModel } from './model.mjs'
import { startPostgres } from './postgres.mjs'
import { openObserver } from './snapshot.mjs'

/**
 * Everything around the service: Postgres, a mail server, a CRM and a model,
 * all in this process or on loopback, and a way to look at them.
 */
export async function startWorld({ modelUrl } = {}) {
  const stops = []
  const stop = async () => {
    for (const stopPart of stops.splice(0).reverse()) await stopPart()
  }
  const started = async (part) => {
    const running = await part
    stops.push(running.stop ?? running.close)
    return running
  }

  try {
    const inbox = await started(startInbox())
    const crm = await started(startCrm())
    const model = modelUrl === undefined ? await started(startModel()) : { baseUrl: modelUrl, requests: [] }
    const postgres = await started(startPostgres())
    const observer = await started(openObserver(postgres.adminUrl))

    return {
      inbox,
      crm,
      model,
      /** Rows of a query, as a superuser. */
      rows: observer.rows,
      walRecords: observer.walRecords,
      async snapshot() {
        return {
          ...(await observer.snapshot()),
          inbox: inbox.messages.map((message) => `mail to ${message.to.join(', ')}`),
          crm: {
            writes: crm.writes().map((entry) => `${entry.method} ${entry.path}`),
            contacts: structuredClone([...crm.contacts.values()]),
          },
        }
      },
      /** What the service is configured with. */
      env: { DATABASE_URL: postgres.url, SMTP_URL: inbox.url, CRM_URL: crm.url, OPENAI_BASE_URL: model.baseUrl },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
