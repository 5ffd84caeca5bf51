import { Logger, makeWorkerUtils, runMigrations, runOnce } from 'graphile-worker'
import pg from 'pg'

const logger = new Logger(() => () => undefined)

/** Makes graphile-worker's own tables. */
export async function seed(url) {
  const pgPool = new pg.Pool({ connectionString: url })
  await runMigrations({ pgPool, logger })
  const utils = await makeWorkerUtils({ pgPool, logger })
  await utils.addJob('greet', { name: 'seeded' })
  await utils.release()
  await pgPool.end()
}

export async function open(url) {
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  return { pool, utils: await makeWorkerUtils({ pgPool: pool, logger }) }
}

export async function close({ pool, utils }) {
  await utils.release()
  await pool.end()
}

export async function use({ pool, utils }, step) {
  await step('addJob', async () => {
    const job = await utils.addJob('greet', { name: 'added' }, { priority: 3 })
    return { task: job?.task_identifier, payload: job?.payload, attempts: job?.attempts }
  })
  await step('runOnce', async () => {
    const greeted = []
    await runOnce({
      pgPool: pool,
      logger,
      noHandleSignals: true,
      taskList: { greet: ({ name }) => void greeted.push(name) },
    })
    return greeted.sort()
  })
  await step('runOnce again', async () => {
    const greeted = []
    await runOnce({
      pgPool: pool,
      logger,
      noHandleSignals: true,
      taskList: { greet: ({ name }) => void greeted.push(name) },
    })
    return greeted
  })
}
