/**
 * The parts of nodemailer's objects this integration relies on. They are the
 * same from 6.0 to 10.6, whatever the file layout.
 */
export type SendCallback = (error: unknown, info?: unknown) => void

/** `Mail`: what `createTransport` returns. */
export interface Mailer {
  transporter: Transport
  /** Set by the `proxy` option; handed to the transport on the first send. */
  getSocket?: unknown
  sendMail(data: unknown, callback?: SendCallback): unknown
}

/** `SMTPTransport`, `SMTPPool`, `SESTransport`, `SendmailTransport`, or one of the application's own. */
export interface Transport {
  name?: unknown
  options?: Readonly<Record<string, unknown>>
  getSocket?: unknown
  logger?: { error(entry: object, message: string, ...values: unknown[]): void }
  /** `SMTPPool` only. */
  _closed?: boolean
  send(mail: MailMessage, callback: SendCallback): unknown
}

/** `MailMessage`: one message on its way, after plugins and compilation. */
export interface MailMessage {
  readonly data: Readonly<Record<string, unknown>>
  readonly message: MimeNode
}

export interface Envelope {
  readonly from: string | false
  readonly to: readonly string[]
}

/** One node of the compiled message. */
export interface MimeNode {
  readonly childNodes: readonly MimeNode[]
  readonly filename?: string
  readonly content?: unknown
  getHeader(name: string): string | undefined
  getEnvelope(): Envelope
  messageId(): string
  createReadStream(): NodeJS.ReadableStream
  /** Opens the content of a node: text, buffer, stream, file or URL. */
  _getStream(content: unknown): NodeJS.ReadableStream
}
