import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'

/** What rules may look at beside host, method and path. Never recorded as such. */
export interface RequestFacts {
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  /** False while the caller may still set headers: only `node:http` decides that early. */
  readonly headersFinal: boolean
  readonly query: URLSearchParams
  /** Absent: not seen yet. Null: it cannot be read (too large, or in an unknown encoding). */
  readonly body?: RequestBody | null
}

/** A whole request body, in the forms rules ask for. */
export interface RequestBody {
  readonly text: string
  readonly contentType: string
  /** Undefined when the body is not JSON. */
  json(): unknown
  /** Undefined when the body is not a form. */
  form(): URLSearchParams | undefined
}

/** Bytes of a body that are kept for rules and for answers; what is larger counts as unreadable. */
export const MAX_BODY = 1024 * 1024

const DECODERS: Readonly<Record<string, (bytes: Uint8Array) => Buffer>> = {
  gzip: (bytes) => gunzipSync(bytes, { maxOutputLength: MAX_BODY }),
  deflate: (bytes) => inflateSync(bytes, { maxOutputLength: MAX_BODY }),
  br: (bytes) => brotliDecompressSync(bytes, { maxOutputLength: MAX_BODY }),
}

/** Null when the bytes cannot be decoded. */
export function readBody(bytes: Uint8Array, contentType = '', contentEncoding = ''): RequestBody | null {
  const encoding = contentEncoding.trim().toLowerCase()
  let text: string
  try {
    const plain = encoding === '' || encoding === 'identity' ? bytes : DECODERS[encoding]?.(bytes)
    if (plain === undefined) return null
    text = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength).toString('utf8')
  } catch {
    return null
  }
  return bodyOf(text, contentType)
}

export function bodyOf(text: string, contentType = ''): RequestBody {
  let json: { value: unknown } | undefined
  return {
    text,
    contentType,
    json() {
      json ??= { value: parse(text) }
      return json.value
    },
    form: () =>
      /^application\/x-www-form-urlencoded/i.test(contentType) ||
      (contentType === '' && /^[\w.%[\]-]+=/.test(text) && !text.includes('\n'))
        ? new URLSearchParams(text)
        : undefined,
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
