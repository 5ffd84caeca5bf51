import { Readable } from 'node:stream'
import { relayedHeaders } from '../http/held-request.js'
import type { SimulatedResponse } from '../http/wire-peer.js'
import type { Handler } from './dispatch.js'

interface Controller {
  pause(): void
  resume(): void
  abort(reason: Error): void
}

interface Held {
  readonly handler: Handler
  readonly answer: Promise<SimulatedResponse>
}

/** A handler that turns one dispatch into a streamed answer, in the generation of the protocol the caller speaks. */
export function collectAnswer(like: Handler, signal: AbortSignal): Held {
  const { promise: answer, resolve, reject } = Promise.withResolvers<SimulatedResponse>()
  let resume: () => void = () => {}
  let cancel: (reason: Error) => void = () => {}
  let ended = false
  const gone = () => new DOMException('The caller gave up.', 'AbortError')
  const body = new Readable({
    read: () => resume(),
    destroy(error, callback) {
      if (!ended) cancel(error ?? gone())
      callback(error)
    },
  })
  body.on('error', () => {})

  const start = (abort: (reason: Error) => void) => {
    cancel = abort
    if (signal.aborted) abort(gone())
    else signal.addEventListener('abort', () => ended || abort(gone()), { once: true })
  }
  const head = (status: number, pairs: Iterable<readonly [string, string]>, reason: string | undefined) => {
    if (status >= 200) resolve({ status, reason, headers: relayedHeaders(pairs), body })
  }
  const end = () => {
    ended = true
    body.push(null)
  }
  const fail = (error: Error) => {
    ended = true
    reject(error)
    body.destroy(error)
  }

  const modern: Handler = {
    onRequestStart(controller) {
      resume = () => (controller as Controller).resume()
      start((reason) => (controller as Controller).abort(reason))
    },
    onResponseStart(_, status, headers, reason) {
      head(status as number, pairsOf(headers as Record<string, string | string[]>), reason as string | undefined)
    },
    onResponseData(controller, chunk) {
      if (!body.push(chunk)) (controller as Controller).pause()
    },
    onResponseEnd: end,
    onResponseError: (_, error) => fail(error as Error),
  }
  const legacy: Handler = {
    onConnect: (abort) => start(abort as (reason: Error) => void),
    onHeaders(status, raw, go, reason) {
      resume = go as () => void
      const flat = (raw as Buffer[] | null)?.map((part) => part.toString('latin1')) ?? []
      const pairs = flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ''] as const] : []))
      head(status as number, pairs, reason as string | undefined)
      return true
    },
    onData: (chunk) => body.push(chunk),
    onComplete: end,
    onError: (error) => fail(error as Error),
  }
  return { handler: typeof like['onRequestStart'] === 'function' ? modern : legacy, answer }
}

function pairsOf(headers: Record<string, string | string[]>): (readonly [string, string])[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((each) => [name, each] as const),
  )
}
