// Costs too small to be seen over a socket, each beside its baseline in the same process and in turns. Prints one JSON
// line per case, in nanoseconds per operation. Needs the preload.
import diagnosticsChannel from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { dryRun } from '../dist/index.js'
import { effectOf } from '../dist/integrations/pg/effect.js'
import { classify } from '../dist/sql/classify.js'
import { loadGrammar } from '../dist/sql/grammar.js'

const BLOCKS = 1_001
/** What else the machine does can only add to a short block, so the lower quartile is nearer the cost than the median. */
const quartile = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 4)]
const root = fileURLToPath(new URL('..', import.meta.url))

/** Nanoseconds per operation of each, measured block by block in turns. */
async function inTurns(count, operations, blocks = BLOCKS) {
  const times = operations.map(() => [])
  for (let block = 0; block < blocks + 100; block += 1) {
    // The order changes, so that none always comes after the garbage of the same other.
    for (let n = 0; n < operations.length; n += 1) {
      const index = (n + block) % operations.length
      const started = process.hrtime.bigint()
      await operations[index](count)
      if (block >= 100) times[index].push(Number(process.hrtime.bigint() - started) / count)
    }
  }
  return times.map(quartile)
}

/** A connection that answers every query at once. */
class Stub extends EventEmitter {
  stream = { setNoDelay() {}, unref() {}, ref() {}, cork() {}, uncork() {} }
  parsedStatements = {}
  submittedNamedStatements = {}
  connect() {
    setImmediate(() => this.emit('connect'))
  }
  startup() {
    setImmediate(() => this.emit('readyForQuery', { status: 'I' }))
  }
  query() {
    queueMicrotask(() => {
      this.emit('commandComplete', { name: 'commandComplete', text: 'SELECT 0' })
      this.emit('readyForQuery', { status: 'I' })
    })
  }
}

async function liveQuery() {
  // The same library under another name, which the preload does not know.
  const copy = path.join(root, '.build/bench-pg')
  rmSync(copy, { recursive: true, force: true })
  mkdirSync(copy, { recursive: true })
  const require = createRequire(import.meta.url)
  cpSync(path.dirname(require.resolve('pg/package.json')), copy, { recursive: true })
  const description = JSON.parse(readFileSync(path.join(copy, 'package.json'), 'utf8'))
  writeFileSync(path.join(copy, 'package.json'), JSON.stringify({ ...description, name: 'bench-pg' }))
  const drive = async (pg) => {
    const client = new pg.Client({ connection: new Stub() })
    await client.connect()
    return (count) =>
      new Promise((resolve) => {
        let left = count
        const next = () => (left-- > 0 ? client.query('SELECT 1', next) : resolve())
        next()
      })
  }
  const bare = await drive(require(copy))
  const again = await drive(require(copy))
  const met = await drive(require('pg'))
  const [without, same, guarded] = await inTurns(200, [bare, again, met])
  rmSync(copy, { recursive: true, force: true })
  console.log(
    JSON.stringify({ name: 'live pg query', without, guarded, cost: guarded - without, noise: same - without }),
  )
}

const TEXT =
  'SELECT o.id, o.total, c.name, c.email FROM app.orders o JOIN app.customers c ON c.id = o.customer_id ' +
  "WHERE o.status = $1 AND o.created_at > now() - interval '7 days' ORDER BY o.created_at DESC LIMIT 50"

async function decisions() {
  await loadGrammar()
  const { slots, known } = globalThis[Symbol.for('drytrace.v1')]
  const guard = slots.get('guard')
  await dryRun({ id: 'bench' }, async () => {
    const run = known.get('bench')
    const hook = { name: 'pg', version: '8' }
    const endpoint = { host: 'localhost', port: 5432, database: 'app' }
    const [lookup, decision] = await inTurns(200, [
      (count) => {
        for (let i = 0; i < count; i += 1) classify(TEXT)
      },
      (count) => {
        for (let i = 0; i < count; i += 1) guard.decide(run, hook, () => effectOf(classify(TEXT)[0], endpoint))
      },
    ])
    console.log(JSON.stringify({ name: 'statement judged before', cost: lookup }))
    console.log(JSON.stringify({ name: 'decision, statement judged before', cost: decision }))
    let serial = 0
    const [cold] = await inTurns(
      1,
      [
        (count) => {
          for (let i = 0; i < count; i += 1) classify(`${TEXT} OFFSET ${serial++}`)
        },
      ],
      401,
    )
    console.log(JSON.stringify({ name: 'statement judged for the first time', cost: cold }))
  })
}

async function undiciChannel() {
  const create = diagnosticsChannel.channel('undici:request:create')
  const request = { origin: 'http://localhost', method: 'GET', path: '/' }
  const [without, guarded] = await inTurns(200, [
    (count) => {
      // What undici does when nobody listens.
      for (let i = 0; i < count; i += 1) if (!create.hasSubscribers) create.publish({ request })
    },
    (count) => {
      for (let i = 0; i < count; i += 1) if (create.hasSubscribers) create.publish({ request })
    },
  ])
  console.log(JSON.stringify({ name: 'live undici request', without, guarded, cost: guarded - without }))
}

await liveQuery()
await undiciChannel()
await decisions()
process.exit(0)
