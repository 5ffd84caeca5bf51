import type { AddressInfo } from 'node:net'
import { SMTPServer } from 'smtp-server'
import type { World } from './contract.js'

export interface MailWorld extends World {
  /** Recipients and text of everything that arrived. */
  readonly inbox: string[]
}

/** A real SMTP server that keeps what arrives. */
export async function startMailWorld(): Promise<MailWorld> {
  const inbox: string[] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onData(stream, session, done) {
      let text = ''
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      stream.on('end', () => {
        const subject = /^subject: (.*)$/im.exec(text)?.[1]
        inbox.push(`${session.envelope.rcptTo.map(({ address }) => address).join(' ')}: ${subject}`)
        done()
      })
    },
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.server.address() as AddressInfo
  return {
    inbox,
    env: { SMTP_PORT: String(port) },
    state: async () => [...inbox],
    stop: () => new Promise((resolve) => server.close(resolve)),
  }
}
