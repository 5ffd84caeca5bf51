import { describeContract } from '../../support/contract.js'
import { startContractPostgres } from '../../support/postgres-contract.js'

const FIXED = `
  create table fixed (id int primary key, name text, age int);
  insert into fixed values (1, 'Ada', 36), (2, 'Grace', 45), (3, 'Edsger', 41);
`

describeContract({
  name: 'pg',
  system: 'postgresql',
  startWorld: () => startContractPostgres(FIXED),
  setup: `
    const loaded = await load('pg')
    const pg = loaded.default ?? loaded
    const pool = new pg.Pool({ connectionString: env.DATABASE_URL, max: 2 })
    const client = new pg.Client(env.DATABASE_URL)
    await client.connect()
    const pick = ({ command, rowCount, rows, fields }) => ({ command, rowCount, rows, fields: fields?.map((field) => field.name) })
    const emitted = (query) => new Promise((resolve, reject) => {
      const rows = []
      query.on('row', (row) => rows.push(row)); query.on('end', (result) => resolve({ ...pick(result), rows })); query.on('error', reject)
      client.query(query)
    })
  `,
  reads: {
    text: `pool.query('select id, name from fixed order by id limit 2').then(pick)`,
    parameters: `pool.query('select name from fixed where age > $1 order by id', [40]).then(pick)`,
    named: `pool.query({ name: 'by-id', text: 'select name from fixed where id = $1', values: [1] }).then(pick)`,
    'row mode array': `pool.query({ text: 'select id, name from fixed order by id limit 1', rowMode: 'array' }).then(pick)`,
    callback: `new Promise((resolve, reject) => client.query('select count(*) from fixed', (error, result) => error ? reject(error) : resolve(pick(result))))`,
    events: `emitted(new pg.Query('select name from fixed order by id limit 1'))`,
    'a real error': `client.query('select nothing from fixed').then(() => 'no error', (error) => error.code)`,
    'in a transaction': `(async () => { const c = await pool.connect(); try { await c.query('begin'); const r = pick(await c.query('select 1 as one')); await c.query('commit'); return r } finally { c.release() } })()`,
  },
  writes: {
    'INSERT by pool': `pool.query("insert into person (name) values ('x')").then(pick)`,
    'INSERT with parameters, RETURNING': `pool.query('insert into person (name, age, tags) values ($1, $2, $3) returning id, name, age, tags', ['y', 5, { a: 1 }]).then(pick)`,
    'UPDATE, RETURNING *': `client.query('update person set age = age + $1 where name = $2 returning *', [1, 'Ada']).then(pick)`,
    'DELETE, callback': `new Promise((resolve, reject) => client.query("delete from visit where person_id = 99", (error, result) => error ? reject(error) : resolve(pick(result))))`,
    'named statement': `client.query({ name: 'age', text: 'update person set age = $1 where id = $2', values: [50, 2] }).then(pick)`,
    'events of a Query': `emitted(new pg.Query("insert into person (name) values ('e') returning name"))`,
    upsert: `pool.query("insert into counter values ('a', 1) on conflict (key) do update set n = counter.n + 1 returning key, n").then(pick)`,
    'writing CTE': `pool.query("with moved as (update person set age = 1 where id = 3 returning id) select count(*)::int as n from moved").then(pick)`,
    'in a transaction': `(async () => { const c = await pool.connect(); try { await c.query('begin'); const r = pick(await c.query("insert into visit (person_id) values (1) returning person_id")); await c.query('commit'); return r } finally { c.release() } })()`,
    'two statements in one text': `client.query("update person set age = 2 where id = 1; delete from visit where id < 0").then((results) => results.map(pick))`,
    'writing function': `client.query("select nextval('person_id_seq') > 0 as moved").then(pick)`,
    DDL: `client.query('create table if not exists made_up (id int)').then(pick)`,
    TRUNCATE: `client.query('truncate visit').then(pick)`,
  },
  effectsPerWrite: { 'two statements in one text': 2 },
  teardown: `await pool.end(); await client.end()`,
})
