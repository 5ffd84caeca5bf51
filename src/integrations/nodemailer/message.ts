import { createHash, type Hash } from 'node:crypto'
import type { MimeNode } from './library.js'

/** Characters of the text that are kept for the report. */
const MAX_PREVIEW = 500
/** Bytes of a text part that are looked at for it; markup takes its share. */
const MAX_HEAD = 4_096

/** One leaf of the message: a text, an alternative, an attachment. */
export interface MessagePart {
  readonly contentType: string
  readonly filename: string | undefined
  readonly size: number
  /** SHA-256 (hex) of the content before transfer encoding. */
  readonly digest: string
  /** The first bytes of a text that is not an attachment. */
  readonly head: Buffer
}

export interface CompiledMessage {
  /** Bytes of the MIME message. */
  readonly size: number
  /** Bytes SMTP would have transferred: dots stuffed, line ends made CRLF, terminator included. */
  readonly smtpSize: number
  readonly parts: readonly MessagePart[]
  /** The MIME message, when asked for. */
  readonly raw: Buffer | undefined
}

/**
 * Compiles the message to its last byte, as a transport would: content streams
 * are read, files and URLs opened, DKIM signed. Rejects with the library's own
 * error when that fails.
 */
export async function compileMessage(message: MimeNode, keepRaw: boolean): Promise<CompiledMessage> {
  const taps = nodesOf(message).map(tap)
  const data = new SmtpDataSize()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of message.createReadStream() as AsyncIterable<Buffer | string>) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    size += bytes.length
    data.add(bytes)
    if (keepRaw) chunks.push(bytes)
  }
  return {
    size,
    smtpSize: data.total(),
    parts: taps.flatMap((read) => read() ?? []),
    raw: keepRaw ? Buffer.concat(chunks) : undefined,
  }
}

/** First characters of the text, or of the HTML without its markup. */
export function previewText(parts: readonly MessagePart[]): string {
  const texts = parts.filter(({ filename, head }) => filename === undefined && head.length > 0)
  const plain = texts.find(({ contentType }) => !contentType.startsWith('text/html'))
  const text = plain?.head.toString() ?? texts[0]?.head.toString().replace(/<[^<>]*>/g, ' ') ?? ''
  return text.replace(/\s+/g, ' ').trim().slice(0, MAX_PREVIEW)
}

/**
 * SHA-256 of what the message says and to whom. Not of the MIME text, whose
 * date, boundary and message id differ each time the same mail is sent.
 */
export function contentDigest(
  envelope: { readonly from: unknown; readonly to: readonly string[] },
  subject: string | undefined,
  parts: readonly MessagePart[],
): string {
  const content = parts.map(({ contentType, filename, digest }) => [contentType, filename ?? null, digest])
  return createHash('sha256')
    .update(JSON.stringify([envelope.from, envelope.to, subject ?? null, content]))
    .digest('hex')
}

function nodesOf(node: MimeNode): MimeNode[] {
  return [node, ...node.childNodes.flatMap(nodesOf)]
}

/** Watches the content of one node pass by. Streams can be read only once, so there is no other moment. */
function tap(node: MimeNode): () => MessagePart | undefined {
  let seen: { hash: Hash; size: number; head: Buffer[]; kept: number } | undefined
  const original = node._getStream
  const opened = (content: unknown): NodeJS.ReadableStream => {
    // Content the library reads twice (once to resolve it, once to send it) is counted once.
    const current = { hash: createHash('sha256'), size: 0, head: [] as Buffer[], kept: 0 }
    seen = current
    const stream = original.call(node, content)
    stream.on('data', (chunk: Buffer | string) => {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      current.hash.update(typeof content === 'string' ? withoutRandomCid(bytes) : bytes)
      current.size += bytes.length
      if (current.kept < MAX_HEAD) {
        const head = bytes.subarray(0, MAX_HEAD - current.kept)
        current.head.push(head)
        current.kept += head.length
      }
    })
    return stream
  }
  Object.defineProperty(node, '_getStream', { value: opened, configurable: true, writable: true })
  return () => {
    if (seen === undefined) return undefined
    const contentType = (node.getHeader('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
    const isText = node.filename === undefined && (contentType === '' || contentType.startsWith('text/'))
    return {
      contentType,
      filename: node.filename,
      size: seen.size,
      digest: seen.hash.digest('hex'),
      head: isText ? Buffer.concat(seen.head) : Buffer.alloc(0),
    }
  }
}

/** With `attachDataUrls` the library gives each inline image a random content id. */
function withoutRandomCid(bytes: Buffer): string {
  return bytes.toString().replace(/cid:[0-9a-f]{20}@localhost/g, 'cid:')
}

const CR = 0x0d
const LF = 0x0a
const DOT = 0x2e

/** What the library's `DataStream` would have written for the same bytes. */
class SmtpDataSize {
  #bytes = 0
  #last: number | undefined

  add(chunk: Buffer): void {
    this.#bytes += chunk.length
    let previous = this.#last
    for (const byte of chunk) {
      if (previous === CR && byte !== LF) this.#bytes += byte === DOT ? 2 : 1
      else if (byte === LF && previous !== CR) this.#bytes += 1
      else if (byte === DOT && (previous === LF || previous === undefined)) this.#bytes += 1
      previous = byte
    }
    this.#last = previous
  }

  total(): number {
    return this.#bytes + (this.#last === LF ? 3 : this.#last === CR ? 4 : 5)
  }
}
