import { DataTypes, Sequelize } from 'sequelize'

export function open(url) {
  const db = new Sequelize(url, { logging: false, pool: { max: 4 }, define: { timestamps: false } })
  const User = db.define(
    'User',
    { email: DataTypes.TEXT, name: DataTypes.TEXT, balance: DataTypes.INTEGER },
    { tableName: 'users' },
  )
  const Post = db.define(
    'Post',
    {
      title: DataTypes.TEXT,
      meta: DataTypes.JSONB,
      tags: DataTypes.ARRAY(DataTypes.TEXT),
      userId: { type: DataTypes.INTEGER, field: 'user_id' },
    },
    { tableName: 'posts' },
  )
  User.hasMany(Post, { foreignKey: 'userId', as: 'posts' })
  return { db, User, Post }
}
export const close = ({ db }) => db.close()

export async function use({ db, User, Post }, step) {
  let user
  await step('create', async () => {
    user = await User.create({ email: 'k@example.com', name: 'K', balance: 0 })
    return { ...user.get(), id: typeof user.id }
  })
  await step('read what was created', async () => (await User.findByPk(user.id))?.email)
  await step('save', async () => {
    user.balance = 7
    await user.save()
    return (await User.findByPk(user.id)).balance
  })
  await step('update', () => User.update({ name: 'many' }, { where: { id: [2, 3] } }))
  await step('increment', async () => {
    await User.increment('balance', { by: 5, where: { id: 2 } })
    return (await User.findByPk(2)).balance
  })
  await step('upsert', async () => {
    const [row] = await User.upsert(
      { email: 'u3@example.com', name: 'again', balance: 1 },
      { conflictFields: ['email'] },
    )
    return [row.name, row.balance]
  })
  await step('findOrCreate of what is there', async () => {
    const [row, created] = await User.findOrCreate({ where: { email: 'u4@example.com' }, defaults: { name: 'no' } })
    return [row.name, created]
  })
  await step('findOrCreate of something new', async () => {
    const [row, created] = await User.findOrCreate({ where: { email: 'new@example.com' }, defaults: { name: 'yes' } })
    return [row.name, created]
  })
  await step('bulkCreate', async () => {
    const rows = await Post.bulkCreate(
      [1, 2].map((n) => ({ title: `mine ${n}`, userId: user.id, tags: ['x'], meta: { n } })),
    )
    return rows.map(({ title, tags, meta }) => ({ title, tags, meta }))
  })
  await step('include', async () => {
    const found = await User.findOne({ where: { id: user.id }, include: 'posts', order: [['posts', 'title', 'ASC']] })
    return found.posts.map(({ title }) => title)
  })
  await step('transaction rolled back', async () => {
    const error = await db
      .transaction(async (transaction) => {
        await User.update({ name: 'undone' }, { where: { id: user.id }, transaction })
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, (await User.findByPk(user.id)).name]
  })
  await step('unique violation', () => User.create({ email: 'u2@example.com', name: 'twice', balance: 0 }))
  await step('destroy with cascade', () => User.destroy({ where: { id: 1 } }))
  await step('what is left', async () => [await User.count(), await Post.count()])
}
