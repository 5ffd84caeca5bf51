import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib'
import type { Exchange, SimulatedResponse } from '../wire-peer.js'
import { tryParseJson } from './json-value.js'

/** Bytes of an answer that are kept to be changed, as they come and unpacked. */
export const MAX_REAL = 1024 * 1024

const DECODERS: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  gzip: (bytes) => gunzipSync(bytes, { maxOutputLength: MAX_REAL }),
  'x-gzip': (bytes) => gunzipSync(bytes, { maxOutputLength: MAX_REAL }),
  deflate: (bytes) => inflateSync(bytes, { maxOutputLength: MAX_REAL }),
  br: (bytes) => brotliDecompressSync(bytes, { maxOutputLength: MAX_REAL }),
  zstd: (bytes) => zstdDecompressSync(bytes, { maxOutputLength: MAX_REAL }),
}

/** Headers that ask for less than the whole, or for nothing if it is as it was. */
const CONDITIONS = /^(if-(match|none-match|modified-since|unmodified-since|range)|range)$/

/** The request as one for the whole resource. */
export function wholeRead(exchange: Exchange): Exchange {
  const headers = Object.entries(exchange.headers).filter(([name]) => !CONDITIONS.test(name))
  return { ...exchange, headers: Object.fromEntries(headers) }
}

/** A JSON document that was read, or why there is none, with the answer as it came. */
export type RealRead =
  | { readonly json: unknown; readonly answer: SimulatedResponse }
  | { readonly reason: string; readonly answer: SimulatedResponse }

/** Reads an answer as far as it is needed; the one handed back is as good as new. */
export async function readJson(answer: SimulatedResponse): Promise<RealRead> {
  const { headers = {}, body } = answer
  const type = textOf(headers['content-type'])
  if (!/[/+]json\b/i.test(type))
    return { reason: type === '' ? 'the answer has no type' : `the answer is ${type}`, answer }
  const encoding = textOf(headers['content-encoding']).trim().toLowerCase()
  const decode = encoding === '' || encoding === 'identity' ? (bytes: Buffer) => bytes : DECODERS[encoding]
  if (decode === undefined) return { reason: `the answer is in ${encoding}`, answer }
  const { bytes, again } = await collect(body)
  const relayed = { ...answer, body: again }
  if (bytes === undefined) return { reason: `the answer is larger than ${MAX_REAL} bytes`, answer: relayed }
  let json: unknown
  try {
    json = tryParseJson(decode(bytes).toString('utf8'))
  } catch {
    return { reason: `the answer cannot be unpacked (${encoding})`, answer: relayed }
  }
  return json === undefined ? { reason: 'the answer is not JSON', answer: relayed } : { json, answer: relayed }
}

function textOf(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : (value?.join(', ') ?? '')
}

type Body = SimulatedResponse['body']

async function collect(body: Body): Promise<{ readonly bytes: Buffer | undefined; readonly again: Body }> {
  if (typeof body === 'string' || body instanceof Uint8Array || body === undefined) {
    const bytes = Buffer.from((body ?? '') as string)
    return { bytes: bytes.length > MAX_REAL ? undefined : bytes, again: body }
  }
  // Not `for await`: leaving that ends the stream, and what is too large is still to be relayed.
  const chunks = body[Symbol.asyncIterator]()
  const kept: Buffer[] = []
  let size = 0
  for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
    const bytes = Buffer.from(next.value as string)
    kept.push(bytes)
    size += bytes.length
    if (size > MAX_REAL) return { bytes: undefined, again: continued(kept, chunks) }
  }
  const bytes = Buffer.concat(kept)
  return { bytes, again: bytes }
}

async function* continued(
  kept: readonly Buffer[],
  rest: AsyncIterator<string | Uint8Array>,
): AsyncGenerator<string | Uint8Array> {
  let done = false
  try {
    yield* kept
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value
    done = true
  } finally {
    if (!done) await rest.return?.()
  }
}
