import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import type { Guard } from '../../../src/guard/guard.js'
import { pgBossIntegration } from '../../../src/integrations/pg-boss/pg-boss.js'
import { startPostgres } from '../../support/postgres.js'

/** A pg-boss on a real Postgres, and what its tables hold. */
export interface BossServer {
  readonly url: string
  /** A started boss with neither maintenance nor cron, so that tables change by the test's calls only. */
  boss(): Promise<PgBoss>
  /** Every row pg-boss keeps, as text. */
  tables(): Promise<string>
  jobs(queue: string): Promise<{ id: string; state: string; data: unknown; output: unknown }[]>
  close(): Promise<void>
}

export async function startBossServer(): Promise<BossServer> {
  const postgres = await startPostgres()
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  const bosses: PgBoss[] = []
  const rows = async (sql: string, values: unknown[] = []) => (await client.query(sql, values)).rows
  return {
    url: postgres.url,
    async boss() {
      const boss = new PgBoss({ connectionString: postgres.url, supervise: false, schedule: false, max: 4 })
      boss.on('error', () => {})
      bosses.push(boss)
      return await boss.start()
    },
    async tables() {
      const tables = await rows(
        `select table_name as name from information_schema.tables where table_schema = 'pgboss' and table_type = 'BASE TABLE' order by 1`,
      )
      const content: unknown[] = []
      for (const { name } of tables) {
        content.push([
          name,
          await rows(`select to_jsonb(t) - 'maintained_on' - 'monitor_on' as row from pgboss.${name} t order by 1`),
        ])
      }
      return JSON.stringify(content)
    },
    jobs: (queue) =>
      rows('select id, state, data, output from pgboss.job where name = $1 order by created_on, id', [queue]),
    async close() {
      await Promise.all(bosses.map((boss) => boss.stop({ graceful: false }).catch(() => {})))
      await client.end()
      await postgres.stop()
    },
  }
}

/** What the loader does, done by hand: the child-process tests cover the loader. */
export async function patchPgBoss(guard: Guard): Promise<void> {
  const file = createRequire(import.meta.url).resolve('pg-boss')
  const Attorney: unknown = await import(pathToFileURL(path.join(path.dirname(file), 'attorney.js')).href)
  for (const target of pgBossIntegration.targets)
    target.patch({ PgBoss, Attorney }, guard, { file, version: '12.35.0' })
}
