import type { Effect, EffectDetail } from '../../guard/effect.js'
import {
  ATTR_MAIL_RECIPIENT_COUNT,
  ATTR_NETWORK_PROTOCOL,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
} from '../../semconv.js'
import type { Envelope, Transport } from './library.js'
import { type CompiledMessage, contentDigest, previewText } from './message.js'

/** Recipients and attachments listed in a record. */
const MAX_LISTED = 50

/** One message, about to be handed to its transport. */
export interface SendCall {
  readonly transport: Transport
  readonly envelope: Envelope
}

/** Where a transport sends to. */
interface MailHost {
  readonly host: string
  readonly port: number | undefined
  readonly smtp: boolean
}

export function mailHost({ name, options = {} }: Transport): MailHost {
  const kind = typeof name === 'string' ? name : 'custom'
  if (kind === 'SESTransport') return { host: 'ses', port: undefined, smtp: false }
  if (kind === 'Sendmail') return { host: 'sendmail', port: undefined, smtp: false }
  if (!kind.startsWith('SMTP')) return { host: kind.toLowerCase(), port: undefined, smtp: false }
  const host = typeof options['host'] === 'string' && options['host'] !== '' ? options['host'] : 'localhost'
  const port = Number(options['port']) || (options['secure'] === true ? 465 : 587)
  return { host, port, smtp: true }
}

/** What sending would do. The subject and the addresses are personal data: they stay out of summary and target. */
export function classifySend({ transport, envelope }: SendCall): Effect {
  const where = mailHost(transport)
  const target = nameOf(where)
  const count = envelope.to.length
  return {
    system: 'smtp',
    kind: 'write',
    action: 'send',
    target,
    summary: `send mail via ${target} to ${count} ${count === 1 ? 'recipient' : 'recipients'}`,
    fingerprint: `smtp:send:${target}`,
    match: { ...matchOf(where), destination: domainOf(envelope.to) },
    attributes: { ...attributesOf(where), [ATTR_MAIL_RECIPIENT_COUNT]: count },
  }
}

/** `verify()` connects, logs in and quits: it changes nothing. */
export function classifyVerify(transport: Transport): Effect {
  const where = mailHost(transport)
  const target = nameOf(where)
  return {
    system: 'smtp',
    kind: 'read',
    target,
    summary: `verify the mail server ${target}`,
    fingerprint: `smtp:verify:${target}`,
    match: matchOf(where),
    attributes: attributesOf(where),
  }
}

export function detailOf(
  { envelope }: SendCall,
  subject: string | undefined,
  { size, parts }: CompiledMessage,
): EffectDetail {
  return {
    fidelity: 'plausible',
    payload: {
      digest: contentDigest(envelope, subject, parts),
      size,
      contentType: 'message/rfc822',
      excerpt: {
        ...addresses(envelope),
        subject,
        attachments: parts
          .filter(({ filename }) => filename !== undefined)
          .slice(0, MAX_LISTED)
          .map(({ filename, size: bytes }) => ({ name: filename, size: bytes })),
        text: previewText(parts),
      },
    },
  }
}

export function addresses(envelope: Envelope): { from: string | null; recipients: string[] } {
  const recipients = envelope.to.slice(0, MAX_LISTED).map(redactAddress)
  const more = envelope.to.length - recipients.length
  return {
    from: envelope.from === false ? null : redactAddress(envelope.from),
    recipients: more > 0 ? [...recipients, `[${more} more]`] : recipients,
  }
}

/** `alice@example.com` becomes `a***@example.com`. */
export function redactAddress(address: string): string {
  const at = address.lastIndexOf('@')
  return at < 1 ? '***' : `${address.charAt(0)}***${address.slice(at)}`
}

/**
 * The one domain all recipients share, or `mixed`: a rule that allows a domain
 * must not let a message out because one of its recipients is in it.
 */
function domainOf(recipients: readonly string[]): string | undefined {
  const domains = new Set(recipients.map((address) => address.slice(address.lastIndexOf('@') + 1).toLowerCase()))
  return domains.size > 1 ? 'mixed' : domains.values().next().value
}

function nameOf({ host, port }: MailHost): string {
  return port === undefined ? host : `${host}:${port}`
}

function matchOf({ host, port }: MailHost) {
  return { host, port: port === undefined ? undefined : String(port) }
}

function attributesOf({ host, port, smtp }: MailHost) {
  if (!smtp) return {}
  return { [ATTR_NETWORK_PROTOCOL]: 'smtp', [ATTR_SERVER_ADDRESS]: host, [ATTR_SERVER_PORT]: port }
}
