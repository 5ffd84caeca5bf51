import { readFile } from 'node:fs/promises'
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { QUEUE } from './follow-ups.mjs'

/** What a deploy runs once: the tables with their seed data, the job tables and the queue. */
export async function migrate(connectionString) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query(await readFile(new URL('./schema.sql', import.meta.url), 'utf8'))
  } finally {
    await client.end()
  }

  const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
  await boss.start()
  await boss.createQueue(QUEUE)
  await boss.stop()
}
