// The child: sends every statement of every session through pg, as it was preloaded. Told what to do over IPC.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

/** No statement may take longer, in milliseconds. */
const BOUND = 15_000

const next = () => new Promise((resolve) => process.once('message', resolve))
const { sessions, connection, extended } = await next()

for (const [index, session] of sessions.entries()) {
  let client
  for (const [number, text] of session.statements.entries()) {
    const outcome = {}
    try {
      client ??= await connect(session)
      await bounded(client.query(text, extended ? [] : undefined))
    } catch (error) {
      outcome.code = error.code ?? error.name
      outcome.message = error.message
      if (error.code === 'BOUND' || client?.lost === true) {
        client?.connection.stream.destroy()
        client = undefined
      }
    }
    const answer = next()
    process.send({ index, number, ...outcome })
    await answer
  }
  await client?.end().catch(() => undefined)
}
process.disconnect()

async function connect({ user, database }) {
  const client = new pg.Client({
    ...connection,
    user,
    database,
    options: '-c statement_timeout=10s -c lock_timeout=2s',
  })
  client.on('error', () => {
    client.lost = true
  })
  await bounded(client.connect())
  return client
}

/** A notice is written down, not waited for: the caller gets an error and goes on with a new connection. */
async function bounded(promise) {
  const abort = new AbortController()
  promise.catch(() => undefined)
  try {
    return await Promise.race([
      promise,
      sleep(BOUND, undefined, { signal: abort.signal }).then(() => {
        throw Object.assign(new Error(`no answer in ${BOUND / 1000} s`), { code: 'BOUND' })
      }),
    ])
  } finally {
    abort.abort()
  }
}
