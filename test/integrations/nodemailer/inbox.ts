import { buffer } from 'node:stream/consumers'
import { SMTPServer } from 'smtp-server'

export interface Delivery {
  readonly from: string
  readonly to: readonly string[]
  readonly text: string
}

/** A real SMTP server and what was delivered to it. */
export interface Inbox {
  readonly port: number
  readonly mails: Delivery[]
  connections(): number
  close(): Promise<void>
}

export async function startInbox(): Promise<Inbox> {
  const mails: Delivery[] = []
  let connections = 0
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onConnect(_session, callback) {
      connections += 1
      callback()
    },
    onData(stream, session, callback) {
      buffer(stream).then((content) => {
        const { mailFrom, rcptTo } = session.envelope
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          text: content.toString(),
        })
        callback()
      }, callback)
    },
  })
  server.on('error', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    mails,
    connections: () => connections,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}
