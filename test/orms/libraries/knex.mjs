import knex from 'knex'

export const open = (url) => knex({ client: 'pg', connection: url, pool: { min: 0, max: 4 } })
export const close = (db) => db.destroy()

export async function use(db, step) {
  let user
  await step('insert returning', async () => {
    ;[user] = await db('users').insert({ email: 'k@example.com', name: 'K' }).returning('*')
    return { ...user, id: typeof user.id }
  })
  await step('read what was inserted', () => db('users').where({ id: user.id }).first('email', 'balance'))
  await step('update', () =>
    db('users')
      .where({ id: user.id })
      .update({ balance: db.raw('balance + ?', [7]) }),
  )
  await step('increment', () => db('users').where('id', '<=', 3).increment('balance', 5))
  await step('aggregate', () => db('users').sum('balance as total').count('* as n').first())
  await step('upsert', () =>
    db('users')
      .insert([
        { email: 'k@example.com', name: 'again' },
        { email: 'u1@example.com', name: 'again' },
        { email: 'fresh@example.com', name: 'fresh' },
      ])
      .onConflict('email')
      .merge(['name'])
      .returning(['email', 'name', 'balance']),
  )
  await step('insert into a child and join', async () => {
    await db('posts').insert({ user_id: user.id, title: 'mine', meta: { a: 1 }, tags: ['x', 'y'] })
    return db('posts')
      .join('users', 'users.id', 'posts.user_id')
      .where('users.id', user.id)
      .select('title', 'email', 'tags', 'meta')
  })
  await step('transaction rolled back', () =>
    db
      .transaction(async (trx) => {
        await trx('users').where({ id: user.id }).update({ name: 'undone' })
        throw new Error('undo')
      })
      .catch(async (error) => [error.message, await db('users').where({ id: user.id }).first('name')]),
  )
  await step('transaction with a savepoint', () =>
    db.transaction(async (trx) => {
      const { balance } = await trx('users').where({ id: 2 }).forUpdate().first('balance')
      await trx('users')
        .where({ id: 2 })
        .update({ balance: balance + 1 })
      await trx
        .transaction(async (inner) => {
          await inner('users').where({ id: 2 }).update({ balance: 0 })
          throw new Error('undo')
        })
        .catch(() => undefined)
      return trx('users').where({ id: 2 }).first('balance')
    }),
  )
  await step('unique violation', () => db('users').insert({ email: 'u2@example.com', name: 'twice' }))
  await step('check violation', () => db('users').where({ id: 1 }).update({ balance: -1 }))
  await step('stream', async () => {
    const names = []
    for await (const row of db('users').orderBy('email').select('name').stream()) names.push(row.name)
    return names
  })
  await step('delete with cascade', () => db('users').where({ id: 1 }).delete())
  await step('what is left', async () => [await db('users').count().first(), await db('posts').count().first()])
}
