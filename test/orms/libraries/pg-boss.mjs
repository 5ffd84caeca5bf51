import { PgBoss } from 'pg-boss'

/** Makes pg-boss's own tables. */
export async function seed(url) {
  const boss = new PgBoss(url)
  await boss.start()
  await boss.createQueue('mail')
  await boss.send('mail', { n: 1 })
  await boss.stop({ graceful: false })
}

export async function open(url) {
  const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false, migrate: false })
  boss.on('error', () => undefined)
  await boss.start()
  return boss
}
export const close = (boss) => boss.stop({ graceful: false })

export async function use(boss, step) {
  let id
  await step('send', async () => {
    id = await boss.send('mail', { n: 2 })
    return typeof id
  })
  await step('insert', async () => Boolean(await boss.insert('mail', [{ data: { n: 3 } }, { data: { n: 4 } }])) || true)
  await step('singleton', async () => typeof (await boss.send('mail', { n: 5 }, { singletonKey: 'one' })))
  await step('cancel', async () => {
    await boss.cancel('mail', id)
    return 'cancelled'
  })
  await step('deleteJob', async () => {
    await boss.deleteJob('mail', id)
    return 'deleted'
  })
}
