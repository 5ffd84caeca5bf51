import pgPromise from 'pg-promise'

const pgp = pgPromise()

export const open = (url) => pgp({ connectionString: url, max: 4 })
export const close = (db) => db.$pool.end()

export async function use(db, step) {
  let user
  await step('insert returning', async () => {
    user = await db.one('INSERT INTO users ($<this:name>) VALUES ($<this:csv>) RETURNING *', {
      email: 'k@example.com',
      name: 'K',
    })
    return { ...user, id: typeof user.id }
  })
  await step('read what was inserted', () => db.one('SELECT email, balance FROM users WHERE id = $1', user.id))
  await step('update', () =>
    db.result('UPDATE users SET balance = balance + 7 WHERE id = $1', user.id, ({ rowCount }) => rowCount),
  )
  await step('multi', () =>
    db.multi('SELECT count(*) FROM users; UPDATE users SET name = name WHERE id = 2 RETURNING name'),
  )
  await step('bulk insert', () => {
    const rows = [1, 2, 3].map((n) => ({ user_id: user.id, title: `mine ${n}` }))
    return db.many(`${pgp.helpers.insert(rows, ['user_id', 'title'], 'posts')} RETURNING title, tags`)
  })
  await step('batch in a task', () =>
    db.task((t) =>
      t.batch([t.one('SELECT count(*)::int AS n FROM posts'), t.none("UPDATE users SET name = 'b' WHERE id = 3")]),
    ),
  )
  await step('prepared statement', () =>
    db.one(
      new pgp.PreparedStatement({
        name: 'p',
        text: 'UPDATE users SET balance = balance + $1 WHERE id = 3 RETURNING name, balance',
        values: [4],
      }),
    ),
  )
  await step('transaction rolled back', async () => {
    const error = await db
      .tx(async (t) => {
        await t.none("UPDATE users SET name = 'undone' WHERE id = $1", user.id)
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, await db.one('SELECT name FROM users WHERE id = $1', user.id)]
  })
  await step('nested transaction', () =>
    db.tx(async (t) => {
      await t.none('UPDATE users SET balance = 1000 WHERE id = 2')
      await t.tx((inner) => inner.none('UPDATE users SET balance = -1 WHERE id = 2')).catch(() => undefined)
      return t.one('SELECT balance FROM users WHERE id = 2')
    }),
  )
  await step('unique violation', () => db.none("INSERT INTO users (email, name) VALUES ('u2@example.com', 'twice')"))
  await step('delete with cascade', () => db.result('DELETE FROM users WHERE id = 1', [], ({ rowCount }) => rowCount))
  await step('what is left', () =>
    db.one('SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM posts) AS posts'),
  )
}
