import pg from 'pg'
import { describeContract, type World } from '../../support/contract.js'
import { startPostgres } from '../../support/postgres.js'

// Each write finds something to do however often it has run, and no read sees what the writes change.
const SCHEMA = `
  CREATE TABLE customers (id serial PRIMARY KEY, email text NOT NULL UNIQUE, credits int NOT NULL DEFAULT 0, since timestamptz DEFAULT now());
  CREATE TABLE notes (id int, body text);
  CREATE TABLE countries (code text PRIMARY KEY, size int, since timestamptz);
  CREATE TABLE trash (at timestamptz);
  CREATE FUNCTION spend(who int) RETURNS int LANGUAGE sql AS 'UPDATE customers SET credits = credits - 1 WHERE id = who RETURNING credits';
  CREATE PROCEDURE tidy() LANGUAGE sql AS 'INSERT INTO trash VALUES (clock_timestamp())';
  INSERT INTO customers (email, credits) SELECT 'c' || g || '@x', g FROM generate_series(1, 5) g;
  INSERT INTO notes SELECT g, 'note ' || g FROM generate_series(1, 50) g;
  INSERT INTO countries VALUES ('de', 84, '1990-10-03'), ('fr', 68, NULL);
`

async function startWorld(): Promise<World> {
  const server = await startPostgres()
  const observer = new pg.Client(server.url)
  await observer.connect()
  await observer.query(SCHEMA)
  return {
    env: { PG_URL: server.url },
    async state() {
      const { rows } = await observer.query(`SELECT
        (SELECT json_agg(c ORDER BY id) FROM customers c) AS customers,
        (SELECT json_agg(n ORDER BY id) FROM notes n) AS notes,
        (SELECT count(*) FROM trash) AS trash,
        (SELECT json_agg((sequencename, last_value)) FROM pg_sequences) AS sequences,
        (SELECT json_agg(relname ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace) AS relations`)
      return rows[0]
    },
    async stop() {
      await observer.end()
      await server.stop()
    },
  }
}

describeContract({
  name: 'pg',
  system: 'postgresql',
  startWorld,
  setup: `
    const module = await load('pg')
    const pg = module.default ?? module
    const pool = new pg.Pool({ connectionString: env.PG_URL, max: 2 })
    const called = (...args) => new Promise((resolve, reject) =>
      pool.query(...args, (error, result) => (error ? reject(error) : resolve(result))))
    const onClient = async (fn) => {
      const client = await pool.connect()
      try { return await fn(client) } finally { client.release() }
    }
    const pick = ({ command, rowCount, rows, fields }) => ({ command, rowCount, rows, fields: fields.map((f) => f.name) })
    let serial = 0
    const unique = () => process.pid + '-' + Date.now() + '-' + serial++
  `,
  writes: {
    'pool.query insert': "pick(await pool.query('INSERT INTO customers (email) VALUES ($1) RETURNING *', [unique()]))",
    'pool.query callback': "pick(await called('UPDATE customers SET credits = credits + 1 WHERE id = $1', [1]))",
    'config object':
      "pick(await pool.query({ text: 'UPDATE customers SET credits = 7 WHERE id = 2 RETURNING id, credits', rowMode: 'array' }))",
    named:
      "pick(await pool.query({ name: 'touch', text: 'UPDATE customers SET credits = $1 WHERE id = 3 RETURNING credits', values: [9] }))",
    upsert:
      'pick(await pool.query("INSERT INTO customers (email) VALUES (\'c4@x\') ON CONFLICT (email) DO UPDATE SET credits = customers.credits + 1 RETURNING id, credits"))',
    'client delete':
      'onClient(async (client) => pick(await client.query("DELETE FROM notes WHERE id = (SELECT min(id) FROM notes) RETURNING body")))',
    'query events': `onClient((client) => new Promise((resolve, reject) => {
      const seen = []
      const query = client.query(new pg.Query("INSERT INTO notes VALUES (1000, 'event') RETURNING body"))
      query.on('row', (row) => seen.push(row)).on('error', reject).on('end', (result) => resolve([seen, result.rowCount]))
    }))`,
    function: "pick(await pool.query('SELECT spend(5) AS left_over'))",
    ddl: "pick(await pool.query('CREATE TABLE t_' + unique().replaceAll('-', '_') + ' (a int)'))",
    call: "pick(await pool.query('CALL tidy()'))",
  },
  reads: {
    select: "pick(await pool.query('SELECT code, size, since FROM countries WHERE size < $1 ORDER BY code', [80]))",
    'select array': "pick(await pool.query({ text: 'SELECT count(*) FROM countries', rowMode: 'array' }))",
    named:
      "pick(await pool.query({ name: 'one', text: 'SELECT size FROM countries WHERE code = $1', values: ['de'] }))",
    'several statements': "(await pool.query('SELECT 1 AS a; SELECT 2 AS b')).map(pick)",
    show: "pick(await pool.query('SHOW server_encoding'))",
    'error code': "pool.query('SELECT * FROM nowhere').catch((error) => error.code)",
    empty: "pick(await pool.query(''))",
  },
  teardown: 'await pool.end()',
  instrumentation: 'pg',
})
