import { createRequire } from 'node:module'
import type { Readable, Writable } from 'node:stream'
import type { Client, DatabaseError, Notification, QueryResult } from 'pg'
import Cursor from 'pg-cursor'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld, server } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

const copy = createRequire(import.meta.url)('pg-copy-streams') as {
  to(text: string): Readable
  from(text: string): Writable
}
const { pg, dry, guard, takeEffects, failJournal } = guardPg()

postgresWorld(`
    CREATE EXTENSION pg_walinspect;
    CREATE TABLE item (id int PRIMARY KEY, name text);
    INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 10) n;
  `)

const unchanged = leavesUnchanged(['item'])

beforeEach(() => {
  takeEffects()
})

afterEach(() => {
  failJournal(undefined)
})

describe('LISTEN and NOTIFY', () => {
  const received = async (listener: Client, cause: () => Promise<unknown>) => {
    const seen: { payload: string | undefined; run: unknown }[] = []
    const notice = ({ payload }: Notification) => seen.push({ payload, run: guard.run() })
    listener.on('notification', notice)
    await cause()
    await unchanged.expect()
    // Notifications come in the order of their commits.
    await guard.root(() => live.query("NOTIFY jobs, 'last'"))
    for (let tries = 0; tries < 100 && seen.at(-1)?.payload !== 'last'; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    listener.off('notification', notice)
    await unchanged.renew()
    return seen
  }

  it('a dry NOTIFY reaches nobody; a live one reaches its listener in the root context', async () => {
    const listener = await dry(async () => {
      const born = new pg.Client(server.url)
      await born.connect()
      return born
    })
    await listener.query('LISTEN jobs')
    const seen = await received(listener, () =>
      dry(async () => {
        expect((await client.query("NOTIFY jobs, 'dry'")).command).toBe('NOTIFY')
        expect((await client.query("SELECT pg_notify('jobs', 'dry')")).rowCount).toBe(1)
        await client.query('BEGIN')
        await client.query("NOTIFY jobs, 'dry'")
        await client.query('COMMIT')
      }),
    )
    expect(seen).toEqual([{ payload: 'last', run: undefined }])
    await listener.end()
    const blocked = takeEffects().filter(({ outcome, action }) => outcome === 'blocked' && action === 'publish')
    expect(blocked).toHaveLength(3)
  })

  it('a dry LISTEN or UNLISTEN leaves the connection as it was', async () => {
    await client.query('LISTEN jobs')
    expect((await dry(() => client.query('UNLISTEN *'))).command).toBe('UNLISTEN')
    expect((await dry(() => client.query('LISTEN other'))).command).toBe('LISTEN')
    expect((await client.query('SELECT pg_listening_channels() AS channel')).rows).toEqual([{ channel: 'jobs' }])
    const seen = await received(client, () => dry(() => client.query('SELECT 1')))
    expect(seen).toEqual([{ payload: 'last', run: undefined }])
    await client.query('UNLISTEN *')
  })
})

/** What pg takes and its types do not know. */
const query = (config: object) => client.query(config as never) as unknown as Promise<QueryResult>

describe("pg's own Query", () => {
  it('reads a portal in portions when it is told how many rows', async () => {
    const portions = { text: 'SELECT id FROM item ORDER BY id', rows: 3 }
    const expected = (await query(portions)).rows
    expect(expected).toHaveLength(10)
    expect((await dry(() => query(portions))).rows).toEqual(expected)
  })

  it('simulates a write in portions too', async () => {
    const { rows, rowCount } = await dry(() => query({ text: 'DELETE FROM item RETURNING id', rows: 3 }))
    expect([rows.length, rowCount]).toEqual([10, 10])
  })

  it('runs a known name without its text', async () => {
    await client.query({ name: 'known', text: 'SELECT name FROM item WHERE id = $1', values: [1] })
    expect((await dry(() => query({ name: 'known', values: [2] }))).rows).toEqual([{ name: 'item 2' }])
    const unknown = await dry(() => query({ name: 'unknown', values: [2] })).catch((error: Error) => error)
    expect(unknown).toBeInstanceOf(Error)
  })

  it('asks for binary results', async () => {
    const binary = { text: 'SELECT id, name FROM item WHERE id = $1', values: [3], binary: true }
    expect((await dry(() => query(binary))).rows).toEqual((await query(binary)).rows)
  })
})

describe('when the journal cannot be written', () => {
  it('a cursor delivers no row', async () => {
    await dry(async () => {
      failJournal(new Error('disk full'))
      const cursor = client.query(new Cursor('UPDATE item SET name = name RETURNING id'))
      await expect(cursor.read(1)).rejects.toThrow(/disk full|journal/)
      failJournal(undefined)
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })

  it('a COPY does not finish', async () => {
    await dry(async () => {
      const stream = client.query(copy.from('COPY item FROM STDIN') as never) as unknown as Writable
      failJournal(new Error('disk full'))
      const error = await new Promise((resolve) => {
        stream.on('error', resolve).on('finish', () => resolve('finished'))
        stream.end('50\tx\n')
      })
      failJournal(undefined)
      expect(String(error)).toMatch(/disk full|journal/)
      expect((await client.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    })
  })
})

describe('a connection that is lost', () => {
  const losing = async (use: (lost: Client, lose: () => Promise<unknown>) => Promise<unknown>) => {
    const lost = new pg.Client(server.url)
    lost.on('error', () => undefined)
    await lost.connect()
    const { rows } = await lost.query('SELECT pg_backend_pid() AS pid')
    const terminate = () => guard.root(() => live.query('SELECT pg_terminate_backend($1)', [rows[0].pid]))
    return await dry(() => use(lost, terminate))
  }

  it('under a COPY FROM is an error', async () => {
    const error = await losing(async (lost, lose) => {
      const stream = lost.query(copy.from('COPY item FROM STDIN') as never) as unknown as Writable
      const failed = new Promise((resolve) => stream.on('error', resolve))
      stream.write('50\tx\n')
      await new Promise((resolve) => setImmediate(resolve))
      await lose()
      return await failed
    })
    expect(error).toBeInstanceOf(Error)
  })

  it('under a simulated cursor is an error', async () => {
    const error = await losing(async (lost, lose) => {
      const cursor = lost.query(new Cursor('DELETE FROM item RETURNING id'))
      expect(await cursor.read(1)).toHaveLength(1)
      const failed = new Promise((resolve) => cursor.on('error', resolve))
      await lose()
      return await failed
    })
    expect(error).toBeInstanceOf(Error)
  })
})

it("a query timeout is the driver's own, for a cursor too", async () => {
  const impatient = new pg.Client({ connectionString: server.url, query_timeout: 200 })
  await impatient.connect()
  const error = await dry(
    () =>
      new Promise<DatabaseError>((resolve) => {
        const cursor = impatient.query(new Cursor('SELECT pg_sleep(1)'))
        cursor.read(1, (failure) => resolve(failure as DatabaseError))
      }),
  )
  expect(error.message).toBe('Query read timeout')
  await impatient.end()
})
