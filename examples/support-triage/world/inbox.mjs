import { SMTPServer } from 'smtp-server'

/** A mail server that delivers to an array: `{from, to, raw, subject}` a message. */
export async function startInbox() {
  const messages = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS', 'AUTH'],
    logger: false,
    onData(stream, session, done) {
      const chunks = []
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('end', () => {
        const raw = Buffer.concat(chunks).toString('utf8')
        messages.push({
          from: session.envelope.mailFrom ? session.envelope.mailFrom.address : '',
          to: session.envelope.rcptTo.map((recipient) => recipient.address),
          subject: /^Subject: (.*(?:\r?\n[ \t].*)*)/im.exec(raw)?.[1] ?? '',
          raw,
        })
        done()
      })
    },
  })
  server.on('error', () => {})
  await new Promise((resolve, reject) => {
    server.server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `smtp://127.0.0.1:${server.server.address().port}`,
    messages,
    stop: () => new Promise((resolve) => server.close(resolve)),
  }
}
