import pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { startPostgres, type TestPostgres } from './postgres.js'

/*
 * One PostgreSQL server and the clients of one test file. Vitest gives each
 * file modules of its own, and what these names stand for is there from the
 * first `beforeAll` on.
 */
export let server: TestPostgres
/** Sees what the tests did; no test uses it in a dry run. */
export let live: pg.Client
/** What the tests use, in dry runs and out of them. */
export let client: pg.Client

/** Before the tests here: a server that has run `schema`, with `live`. After them both are gone. */
export function observedPostgres(schema = ''): void {
  const closing: (() => Promise<void>)[] = []
  beforeAll(async () => {
    server = await startPostgres()
    closing.push(() => server.stop())
    live = await connected(closing)
    await live.query(schema)
  })
  afterAll(async () => {
    for (const close of closing.reverse()) await close()
  })
}

/** The same, with `client`. */
export function postgresWorld(schema = ''): void {
  const closing: (() => Promise<void>)[] = []
  observedPostgres(schema)
  beforeAll(async () => {
    client = await connected(closing)
  })
  afterAll(async () => {
    for (const close of closing) await close()
  })
}

/** A client of the server, whose end is put among what is to be closed. */
async function connected(closing: (() => Promise<void>)[]): Promise<pg.Client> {
  const opened = new pg.Client(server.url)
  closing.push(() => opened.end())
  await opened.connect()
  return opened
}
