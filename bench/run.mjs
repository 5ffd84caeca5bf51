// Live overhead of the preload: each workload runs in fresh processes, with and without it, in ABBA order.
// Prints the ratio of the medians; above 1 means slower with drytrace. Usage: npm run bench [-- workload…]
import { execFileSync } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { startPostgres } from './postgres.mjs'

const ROUNDS = Number(process.env.ROUNDS ?? 6)
const register = pathToFileURL(fileURLToPath(new URL('../dist/register.js', import.meta.url))).href
const workload = fileURLToPath(new URL('./workload.mjs', import.meta.url))
const asked = process.argv.slice(2)
const names = ['start-up', 'http', 'fetch', 'http-server', 'pg'].filter(
  (name) => asked.length === 0 || asked.includes(name),
)

const postgres = names.includes('pg') ? await startPostgres() : undefined

/** Microseconds per operation, as the child reports it; for start-up the wall time of the process. */
function measure(name, preload) {
  const args = [...(preload ? ['--import', register] : []), workload, name]
  const env = { ...process.env, NODE_OPTIONS: '', DRYTRACE_QUIET: '1', DATABASE_URL: postgres?.url ?? '' }
  const started = process.hrtime.bigint()
  const out = execFileSync(process.execPath, args, { env, encoding: 'utf8' })
  return name === 'start-up' ? Number(process.hrtime.bigint() - started) / 1000 : Number(out)
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

console.log(`node ${process.version}, ${ROUNDS} rounds of ABBA`)
for (const name of names) {
  const bare = []
  const guarded = []
  for (let round = 0; round < ROUNDS; round += 1) {
    bare.push(measure(name, false))
    guarded.push(measure(name, true), measure(name, true))
    bare.push(measure(name, false))
  }
  const [without, with_] = [median(bare), median(guarded)]
  const line = `${without.toFixed(1).padStart(10)} us -> ${with_.toFixed(1).padStart(10)} us   ratio ${(with_ / without).toFixed(3)}`
  console.log(`${name.padEnd(12)} ${line}`)
}
await postgres?.stop()
process.exit(0)
