import { beforeEach, describe, expect, it } from 'vitest'
import { code } from '../../support/error-code.js'
import { client, live, postgresWorld, server } from '../../support/postgres-world.js'
import { ALLOW_PAGE_VIEWS, guardPg } from './dry-pg.js'

const { pg, dry, takeEffects } = guardPg({
  rules: [
    ALLOW_PAGE_VIEWS,
    {
      name: 'loud',
      match: { system: 'postgresql', relation: 'secrets' },
      verdict: 'block',
      onBlocked: 'throw',
      reason: 'never',
    },
    {
      name: 'hidden',
      match: { system: 'postgresql', relation: 'hidden' },
      effect: 'write',
      reason: 'reading it counts',
    },
  ],
} as never)

postgresWorld(
  'CREATE TABLE page_views (n int); CREATE TABLE secrets (n int); CREATE TABLE hidden (n int); CREATE TABLE t (n int); INSERT INTO hidden VALUES (1)',
)

beforeEach(() => {
  takeEffects()
})

const count = async (table: string) => (await live.query(`SELECT count(*)::int AS n FROM ${table}`)).rows[0].n as number

/** A query of somebody's own that does not say what it will send. */
class Mute {
  submitted = false
  error: Error | undefined
  readonly done: Promise<void>
  #settle: () => void = () => undefined
  constructor() {
    this.done = new Promise((resolve) => {
      this.#settle = resolve
    })
  }
  submit(connection: { query(text: string): void }) {
    this.submitted = true
    connection.query('INSERT INTO t VALUES (1)')
  }
  handleError(error: Error) {
    this.error = error
    this.#settle()
  }
  handleReadyForQuery() {
    this.#settle()
  }
  handleCommandComplete() {}
}

describe('what cannot be guarded is refused', () => {
  it('a query that does not say what it will send', async () => {
    const mute = new Mute()
    dry(() => client.query(mute as never))
    await mute.done
    expect(mute.submitted).toBe(false)
    expect(mute.error).toMatchObject({ code: 'DRY_BLOCKED', message: expect.stringContaining('Mute') })
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['failed'])
    const same = new Mute()
    client.query(same as never)
    await same.done
    expect([same.submitted, same.error]).toEqual([true, undefined])
    expect(await count('t')).toBe(1)
  })
})

describe('policy rules', () => {
  it('let a write through for real', async () => {
    expect((await dry(() => client.query('INSERT INTO page_views VALUES (1) RETURNING n'))).rows).toEqual([{ n: 1 }])
    expect(await count('page_views')).toBe(1)
    expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'write', rule: 'views' }])
  })

  it('speak for one table, not for what else the statement does', async () => {
    await dry(() => client.query('WITH d AS (DELETE FROM t RETURNING n) INSERT INTO page_views SELECT n FROM d'))
    await dry(() => client.query('INSERT INTO page_views SELECT 1 WHERE pg_try_advisory_lock(1)'))
    expect([await count('t'), await count('page_views')]).toEqual([1, 1])
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['blocked', 'blocked'])
  })

  it('cannot let a write through in a dry transaction, and say so', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      await expect(client.query('INSERT INTO page_views VALUES (2)')).rejects.toThrow(/opened by a dry run/)
      await client.query('ROLLBACK')
    })
    expect(await count('page_views')).toBe(1)
    expect(takeEffects().map(({ outcome }) => outcome)).toEqual(['failed'])
  })

  it('throw where they are told to', async () => {
    expect(await code(dry(() => client.query('INSERT INTO secrets VALUES (1)')))).toBe('DRY_BLOCKED')
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', rule: 'loud' }])
  })

  it('can make a write of a read', async () => {
    expect((await dry(() => client.query('SELECT * FROM hidden'))).rows).toEqual([])
    expect(takeEffects()).toMatchObject([{ outcome: 'blocked', effect: 'write', rule: 'hidden' }])
  })
})

describe('a connection', () => {
  it('that a dry run would have set up does not reach live callers half set up', async () => {
    const pool = new pg.Pool({ connectionString: server.url, max: 1 })
    pool.on('connect', (fresh) => {
      void fresh.query('CREATE TEMP TABLE scratch (a int)')
      void fresh.query('LISTEN jobs')
    })
    await dry(() => pool.query('SELECT 1'))
    expect((await pool.query('SELECT count(*)::int AS n FROM scratch')).rows).toEqual([{ n: 0 }])
    expect((await pool.query('SELECT pg_listening_channels() AS c')).rows).toEqual([{ c: 'jobs' }])
    await pool.end()
  })
})
