import nodemailer from 'nodemailer'

export function createMailer(smtpUrl, from) {
  const transport = nodemailer.createTransport(smtpUrl)
  return {
    /** Answers a mail in its thread. Resolves to the message id of the reply. */
    async reply({ to, subject, ticketId, inReplyTo, text }) {
      const info = await transport.sendMail({
        from,
        to,
        subject: `Re: ${subject || 'your message'} [#${ticketId}]`,
        inReplyTo,
        references: [inReplyTo],
        text,
      })
      return info.messageId
    },
    close: () => transport.close(),
  }
}
