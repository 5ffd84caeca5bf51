import { Buffer } from 'node:buffer'
import type { Decision } from '../../guard/guard.js'
import { type Validation, type ValidationRequest, validationRequest } from '../../policy/http/validation.js'
import { escapeXml } from '../../policy/packs/response-pack.js'
import { HEADER_FLAG } from '../../semconv.js'
import { BodyCapture } from './body-capture.js'
import type { Exchange, SimulatedResponse } from './wire-peer.js'

/** Bytes of an answer that are looked at; EC2's are a few hundred. */
const MAX_ANSWER = 64 * 1024

export interface PreparedValidation {
  /** What is sent instead of what the caller wrote. */
  readonly exchange: Exchange
  readonly note: string
}

/** The request in its provider's validation mode, or why it has to stay blocked. */
export function prepareValidation(
  validation: Validation,
  { effect }: Decision,
  exchange: Exchange,
): PreparedValidation | { readonly refused: string } {
  const { method, path, headers, body } = exchange
  const made = validationRequest(validation, {
    method,
    host: effect.match['host'] ?? '',
    path,
    headers,
    body: body.size === body.head.length ? body.head : null,
  })
  if ('refused' in made) return { refused: `not validated by ${validation}: ${made.refused}` }
  const sent = rewritten(exchange, made)
  if (sent.body.size !== sent.body.head.length)
    return { refused: `not validated by ${validation}: its body is too large` }
  return { exchange: sent, note: made.mode }
}

function rewritten(exchange: Exchange, { path, body }: ValidationRequest): Exchange {
  const capture = new BodyCapture(exchange.body.contentType, exchange.body.contentEncoding)
  capture.add(body)
  return { ...exchange, path, body: capture.finish() }
}

/** The provider's verdict, a "yes" in the shape of a live success. */
export async function verdictAnswer(
  validation: Validation,
  sent: Exchange,
  response: SimulatedResponse,
  id: () => string,
): Promise<SimulatedResponse> {
  const marked = { ...response, headers: { ...response.headers, [HEADER_FLAG]: 'validated' } }
  if (validation === 'sendgrid' && response.status === 200) {
    // Live, SendGrid accepts with 202 and an id.
    const { reason: _, ...rest } = marked
    return {
      ...rest,
      status: 202,
      headers: { ...marked.headers, 'x-message-id': response.headers?.['x-message-id'] ?? id() },
    }
  }
  if (validation === 'aws-ec2' && response.status === 412) return await ec2Answer(sent, marked, id)
  return marked
}

async function ec2Answer(sent: Exchange, marked: SimulatedResponse, id: () => string): Promise<SimulatedResponse> {
  const { head, rest } = await readStart(marked.body)
  if (!/<Code>\s*DryRunOperation\s*<\/Code>/.test(head.toString('utf8'))) return { ...marked, body: concat(head, rest) }
  for await (const _ of rest) {
    // To its end, or its connection is not used again.
  }
  const action = escapeXml(new URLSearchParams(sent.body.head.toString('latin1')).get('Action') ?? '').replace(
    /\W/g,
    '',
  )
  const { 'content-length': _, 'content-encoding': __, ...headers } = marked.headers ?? {}
  return {
    status: 200,
    headers: { ...headers, 'content-type': 'text/xml;charset=UTF-8' },
    body: `<?xml version="1.0" encoding="UTF-8"?>\n<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>${id()}</requestId><return>true</return></${action}Response>`,
  }
}

type Chunks = AsyncIterator<string | Uint8Array>

async function readStart(
  body: SimulatedResponse['body'],
): Promise<{ head: Buffer; rest: AsyncIterable<string | Uint8Array> }> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    return { head: Buffer.from((body ?? '') as string), rest: remaining(undefined) }
  }
  const chunks = body[Symbol.asyncIterator]()
  const parts: Buffer[] = []
  for (let size = 0; size < MAX_ANSWER; ) {
    const { done, value } = await chunks.next()
    if (done === true) return { head: Buffer.concat(parts), rest: remaining(undefined) }
    const part = Buffer.from(value as string)
    parts.push(part)
    size += part.length
  }
  return { head: Buffer.concat(parts), rest: remaining(chunks) }
}

async function* remaining(chunks: Chunks | undefined): AsyncGenerator<string | Uint8Array> {
  while (chunks !== undefined) {
    const { done, value } = await chunks.next()
    if (done === true) return
    yield value
  }
}

async function* concat(head: Buffer, rest: AsyncIterable<string | Uint8Array>): AsyncGenerator<string | Uint8Array> {
  yield head
  yield* rest
}
