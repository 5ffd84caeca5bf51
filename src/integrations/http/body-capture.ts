import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Payload } from '../../journal/record.js'
import { MAX_BODY } from '../../policy/http/request-facts.js'

/** A request body, hashed whole and kept in part. */
export interface CapturedBody {
  readonly digest: string
  readonly size: number
  readonly contentType: string | undefined
  readonly contentEncoding: string | undefined
  /** The first bytes, up to the cap: a large upload is hashed and counted, never buffered. */
  readonly head: Buffer
}

/** Bytes that an excerpt is made of. */
const MAX_EXCERPT = 64 * 1024

export class BodyCapture {
  readonly #hash = createHash('sha256')
  readonly #contentType: string | undefined
  readonly #contentEncoding: string | undefined
  readonly #chunks: Buffer[] = []
  #kept = 0
  #size = 0

  constructor(contentType?: string, contentEncoding?: string) {
    this.#contentType = contentType
    this.#contentEncoding = contentEncoding
  }

  add(chunk: Uint8Array): void {
    this.#hash.update(chunk)
    this.#size += chunk.byteLength
    if (this.#kept >= MAX_BODY) return
    const part = Buffer.from(chunk.subarray(0, MAX_BODY - this.#kept))
    this.#kept += part.length
    this.#chunks.push(part)
  }

  finish(): CapturedBody {
    return {
      digest: this.#hash.digest('hex'),
      size: this.#size,
      contentType: this.#contentType,
      contentEncoding: this.#contentEncoding,
      head: Buffer.concat(this.#chunks),
    }
  }
}

/** What the journal keeps of a body; undefined for an empty one. Redaction comes after. */
export function payloadOf(body: CapturedBody): Payload | undefined {
  if (body.size === 0) return undefined
  const excerpt = excerptOf(body)
  return {
    digest: body.digest,
    size: body.size,
    ...(body.contentType === undefined ? {} : { contentType: body.contentType }),
    ...(excerpt === undefined ? {} : { excerpt }),
  }
}

function excerptOf(body: CapturedBody): unknown {
  const { size, contentType = '', contentEncoding } = body
  const head = body.head.subarray(0, MAX_EXCERPT)
  if (contentEncoding !== undefined && contentEncoding !== 'identity') return `[${size} bytes, ${contentEncoding}]`
  if (/^multipart\//i.test(contentType)) return summariseMultipart(head.toString('latin1'), size)
  const whole = head.length === size
  const text = head.toString('utf8')
  if (/[/+]json\b/i.test(contentType) && whole) {
    try {
      return JSON.parse(text)
    } catch {
      return text
    }
  }
  if (/^application\/x-www-form-urlencoded/i.test(contentType) && whole)
    return Object.fromEntries(new URLSearchParams(text))
  if (/^text\/|[/+](json|xml|yaml|graphql)\b|x-ndjson/i.test(contentType))
    return whole ? text : `${text}… (${size} bytes)`
  return contentType === '' && isText(text) ? text : `[${size} bytes${contentType === '' ? '' : ` of ${contentType}`}]`
}

/** Names of the parts, never their content. */
function summariseMultipart(head: string, size: number): string {
  const parts = [...head.matchAll(/content-disposition:[^\r\n]*?\bname="([^"]*)"(?:[^\r\n]*?\bfilename="([^"]*)")?/gi)]
  const names = parts.map(([, name, file]) => (file === undefined ? name : `${name} (file ${file})`))
  return `[multipart, ${size} bytes: ${names.join(', ')}]`
}

function isText(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what tells binary from text
  return !/[\u0000-\u0008\u000e-\u001f\ufffd]/.test(text)
}
