import pg from 'pg'
import type { World } from './contract.js'
import { startPostgres } from './postgres.js'

/** What the contract's programs write to; the table `fixed`, which they read, is each client's own. */
const SCHEMA = `
  create table person (id serial primary key, name text not null, age int default 18, tags jsonb, seen timestamptz default now());
  create table visit (id bigint generated always as identity primary key, person_id int references person, at timestamptz default now());
  create table counter (key text primary key, n int not null);
  insert into person (name, age) values ('Ada', 36), ('Grace', 45), ('Edsger', 41);
  insert into counter values ('a', 1);
`

/** Starts a server for one row of the contract. `fixed` creates and fills the table of that name. */
export async function startContractPostgres(fixed: string): Promise<World> {
  const server = await startPostgres()
  const admin = new pg.Client(server.url)
  await admin.connect()
  await admin.query(SCHEMA)
  await admin.query(fixed)
  return {
    env: { DATABASE_URL: server.url },
    async state() {
      const tables = ['person', 'visit', 'counter']
      const rows = await Promise.all(
        tables.map(async (table) => (await admin.query(`select * from ${table} order by 1`)).rows),
      )
      const sequences = await admin.query('select sequencename, last_value from pg_sequences order by 1')
      const relations = await admin.query(
        "select relname from pg_class where relnamespace = 'public'::regnamespace order by 1",
      )
      return { rows, sequences: sequences.rows, relations: relations.rows }
    },
    async stop() {
      await admin.end()
      await server.stop()
    },
  }
}
