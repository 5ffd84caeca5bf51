import { and, eq, lte, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, jsonb, pgTable, serial, text } from 'drizzle-orm/pg-core'
import pg from 'pg'

const users = pgTable('users', {
  id: serial().primaryKey(),
  email: text().notNull().unique(),
  name: text().notNull(),
  balance: integer().notNull().default(0),
})
const posts = pgTable('posts', {
  id: serial().primaryKey(),
  userId: integer('user_id').notNull(),
  title: text().notNull(),
  meta: jsonb(),
  tags: text().array().notNull().default([]),
})

export const open = (url) => {
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  return { pool, db: drizzle(pool) }
}
export const close = ({ pool }) => pool.end()

export async function use({ db }, step) {
  let user
  await step('insert returning', async () => {
    ;[user] = await db.insert(users).values({ email: 'k@example.com', name: 'K' }).returning()
    return { ...user, id: typeof user.id }
  })
  await step('read what was inserted', () =>
    db.select({ email: users.email, balance: users.balance }).from(users).where(eq(users.id, user.id)),
  )
  await step(
    'update',
    async () =>
      (
        await db
          .update(users)
          .set({ balance: sql`${users.balance} + 7` })
          .where(eq(users.id, user.id))
      ).rowCount,
  )
  await step('update returning', () =>
    db
      .update(users)
      .set({ name: sql`upper(${users.name})` })
      .where(and(lte(users.id, 3)))
      .returning({ name: users.name }),
  )
  await step('upsert', () =>
    db
      .insert(users)
      .values([
        { email: 'k@example.com', name: 'again' },
        { email: 'fresh@example.com', name: 'fresh' },
      ])
      .onConflictDoUpdate({ target: users.email, set: { name: sql`excluded.name` } })
      .returning({ email: users.email, name: users.name, balance: users.balance }),
  )
  await step('insert into a child and join', async () => {
    await db.insert(posts).values({ userId: user.id, title: 'mine', meta: { a: 1 }, tags: ['x', 'y'] })
    return db
      .select({ title: posts.title, email: users.email, tags: posts.tags, meta: posts.meta })
      .from(posts)
      .innerJoin(users, eq(users.id, posts.userId))
      .where(eq(users.id, user.id))
  })
  await step('transaction rolled back', async () => {
    const error = await db
      .transaction(async (tx) => {
        await tx.update(users).set({ name: 'undone' }).where(eq(users.id, user.id))
        tx.rollback()
      })
      .catch(({ name }) => name)
    return [error, await db.select({ name: users.name }).from(users).where(eq(users.id, user.id))]
  })
  await step('transaction with a savepoint', () =>
    db.transaction(async (tx) => {
      const [{ balance }] = await tx.select().from(users).where(eq(users.id, 2)).for('update')
      await tx
        .update(users)
        .set({ balance: balance + 1 })
        .where(eq(users.id, 2))
      await tx
        .transaction(async (inner) => {
          await inner.update(users).set({ balance: 0 }).where(eq(users.id, 2))
          inner.rollback()
        })
        .catch(() => undefined)
      return tx.select({ balance: users.balance }).from(users).where(eq(users.id, 2))
    }),
  )
  await step('unique violation', () => db.insert(users).values({ email: 'u2@example.com', name: 'twice' }))
  await step('delete with cascade', async () => (await db.delete(users).where(eq(users.id, 1))).rowCount)
  await step('what is left', async () => [await db.$count(users), await db.$count(posts)])
}
