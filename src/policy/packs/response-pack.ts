import type { RequestBody } from '../http/request-facts.js'
import type { SyntheticIds } from '../http/respond.js'

/** A blocked request, whole, as the answer to it is worked out from. */
export interface BlockedCall {
  readonly method: string
  readonly host: string
  /** Path without the query. */
  readonly path: string
  readonly query: URLSearchParams
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: RequestBody
  /** False when the body is larger than what is kept, or cannot be decoded: `body` is then its start, or empty. */
  readonly whole: boolean
  /** A digest of the whole body, hex, as long as an MD5: the MD5 itself, if the body is small enough to be kept. */
  md5(): string
}

export interface PackAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/**
 * An answer that the official client of a service takes for success, where it
 * has to be worked out from the request. Comes after a rule's own `respond`;
 * `disable: [<id>]` in the policy switches it off.
 */
export interface ResponsePack {
  /** `answer.<service>`. */
  readonly id: string
  /** From host, path and headers alone: the body may be large. */
  matches(call: BlockedCall): boolean
  /** Undefined: the default answer after all. Throwing is the same. */
  respond(call: BlockedCall, ids: SyntheticIds): PackAnswer | undefined
  /** Whom a message would have reached, as the body says. */
  recipients?(call: BlockedCall): readonly string[]
}

export function json(value: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): PackAnswer {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(value) }
}

export function xml(body: string, status = 200): PackAnswer {
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n${body}`
  return { status, headers: { 'content-type': 'application/xml' }, body: text }
}

/** Text in an XML document. */
export function escapeXml(text: string): string {
  return text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** A form or JSON body as one flat record of its top-level fields. */
export function fieldsOf({ body }: BlockedCall): Record<string, unknown> {
  const form = body.form()
  if (form !== undefined) return Object.fromEntries(form)
  const value = body.json()
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  return /^multipart\/form-data/i.test(body.contentType) ? multipartFields(body.text) : {}
}

/** The plain fields of a multipart body; files are left out, repeated fields are joined. */
function multipartFields(text: string): Record<string, string> {
  const fields: Record<string, string> = {}
  const part = /\r\ncontent-disposition: form-data; name="([^"]*)"\r\n(?:[\w-]+:[^\r\n]*\r\n)*\r\n(.*?)\r\n--/gis
  for (const [, name = '', value = ''] of `\r\n${text}`.matchAll(part)) {
    fields[name] = name in fields ? `${fields[name]}, ${value}` : value
  }
  return fields
}

export function list(value: unknown): unknown[] {
  return value === undefined || value === null ? [] : Array.isArray(value) ? value : [value]
}
