import { PgBoss } from 'pg-boss'

export const QUEUE = 'follow-ups'

/**
 * Reminders on urgent tickets: enqueued with a delay, and worked by this same
 * process. The schema and the queue are made by `migrate.mjs` on deploy, and
 * one maintenance process supervises them, so the web processes do neither.
 */
export function createFollowUps({ databaseUrl, delaySeconds, db, log }) {
  const boss = new PgBoss({ connectionString: databaseUrl, migrate: false, supervise: false, schedule: false, max: 4 })
  boss.on('error', (error) => log.error({ err: error }, 'pg-boss'))

  async function followUp({ ticketId, reason }) {
    await db.transaction(async (client) => {
      await client.query(`INSERT INTO ticket_notes (ticket_id, author, body) VALUES ($1, 'system', $2)`, [
        ticketId,
        `Follow-up due: ${reason}`,
      ])
      await client.query(
        `UPDATE tickets SET status = 'escalated', updated_at = now() WHERE id = $1 AND status IN ('open', 'needs_human')`,
        [ticketId],
      )
    })
    log.info({ ticketId }, 'follow-up done')
  }

  return {
    async start() {
      await boss.start()
      await boss.work(QUEUE, { pollingIntervalSeconds: 1 }, async (jobs) => {
        for (const job of jobs) await followUp(job.data)
      })
    },
    /** @returns {Promise<string | null>} the job's id */
    schedule: (followUpData) => boss.send(QUEUE, followUpData, { startAfter: delaySeconds, retryLimit: 3 }),
    stop: () => boss.stop({ graceful: true, timeout: 5_000 }),
  }
}
