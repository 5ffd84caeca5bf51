// Works one library through its steps, live or in a dry run, and prints what each step gave.
import { pathToFileURL } from 'node:url'

const [name, mode, url] = process.argv.slice(2)
const library = await import(new URL(`libraries/${name}.mjs`, import.meta.url))

const STEP_MILLISECONDS = 20_000

async function work() {
  const results = []
  await library.use(await opened, async (title, fn) => {
    const timeout = new Promise((_, reject) => setTimeout(reject, STEP_MILLISECONDS, new Error('timed out')).unref())
    try {
      results.push([title, plain(await Promise.race([fn(), timeout]))])
    } catch (error) {
      results.push([title, { error: codeOf(error) }])
    }
  })
  return results
}

/** Libraries wrap the server's error in their own. */
function codeOf(error) {
  for (let cause = error; cause; cause = cause.cause ?? cause.original ?? cause.parent) {
    if (/^[0-9A-Z]{5}$/.test(cause.code ?? '') && !/^P\d/.test(cause.code)) return cause.code
  }
  return error.code ?? `${error.name}: ${String(error.message).slice(0, 200)}`
}

function plain(value) {
  const text = JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? Number(item) : item))
  return text === undefined ? null : JSON.parse(text)
}

if (mode === 'seed') {
  await library.seed?.(url)
  process.exit(0)
}
// A service opens its pool before anybody asks it for a dry run.
const opened = Promise.resolve(library.open(url))
await opened
const dryRun = mode === 'live' ? undefined : (await import(pathToFileURL(process.env.DRYTRACE_INDEX))).dryRun
const results = dryRun === undefined ? await work() : await dryRun({ id: 'orm' }, work)
console.log(`RESULTS ${JSON.stringify(results)}`)
await library.close(await opened)
process.exit(0)
