// The child: sends what it is told through pg, one connection per session, preloaded or not.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

/** No statement may take longer, in milliseconds. */
const BOUND = 15_000

const clients = new Map()
const pending = []
let connection
let working = false

process.on('message', (message) => {
  pending.push(message)
  void work()
})
process.on('disconnect', () => process.exit())

/** One message at a time: the answer says that the server has nothing of it left to do. */
async function work() {
  if (working) return
  working = true
  for (let message = pending.shift(); message !== undefined; message = pending.shift()) {
    if (message.connection !== undefined) connection = message.connection
    else process.send(await (message.text === undefined ? endSession(message) : execute(message)))
  }
  working = false
}

async function endSession({ id }) {
  await clients
    .get(id)
    ?.end()
    .catch(() => undefined)
  clients.delete(id)
  return {}
}

async function execute(session) {
  try {
    if (!clients.has(session.id)) clients.set(session.id, await connect(session))
    const client = clients.get(session.id)
    await bounded(client.query(session.text))
    // A text of several statements may have opened a transaction, whose locks live statements would wait for.
    if (session.single && client.getTransactionStatus() !== 'I') await bounded(client.query('ROLLBACK'))
    return {}
  } catch (error) {
    const client = clients.get(session.id)
    if (error.code === 'BOUND' || client?.lost === true) {
      client?.connection.stream.destroy()
      clients.delete(session.id)
    }
    return { code: error.code ?? error.name, message: error.message }
  }
}

async function connect({ user, database }) {
  const client = new pg.Client({
    ...connection,
    user,
    database,
    options: '-c statement_timeout=10s -c lock_timeout=500ms',
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
