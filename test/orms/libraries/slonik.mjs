import { createPool, sql } from 'slonik'

export const open = (url) => createPool(url, { maximumPoolSize: 4 })
export const close = (pool) => pool.end()

export async function use(pool, step) {
  let id
  await step('insert returning', async () => {
    const user = await pool.one(sql.unsafe`INSERT INTO users (email, name) VALUES ('k@example.com', 'K') RETURNING *`)
    id = user.id
    return { ...user, id: typeof id }
  })
  await step('read what was inserted', () => pool.one(sql.unsafe`SELECT email, balance FROM users WHERE id = ${id}`))
  await step(
    'update',
    async () => (await pool.query(sql.unsafe`UPDATE users SET balance = balance + 7 WHERE id = ${id}`)).rowCount,
  )
  await step('unnest', async () =>
    pool.any(
      sql.unsafe`INSERT INTO posts (user_id, title) SELECT * FROM ${sql.unnest(
        [
          [id, 'a'],
          [id, 'b'],
        ],
        ['int4', 'text'],
      )} RETURNING title`,
    ),
  )
  await step('transaction rolled back', async () => {
    const error = await pool
      .transaction(async (tx) => {
        await tx.query(sql.unsafe`UPDATE users SET name = 'undone' WHERE id = ${id}`)
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, await pool.oneFirst(sql.unsafe`SELECT name FROM users WHERE id = ${id}`)]
  })
  await step('unique violation', () =>
    pool.query(sql.unsafe`INSERT INTO users (email, name) VALUES ('u2@example.com', 'twice')`),
  )
  await step('delete with cascade', async () => (await pool.query(sql.unsafe`DELETE FROM users WHERE id = 1`)).rowCount)
  await step('what is left', () =>
    pool.one(sql.unsafe`SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM posts) AS posts`),
  )
}
