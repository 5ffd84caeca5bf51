import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import Cursor from 'pg-cursor'

export const open = (url) =>
  new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url, max: 4 }), cursor: Cursor }) })
export const close = (db) => db.destroy()

export async function use(db, step) {
  let user
  await step('insert returning', async () => {
    user = await db
      .insertInto('users')
      .values({ email: 'k@example.com', name: 'K' })
      .returningAll()
      .executeTakeFirstOrThrow()
    return { ...user, id: typeof user.id }
  })
  await step('read what was inserted', () =>
    db.selectFrom('users').select(['email', 'balance']).where('id', '=', user.id).execute(),
  )
  await step('update', async () => {
    const { numUpdatedRows } = await db
      .updateTable('users')
      .set({ balance: sql`balance + 7` })
      .where('id', '=', user.id)
      .executeTakeFirst()
    return Number(numUpdatedRows)
  })
  await step('upsert', () =>
    db
      .insertInto('users')
      .values([
        { email: 'k@example.com', name: 'again' },
        { email: 'fresh@example.com', name: 'fresh' },
      ])
      .onConflict((oc) => oc.column('email').doUpdateSet({ name: (eb) => eb.ref('excluded.name') }))
      .returning(['email', 'name', 'balance'])
      .execute(),
  )
  await step('insert into a child and join', async () => {
    await db
      .insertInto('posts')
      .values({ user_id: user.id, title: 'mine', meta: { a: 1 }, tags: ['x', 'y'] })
      .execute()
    return db
      .selectFrom('posts')
      .innerJoin('users', 'users.id', 'posts.user_id')
      .where('users.id', '=', user.id)
      .select(['title', 'email', 'tags', 'meta'])
      .execute()
  })
  await step('update from', async () => {
    const { numUpdatedRows } = await db
      .updateTable('posts')
      .from('users')
      .set({ title: sql`users.name || ': ' || posts.title` })
      .whereRef('users.id', '=', 'posts.user_id')
      .where('users.id', 'in', [3, user.id])
      .executeTakeFirst()
    return [
      Number(numUpdatedRows),
      await db.selectFrom('posts').select('title').where('user_id', '=', user.id).execute(),
    ]
  })
  await step('with', () =>
    db
      .with('gone', (qb) => qb.deleteFrom('posts').where('user_id', '=', 4).returning('title'))
      .selectFrom('gone')
      .select('title')
      .orderBy('title')
      .execute(),
  )
  await step('transaction rolled back', async () => {
    const error = await db
      .transaction()
      .execute(async (trx) => {
        await trx.updateTable('users').set({ name: 'undone' }).where('id', '=', user.id).execute()
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, await db.selectFrom('users').select('name').where('id', '=', user.id).execute()]
  })
  await step('unique violation', () =>
    db.insertInto('users').values({ email: 'u2@example.com', name: 'twice' }).execute(),
  )
  await step('stream', async () => {
    const names = []
    for await (const row of db.selectFrom('users').select('name').orderBy('email').stream(2)) names.push(row.name)
    return names
  })
  await step('delete with cascade', async () =>
    Number((await db.deleteFrom('users').where('id', '=', 1).executeTakeFirst()).numDeletedRows),
  )
  await step('what is left', () =>
    db
      .selectFrom([
        db.selectFrom('users').select(db.fn.countAll().as('users')).as('u'),
        db.selectFrom('posts').select(db.fn.countAll().as('posts')).as('p'),
      ])
      .selectAll()
      .execute(),
  )
}
