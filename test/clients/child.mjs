// Runs one call of calls.mjs inside a dry run and prints what became of it.
import { calls, refused } from './calls.mjs'

const [name, mode] = process.argv.slice(2)
const timeout = AbortSignal.timeout(15_000)
const late = new Promise((_, reject) =>
  timeout.addEventListener('abort', () => reject(new Error('took more than 15 s'))),
)

async function measure() {
  try {
    const result = await Promise.race([(calls[name] ?? refused[name])(), late])
    return { result: result === undefined ? null : JSON.parse(JSON.stringify(result)) }
  } catch (error) {
    return { error: `${error.name}: ${error.message}`.slice(0, 300) }
  }
}

let outcome
if (mode === 'live') outcome = await measure()
else {
  const { dryRun } = await import(process.env.DRYTRACE_INDEX)
  outcome = await dryRun({ id: 'client' }, measure)
}
console.log(`OUTCOME ${JSON.stringify({ ...outcome, ...globalThis.egress })}`)
process.exit(0)
