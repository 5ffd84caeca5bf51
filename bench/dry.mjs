// What a dry run costs, statement by statement, beside the same statement executed live. Both in one process and on one
// connection, in turns of a few statements, so that whatever else the machine does falls on both. Prints one JSON line
// per case: lower deciles in microseconds and round trips per statement.
import pg from 'pg'
import { dryRun } from '../dist/index.js'

const ROUNDS = Number(process.env.DRY_ROUNDS ?? 40)
const TURN = 10
/** Turns before the clock starts. What is asked is what a worker pays that has run for a while, not what compiling costs. */
const WARM_UP = Number(process.env.DRY_WARM_UP ?? 300)

const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
await client.connect()
await client.query(`
  DROP TABLE IF EXISTS bench_note, bench_item, bench_other;
  CREATE TABLE bench_item (id serial PRIMARY KEY, code text UNIQUE NOT NULL, qty int NOT NULL CHECK (qty >= 0), at timestamptz DEFAULT now());
  CREATE TABLE bench_note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL REFERENCES bench_item, body text);
  CREATE TABLE bench_other (id int PRIMARY KEY, name text);
  INSERT INTO bench_item (code, qty) SELECT 'c' || n, n FROM generate_series(1, 10000) n;
  INSERT INTO bench_other SELECT n, 'name ' || n FROM generate_series(1, 10000) n;
  ANALYZE bench_item; ANALYZE bench_other;
`)
if (process.env.SYNCHRONOUS_COMMIT === 'off') await client.query('SET synchronous_commit = off')

let roundTrips = 0
client.connection.on('readyForQuery', () => {
  roundTrips += 1
})

let serial = 0
const read = () => client.query('SELECT id, name FROM bench_other WHERE id = $1', [1 + (serial++ % 10_000)])
const readTouched = () => client.query('SELECT id, qty FROM bench_item WHERE id = $1', [1 + (serial++ % 10_000)])
const insert = () =>
  client.query('INSERT INTO bench_note (item, body) VALUES ($1, $2) RETURNING id', [1 + (serial++ % 10_000), 'text'])
const update = () =>
  client.query('UPDATE bench_item SET qty = qty + 1 WHERE id = $1 RETURNING id, qty', [1 + (serial++ % 10_000)])
const touch = () => client.query('UPDATE bench_item SET qty = 1 WHERE id = 1')

/** What else the machine does can only add to a statement, so the lower decile is nearer the cost than the median. */
const decile = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 10)]

async function turn(statement) {
  const times = []
  const before = roundTrips
  for (let i = 0; i < TURN; i += 1) {
    const started = process.hrtime.bigint()
    await statement()
    times.push(Number(process.hrtime.bigint() - started) / 1000)
  }
  return { times, roundTrips: roundTrips - before }
}

/** `prepare` is done in each run before the clock starts. */
async function compare(name, statement, prepare = async () => {}) {
  const live = { times: [], roundTrips: 0 }
  const dry = { times: [], roundTrips: 0 }
  const add = (to, { times, roundTrips }) => {
    to.times.push(...times)
    to.roundTrips += roundTrips
  }
  const dryTurn = () =>
    dryRun({}, async () => {
      await prepare()
      return await turn(statement)
    })
  for (let i = 0; i < WARM_UP; i += 1) {
    await turn(statement)
    await dryTurn()
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    add(live, await turn(statement))
    add(dry, await dryTurn())
    add(dry, await dryTurn())
    add(live, await turn(statement))
  }
  const [bare, guarded] = [decile(live.times), decile(dry.times)]
  console.log(
    JSON.stringify({
      name,
      live: bare,
      dry: guarded,
      ratio: guarded / bare,
      roundTrips: [live.roundTrips / live.times.length, dry.roundTrips / dry.times.length],
    }),
  )
}

await compare('read', read)
await compare('read of another table after a write', read, touch)
await compare('read of a written table', readTouched, touch)
await compare('repeated INSERT RETURNING', insert, insert)
await compare('repeated UPDATE RETURNING', update, update)
await client.end()
