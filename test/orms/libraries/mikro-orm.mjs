import { EntitySchema, MikroORM } from '@mikro-orm/postgresql'

const User = new EntitySchema({
  name: 'User',
  tableName: 'users',
  properties: {
    id: { type: 'integer', primary: true, autoincrement: true },
    email: { type: 'text', unique: true },
    name: { type: 'text' },
    balance: { type: 'integer', default: 0 },
    posts: { kind: '1:m', entity: () => Post, mappedBy: 'user' },
  },
})
const Post = new EntitySchema({
  name: 'Post',
  tableName: 'posts',
  properties: {
    id: { type: 'integer', primary: true, autoincrement: true },
    title: { type: 'text' },
    meta: { type: 'json', nullable: true },
    tags: { type: 'array', default: [] },
    user: { kind: 'm:1', entity: () => User, fieldName: 'user_id' },
  },
})

export const open = (url) =>
  MikroORM.init({ entities: [User, Post], clientUrl: url, dbName: new URL(url).pathname.slice(1), pool: { max: 4 } })
export const close = (orm) => orm.close(true)

export async function use(orm, step) {
  let id
  await step('persist and flush', async () => {
    const em = orm.em.fork()
    const user = em.create(User, { email: 'k@example.com', name: 'K', balance: 0 })
    em.create(Post, { title: 'nested', tags: ['x'], meta: { a: 1 }, user })
    await em.flush()
    id = user.id
    return { id: typeof id, email: user.email }
  })
  await step('read what was persisted', async () => {
    const user = await orm.em.fork().findOneOrFail(User, { id }, { populate: ['posts'] })
    return [user.email, user.posts.getItems().map(({ title, tags, meta }) => [title, tags, meta])]
  })
  await step('change tracking', async () => {
    const em = orm.em.fork()
    for (const user of await em.find(User, { id: { $in: [2, 3, id] } })) user.balance += 5
    await em.flush()
    return (await orm.em.fork().find(User, {}, { orderBy: { email: 'asc' } })).map(({ balance }) => balance)
  })
  await step('nativeUpdate', () => orm.em.fork().nativeUpdate(User, { id }, { name: 'native' }))
  await step('upsert', async () => {
    const user = await orm.em.fork().upsert(User, { email: 'u3@example.com', name: 'again' })
    return [user.name, user.balance]
  })
  await step('transaction rolled back', async () => {
    const error = await orm.em
      .fork()
      .transactional(async (em) => {
        await em.nativeUpdate(User, { id }, { name: 'undone' })
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, (await orm.em.fork().findOneOrFail(User, { id })).name]
  })
  await step('unique violation', () =>
    orm.em.fork().insert(User, { email: 'u2@example.com', name: 'twice', balance: 0 }),
  )
  await step('remove with cascade', () => orm.em.fork().nativeDelete(User, { id: 1 }))
  await step('what is left', async () => [await orm.em.fork().count(User), await orm.em.fork().count(Post)])
}
