import type { Envelope, MailMessage, Transport } from './library.js'
import type { CompiledMessage } from './message.js'

/** The reply of a server that took the message; the queue id says that none did. */
const RESPONSE = '250 2.0.0 Ok: queued as DRYRUN'

/** A message that was compiled and not sent. */
export interface SentCall {
  readonly transport: Transport
  readonly mail: MailMessage
  readonly envelope: Envelope
  readonly compiled: CompiledMessage
  /** A server reply written in the policy. */
  readonly response?: string
}

/** `info` in the shape of the transport that was replaced. */
export function simulateSend({ transport, mail, envelope, compiled, response }: SentCall): object {
  const messageId = mail.message.messageId()
  const to = [...envelope.to]
  const base = { envelope: { from: envelope.from, to }, messageId }
  switch (transport.name) {
    case 'SESTransport':
      return { ...base, response: response ?? messageId.replace(/[<>]/g, '').split('@', 1)[0], raw: compiled.raw }
    case 'Sendmail':
      return { ...base, response: response ?? 'Messages queued for delivery' }
    default:
      return {
        accepted: [...to],
        rejected: [],
        ehlo: ['PIPELINING', '8BITMIME', 'SMTPUTF8'],
        envelopeTime: 0,
        messageTime: 0,
        messageSize: compiled.smtpSize,
        response: response ?? RESPONSE,
        ...base,
      }
  }
}

/** Whether the replaced transport hands the message itself back. */
export function returnsMessage(transport: Transport): boolean {
  return transport.name === 'SESTransport'
}

/**
 * The error the transport would give before it says anything to a server:
 * no recipients, an address that cannot stand in a command, a closed pool, an
 * aborted signal.
 */
export function rejectedBeforeSending(transport: Transport, mail: MailMessage, envelope: Envelope): Error | undefined {
  const signal = mail.data['signal'] as AbortSignal | undefined
  if (signal?.aborted === true) {
    const error = new Error('Message sending aborted', { cause: signal.reason })
    return Object.assign(error, { name: 'AbortError', code: 'EABORT' })
  }
  if (transport._closed === true) return nativeError('Connection pool was closed', 'ECONNECTION')
  if (transport.name === 'Sendmail') {
    const dashed = [envelope.from, ...envelope.to].some((address) => address !== false && /^"?-/.test(address))
    return dashed ? nativeError('Can not send mail. Invalid envelope addresses.', 'ESENDMAIL') : undefined
  }
  if (typeof transport.name !== 'string' || !transport.name.startsWith('SMTP')) return undefined
  if (envelope.to.length === 0) return nativeError('No recipients defined', 'EENVELOPE', 'API')
  if (envelope.from !== false && UNSAFE.test(envelope.from)) {
    return nativeError(`Invalid sender ${JSON.stringify(envelope.from)}`, 'EENVELOPE', 'API')
  }
  const bad = envelope.to.find((address) => address === '' || UNSAFE.test(address))
  return bad === undefined ? undefined : nativeError(`Invalid recipient ${JSON.stringify(bad)}`, 'EENVELOPE', 'API')
}

/** An error met while reading the message, as the transport would report it. */
export function unreadable(transport: Transport, error: unknown): unknown {
  if (typeof transport.name !== 'string' || !transport.name.startsWith('SMTP') || !(error instanceof Error))
    return error
  const { code, originalCode } = error as Error & { code?: unknown; originalCode?: unknown }
  const kept = code !== undefined && code !== 'ESTREAM' && originalCode === undefined ? { originalCode: code } : {}
  return Object.assign(error, kept, { code: 'ESTREAM', command: 'API' })
}

/** Would break out of the SMTP command it stands in. */
const UNSAFE = /[\r\n<>]/

function nativeError(message: string, code: string, command?: string): Error {
  return Object.assign(new Error(message), command === undefined ? { code } : { code, command })
}
