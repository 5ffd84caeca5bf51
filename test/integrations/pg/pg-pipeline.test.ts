import type { Client } from 'pg'
import Cursor from 'pg-cursor'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { code } from '../../support/error-code.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { pg, dry, takeEffects } = guardPg()

let client: Client
let other: Client

observedPostgres()

beforeAll(async () => {
  client = new pg.Client({ connectionString: server.url, pipeline: true } as never)
  other = new pg.Client({ connectionString: server.url, pipeline: true } as never)
  await Promise.all([client.connect(), other.connect()])
})

afterAll(async () => {
  await Promise.all([client?.end(), other?.end()])
})

beforeEach(async () => {
  takeEffects()
  await observer.query('DROP TABLE IF EXISTS mark; CREATE TABLE mark (id int PRIMARY KEY, who text)')
})

const marks = async () =>
  (await observer.query('SELECT id, who FROM mark ORDER BY id')).rows as { id: number; who: string }[]

it('live queries around a dry one are answered in order, each with its own rows', async () => {
  const answers = await Promise.all([
    client.query('SELECT 1 AS n'),
    client.query("INSERT INTO mark VALUES (1, 'live') RETURNING id AS n"),
    dry(() => client.query("INSERT INTO mark VALUES (2, 'dry') RETURNING id AS n")),
    dry(() => client.query('SELECT 3 AS n')),
    client.query("INSERT INTO mark VALUES (4, 'live') RETURNING id AS n"),
    dry(() => client.query('SELECT $1::int AS n', [5])),
    client.query('SELECT 6 AS n'),
  ])
  expect(answers.map(({ rows }) => rows[0].n)).toEqual([1, 1, 2, 3, 4, 5, 6])
  expect(await marks()).toEqual([
    { id: 1, who: 'live' },
    { id: 4, who: 'live' },
  ])
  expect(Reflect.get(client, '_pulseQueryQueue')).toBe(Reflect.get(Object.getPrototypeOf(client), '_pulseQueryQueue'))
  expect(client).toHaveProperty('pipeline', true)
})

it('mixed traffic on two clients loses no live write and leaks no dry one', async () => {
  const calls: Promise<unknown>[] = []
  for (let n = 0; n < 300; n++) {
    const on = n % 2 ? client : other
    const insert = (who: string) => on.query('INSERT INTO mark VALUES ($1, $2)', [n, who])
    calls.push(n % 3 === 0 ? dry(() => insert('dry')) : insert('live'))
    if (n % 17 === 0) await Promise.all(calls.splice(0))
  }
  await Promise.all(calls)
  const expected = Array.from({ length: 300 }, (_, id) => ({ id, who: 'live' })).filter(({ id }) => id % 3 !== 0)
  expect(await marks()).toEqual(expected)
})

it('an error fails its own query only', async () => {
  const codes = await Promise.all([
    code(client.query('SELECT live_error')),
    code(dry(() => client.query('SELECT dry_error'))),
    code(client.query("INSERT INTO mark VALUES (1, 'live')")),
    code(dry(() => client.query({ text: 'SELECT $1', values: 5 } as never))),
    code(dry(() => client.query("INSERT INTO mark VALUES (1, 'dry')"))),
  ])
  expect(codes).toEqual(['42703', '42703', 'ok', undefined, '23505'])
  expect(await marks()).toEqual([{ id: 1, who: 'live' }])
})

it('a dry transaction keeps to itself', async () => {
  await dry(async () => {
    await Promise.all([
      client.query('BEGIN'),
      client.query("INSERT INTO mark VALUES (1, 'dry')"),
      client.query('COMMIT'),
    ])
    expect((await client.query('SELECT who FROM mark')).rows).toEqual([{ who: 'dry' }])
  })
  await client.query("INSERT INTO mark VALUES (1, 'live')")
  expect(await marks()).toEqual([{ id: 1, who: 'live' }])
})

it('named statements are parsed once, dry or live', async () => {
  const named = (id: number) => ({ name: 'mark', text: 'INSERT INTO mark VALUES ($1, $2)', values: [id, 'x'] })
  await Promise.all([client.query(named(1)), dry(() => client.query(named(2))), client.query(named(3))])
  await Promise.all([dry(() => client.query(named(4))), client.query(named(5))])
  expect((await marks()).map(({ id }) => id)).toEqual([1, 3, 5])
})

it('ends only when everything is answered', async () => {
  const brief = new pg.Client({ connectionString: server.url, pipeline: true } as never)
  await brief.connect()
  const answers = [
    brief.query("INSERT INTO mark VALUES (1, 'live')"),
    dry(() => brief.query('SELECT 1')),
    brief.query('SELECT 2'),
  ]
  await brief.end()
  expect((await Promise.all(answers)).map(({ rowCount }) => rowCount)).toEqual([1, 1, 1])
})

it('cursors are refused by pg itself, as live', async () => {
  const cursor = dry(() => client.query(new Cursor('SELECT 1')))
  await expect(new Promise((_, reject) => cursor.on('error', reject))).rejects.toThrow(/pipeline mode/)
})
