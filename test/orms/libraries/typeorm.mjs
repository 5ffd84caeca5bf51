import 'reflect-metadata'
import { DataSource, EntitySchema } from 'typeorm'

const User = new EntitySchema({
  name: 'User',
  tableName: 'users',
  columns: {
    id: { type: Number, primary: true, generated: true },
    email: { type: 'text', unique: true },
    name: { type: 'text' },
    balance: { type: Number, default: 0 },
  },
  relations: { posts: { type: 'one-to-many', target: 'Post', inverseSide: 'user', cascade: true } },
})
const Post = new EntitySchema({
  name: 'Post',
  tableName: 'posts',
  columns: {
    id: { type: Number, primary: true, generated: true },
    title: { type: 'text' },
    meta: { type: 'jsonb', nullable: true },
    tags: { type: 'text', array: true, default: [] },
  },
  relations: { user: { type: 'many-to-one', target: 'User', joinColumn: { name: 'user_id' }, inverseSide: 'posts' } },
})

class Migration1700000000000 {
  async up(runner) {
    await runner.query('CREATE TABLE migrated (id serial PRIMARY KEY, v text)')
  }
  async down() {}
}

export const open = (url) =>
  new DataSource({
    type: 'postgres',
    url,
    entities: [User, Post],
    migrations: [Migration1700000000000],
    poolSize: 4,
  }).initialize()
export const close = (db) => db.destroy()

export async function use(db, step) {
  const users = db.getRepository(User)
  const posts = db.getRepository(Post)
  let user
  await step('save', async () => {
    user = await users.save({
      email: 'k@example.com',
      name: 'K',
      posts: [{ title: 'nested', tags: ['x'], meta: { a: 1 } }],
    })
    return { email: user.email, balance: user.balance, id: typeof user.id, post: typeof user.posts[0].id }
  })
  await step('read what was saved', () =>
    users
      .find({
        where: { id: user.id },
        relations: { posts: true },
        select: { email: true, posts: { title: true, tags: true } },
      })
      .then((found) => found.map(({ email, posts }) => [email, posts.map(({ title, tags }) => [title, tags])])),
  )
  await step('save again', async () => {
    user.balance = 7
    await users.save(user)
    return (await users.findOneBy({ id: user.id })).balance
  })
  await step('update', async () => (await users.update({ name: 'User 2' }, { name: 'two' })).affected)
  await step('increment', async () => (await users.increment({ id: 3 }, 'balance', 4)).affected)
  await step('upsert', async () => {
    await users.upsert(
      [
        { email: 'u3@example.com', name: 'again' },
        { email: 'fresh@example.com', name: 'fresh' },
      ],
      ['email'],
    )
    return (await users.find({ order: { email: 'ASC' } })).map(({ name, balance }) => [name, balance])
  })
  await step(
    'query builder',
    async () =>
      (
        await db
          .createQueryBuilder()
          .update(User)
          .set({ balance: () => 'balance * 2' })
          .where('id IN (:...ids)', { ids: [2, 3] })
          .returning(['name', 'balance'])
          .execute()
      ).raw,
  )
  await step('transaction rolled back', async () => {
    const error = await db
      .transaction('SERIALIZABLE', async (manager) => {
        await manager.update(User, { id: user.id }, { name: 'undone' })
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, (await users.findOneBy({ id: user.id })).name]
  })
  await step('unique violation', () => users.insert({ email: 'u2@example.com', name: 'twice' }))
  await step('remove with cascade', async () => (await users.delete({ id: 1 })).affected)
  await step('what is left', async () => [await users.count(), await posts.count()])
  await step('migrations', async () => (await db.runMigrations()).map(({ name }) => name))
}
