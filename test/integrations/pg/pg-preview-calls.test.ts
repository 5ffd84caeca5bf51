import pg from 'pg'
import { expect, it } from 'vitest'
import { client, live, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg()

postgresWorld(`
  CREATE TABLE numbered (id serial, v text);
  CREATE FUNCTION taking() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(77); RETURN 1; END';
`)

const cell = async (text: string) => (await live.query({ text, rowMode: 'array' })).rows[0]?.[0]

// How many rows a source gives decides how many ids are made up: counting them must not call what the write would.
it('a source is not counted where it ends another connection', async () => {
  const other = new pg.Client(server.url)
  other.on('error', () => {})
  await other.connect()
  try {
    const pid = (await other.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    await dry(() => client.query(`INSERT INTO numbered (v) SELECT pg_terminate_backend(${pid})::text`))
    expect(takeEffects()[0]).toMatchObject({ outcome: 'blocked', preview: { method: 'synthesized' } })
    expect((await other.query('SELECT 1 AS alive')).rows).toEqual([{ alive: 1 }])
  } finally {
    await other.end().catch(() => {})
  }
})

it('nor where a function takes a lock that outlives the transaction', async () => {
  await dry(() => client.query('INSERT INTO numbered (v) SELECT taking()::text'))
  expect(takeEffects()[0]).toMatchObject({ outcome: 'blocked', preview: { method: 'synthesized' } })
  expect(await cell("SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'")).toBe(0)
})
