// What drytrace costs, each figure beside its baseline in the same run and in turns.
//
// npm run bench [-- section…] [-- --write]
//   live    whole processes with and without the preload, in ABBA order: start-up, HTTP both ways, fetch, Postgres
//   micro   what is too small to be seen over a socket, in nanoseconds
//   dry     statements of a dry run beside the same ones executed live
//   --write puts the figures into docs/performance.md
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { startPostgres } from './postgres.mjs'
import { document } from './report.mjs'

const ROUNDS = Number(process.env.ROUNDS ?? 6)
const file = (name) => fileURLToPath(new URL(name, import.meta.url))
const register = pathToFileURL(file('../dist/register.js')).href
const asked = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const wants = (section) => asked.length === 0 || asked.includes(section)

const postgres = wants('live') || wants('dry') ? await startPostgres() : undefined

function node(args, env = {}) {
  return execFileSync(process.execPath, args, {
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      DRYTRACE_QUIET: '1',
      DRYTRACE_JOURNAL: file('../.build/bench-journal'),
      DATABASE_URL: postgres?.url ?? '',
      ...env,
    },
    encoding: 'utf8',
  })
}

/** Microseconds per operation, as the child reports it; for start-up the wall time of the process. */
function measure(name, preload) {
  const started = process.hrtime.bigint()
  const out = node([...(preload ? ['--import', register] : []), file('./workload.mjs'), name])
  return name === 'start-up' ? Number(process.hrtime.bigint() - started) / 1000 : Number(out)
}

function live() {
  return ['start-up', 'http', 'http-server', 'fetch', 'pg'].map((name) => {
    const bare = []
    const guarded = []
    for (let round = 0; round < ROUNDS; round += 1) {
      bare.push(measure(name, false))
      guarded.push(measure(name, true), measure(name, true))
      bare.push(measure(name, false))
    }
    // What else the machine does can only add to a process, so the lowest is nearest the cost.
    const [without, withIt] = [Math.min(...bare), Math.min(...guarded)]
    const ratio = withIt / without
    show(`${name.padEnd(38)} ${us(without)} -> ${us(withIt)}   ratio ${ratio.toFixed(3)}`)
    return { name, without, guarded: withIt, ratio }
  })
}

const lines = (text) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
const us = (value) => `${value.toFixed(1).padStart(10)} us`
const show = (line) => console.log(line)

function micro() {
  const results = lines(node(['--import', register, file('./micro.mjs')]))
  for (const { name, cost } of results) show(`${name.padEnd(38)} ${cost.toFixed(0).padStart(10)} ns`)
  return results
}

function dry(synchronousCommit) {
  const env = { SYNCHRONOUS_COMMIT: synchronousCommit, DRY_ROUNDS: String(ROUNDS * 5) }
  const results = lines(node(['--import', register, file('./dry.mjs')], env))
  for (const { name, live, dry, ratio, roundTrips } of results) {
    show(`${name.padEnd(38)} ${us(live)} -> ${us(dry)}   ratio ${ratio.toFixed(2)}   round trips ${roundTrips[1]}`)
  }
  return results
}

show(`node ${process.version}, ${ROUNDS} rounds, load ${loadavg()[0].toFixed(1)}`)
const figures = { rounds: ROUNDS, load: loadavg()[0] }
if (wants('live')) figures.live = live()
if (wants('micro')) figures.micro = micro()
if (wants('dry')) {
  show('-- commits reach the disk')
  figures.dry = dry('on')
  show('-- synchronous_commit = off')
  figures.dryFast = dry('off')
}
if (process.argv.includes('--write')) writeFileSync(file('../docs/performance.md'), document(figures))
await postgres?.stop()
process.exit(0)
