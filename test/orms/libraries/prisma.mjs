import { PrismaPg } from '@prisma/adapter-pg'
import prisma from '../.generated/prisma/index.js'

export const open = (url) => new prisma.PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 4 }) })
export const close = (db) => db.$disconnect()

export async function use(db, step) {
  let user
  await step('create', async () => {
    user = await db.user.create({ data: { email: 'k@example.com', name: 'K' } })
    return { ...user, id: typeof user.id }
  })
  await step('read what was created', () =>
    db.user.findUnique({ where: { id: user.id }, select: { email: true, balance: true } }),
  )
  await step('nested create', () =>
    db.user.create({
      data: {
        email: 'n@example.com',
        name: 'N',
        posts: {
          create: [
            { title: 'one', tags: ['x'], meta: { a: 1 } },
            { title: 'two', tags: [] },
          ],
        },
      },
      select: { email: true, posts: { select: { title: true, tags: true, meta: true }, orderBy: { title: 'asc' } } },
    }),
  )
  await step('update', () =>
    db.user.update({ where: { id: user.id }, data: { balance: { increment: 7 } }, select: { balance: true } }),
  )
  await step('updateMany', () => db.user.updateMany({ where: { balance: { gte: 30 } }, data: { name: 'rich' } }))
  await step('upsert', () =>
    db.user.upsert({
      where: { email: 'u3@example.com' },
      create: { email: 'u3@example.com', name: 'no' },
      update: { name: 'again' },
      select: { name: true, balance: true },
    }),
  )
  await step('createMany', () =>
    db.post.createMany({ data: [1, 2].map((n) => ({ userId: user.id, title: `mine ${n}` })) }),
  )
  await step('include', () =>
    db.user.findMany({
      where: { id: { in: [2, user.id] } },
      select: { name: true, _count: { select: { posts: true } } },
      orderBy: { email: 'asc' },
    }),
  )
  await step('transaction', () =>
    db.$transaction(async (tx) => {
      await tx.user.update({ where: { id: 2 }, data: { balance: 1 } })
      return tx.user.findUnique({ where: { id: 2 }, select: { balance: true } })
    }),
  )
  await step('transaction rolled back', async () => {
    const error = await db
      .$transaction(async (tx) => {
        await tx.user.update({ where: { id: user.id }, data: { name: 'undone' } })
        throw new Error('undo')
      })
      .catch(({ message }) => message)
    return [error, (await db.user.findUnique({ where: { id: user.id } })).name]
  })
  await step('unique violation', () => db.user.create({ data: { email: 'u2@example.com', name: 'twice' } }))
  await step('raw', () => db.$executeRaw`UPDATE users SET name = 'raw' WHERE id = ${user.id}`)
  await step('delete with cascade', () => db.user.delete({ where: { id: 1 }, select: { email: true } }))
  await step('what is left', async () => [await db.user.count(), await db.post.count()])
}
