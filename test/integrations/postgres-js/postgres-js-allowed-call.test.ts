import type { Sql } from 'postgres'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { guardPostgres } from './dry-postgres.js'

const { postgres, dry, takeEffects } = guardPostgres({
  rules: [
    {
      name: 'calls',
      match: { system: 'postgresql', operation: 'CALL' },
      verdict: 'allow',
      owner: 'growth',
      reason: 'append-only counter',
      expires: '2999-01-01',
    },
  ],
})

let sql: Sql

observedPostgres(`
  CREATE TABLE views (page text);
  CREATE PROCEDURE seen(page text) LANGUAGE sql AS 'INSERT INTO views VALUES (page)';
`)

beforeAll(() => {
  sql = postgres(server.url, { max: 1, onnotice() {} })
})

afterAll(async () => {
  await sql?.end({ timeout: 5 })
})

it('a rule lets CALL through both locks', async () => {
  await dry(() => sql`CALL seen('/')`)
  expect((await observer.query('SELECT page FROM views')).rows).toEqual([{ page: '/' }])
  expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'write', rule: 'calls', target: 'seen' }])
})
