import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { describeContract, type World } from '../../support/contract.js'
import { startPostgres } from '../../support/postgres.js'

async function startWorld(): Promise<World> {
  const server = await startPostgres()
  const boss = new PgBoss({ connectionString: server.url, supervise: false, schedule: false })
  boss.on('error', () => {})
  await boss.start()
  await boss.createQueue('work')
  await boss.stop({ graceful: false })
  const admin = new pg.Client(server.url)
  await admin.connect()
  return {
    env: { DATABASE_URL: server.url },
    async state() {
      const jobs = await admin.query('select id, name, data, state from pgboss.job order by id')
      const schedules = await admin.query('select name, cron from pgboss.schedule order by name')
      const queues = await admin.query('select name, policy from pgboss.queue order by name')
      return { jobs: jobs.rows, schedules: schedules.rows, queues: queues.rows }
    },
    async stop() {
      await admin.end()
      await server.stop()
    },
  }
}

describeContract({
  name: 'pg-boss',
  system: 'pg-boss',
  startWorld,
  setup: `
    const { PgBoss } = await load('pg-boss')
    const boss = new PgBoss({ connectionString: env.DATABASE_URL, supervise: false, schedule: false, migrate: false })
    boss.on('error', () => {})
    await boss.start()
    let queues = 0
  `,
  reads: {
    getQueue: `boss.getQueue('work').then(({ name, policy }) => ({ name, policy }))`,
    'a job that is not there': `boss.getJobById('work', '00000000-0000-4000-8000-000000000000')`,
  },
  writes: {
    send: `boss.send('work', { a: 1 })`,
    'send by object': `boss.send({ name: 'work', data: { a: 2 } })`,
    sendAfter: `boss.sendAfter('work', { a: 3 }, {}, 60)`,
    insert: `boss.insert('work', [{ data: { a: 4 } }, { data: { a: 5 } }])`,
    schedule: `boss.schedule('work', '0 0 * * *', { a: 6 })`,
    createQueue: `boss.createQueue('made-up-' + process.pid + '-' + queues++)`,
  },
  teardown: `await boss.stop({ graceful: false })`,
})
