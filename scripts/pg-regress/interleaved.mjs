import { createServer, connect as dial } from 'node:net'

/** Codes that stand in the place of a protocol version in a connection's first message. */
const CANCEL = 80877102
const REFUSED = new Set([80877103, 80877104])

/**
 * Stands between psql and the server. Before a query goes on, `first` may do
 * something with its text: the server is then in the very state the query was
 * written for.
 */
export async function interpose({ host, port }, first) {
  let sessions = 0
  const server = createServer((client) => {
    const session = { id: ++sessions, user: '', database: '', name: undefined }
    const upstream = dial({ host, port })
    let pending = Buffer.alloc(0)
    let started = false
    let chain = Promise.resolve()
    const end = () => {
      client.destroy()
      upstream.destroy()
      chain = chain.then(() => first({ ...session, text: undefined }))
    }
    client.on('error', end).on('close', end)
    upstream.on('error', end).on('close', () => client.end())
    upstream.pipe(client)
    client.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk])
      for (;;) {
        const message = take()
        if (message === undefined) return
        chain = chain.then(() => pass(message))
      }
    })

    function take() {
      const head = started ? 1 : 0
      if (pending.length < head + 4) return undefined
      const length = head + pending.readInt32BE(head)
      if (pending.length < length) return undefined
      const message = pending.subarray(0, length)
      pending = pending.subarray(length)
      if (started) return message
      const code = message.readInt32BE(4)
      if (REFUSED.has(code)) return Buffer.alloc(0)
      started = true
      if (code !== CANCEL) {
        const words = message.subarray(8).toString('utf8').split('\0')
        const value = (name) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined)
        session.user = value('user')
        session.database = value('database') ?? session.user
        session.name = /^suite\/(.*)$/.exec(value('application_name') ?? '')?.[1]
      }
      return message
    }

    async function pass(message) {
      if (message.length === 0) {
        client.write('N')
        return
      }
      if (message[0] === 0x51) await first({ ...session, text: message.toString('utf8', 5, message.length - 1) })
      upstream.write(message)
    }
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: server.address().port, close: () => server.close() }
}
