import { beforeEach, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'

const { dry, takeEffects } = guardPg({
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

postgresWorld(`
  CREATE TABLE views (page text);
  CREATE PROCEDURE seen(page text) LANGUAGE sql AS 'INSERT INTO views VALUES (page)';
  CREATE PROCEDURE commits(page text) LANGUAGE plpgsql AS 'BEGIN INSERT INTO views VALUES (page); COMMIT; END';
  CREATE PROCEDURE silent(page text) LANGUAGE plpgsql AS
    'BEGIN INSERT INTO views VALUES (page); EXCEPTION WHEN others THEN NULL; END';
`)

beforeEach(async () => {
  await live.query('TRUNCATE views')
  takeEffects()
})

it.each(['seen', 'commits', 'silent'])('a rule lets CALL %s through: it is executed, once, for good', async (name) => {
  await dry(() => client.query(`CALL ${name}($1)`, ['/']))
  expect((await live.query('SELECT page FROM views')).rows).toEqual([{ page: '/' }])
  expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'write', rule: 'calls', target: name }])
})

it('not inside a transaction that will be rolled back', async () => {
  await dry(async () => {
    await client.query('BEGIN')
    await expect(client.query("CALL seen('/')")).rejects.toMatchObject({ code: 'DRY_BLOCKED' })
    await client.query('ROLLBACK')
  })
  expect((await live.query('SELECT page FROM views')).rows).toEqual([])
})
