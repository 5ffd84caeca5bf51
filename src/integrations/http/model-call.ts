import { Buffer } from 'node:buffer'
import type { ClientRequest } from 'node:http'
import type { Decision, Guard } from '../../guard/guard.js'
import type { HttpCall } from './http-effect.js'

/** Bytes of a request or an answer that are looked at. */
const CAP = 256 * 1024

/** Collects what passes, up to the cap. */
export class Tap {
  readonly #chunks: Buffer[] = []
  #size = 0

  add(chunk: unknown): void {
    if (this.#size >= CAP) return
    const bytes =
      typeof chunk === 'string' ? Buffer.from(chunk) : chunk instanceof Uint8Array ? Buffer.from(chunk) : undefined
    if (bytes === undefined) return
    this.#size += bytes.length
    this.#chunks.push(bytes)
  }

  json(): unknown {
    try {
      return JSON.parse(Buffer.concat(this.#chunks).toString('utf8'))
    } catch {
      return undefined
    }
  }
}

/** A request that travels as POST and is a read by rule may be a model call: what the workflow decided. */
export function mayBeModelCall(decision: Decision, call: HttpCall): boolean {
  return decision.effect.kind === 'read' && call.method.toUpperCase() === 'POST'
}

/** Notes a model call when the request names a model, as every inference API's does. */
export function noteModelCall(
  guard: Guard,
  decision: Decision,
  call: HttpCall,
  request: unknown,
  answer: unknown,
): void {
  const body = request as
    | { model?: unknown; messages?: unknown; input?: unknown; prompt?: unknown; contents?: unknown }
    | undefined
  const fromPath = /\/(?:models|model|deployments)\/([^/:]+)/.exec(call.path)?.[1]
  const model = typeof body?.model === 'string' ? body.model : fromPath
  const input = body?.messages ?? body?.input ?? body?.prompt ?? body?.contents
  if (model === undefined || input === undefined) return
  guard.llm(decision.run, {
    kind: 'llm',
    name: `${call.host}${call.path.split('?', 1)[0]}`,
    model,
    context: decision.context,
    input,
    output: outputOf(answer),
  })
}

/** The text or tool calls of the common answer shapes; the whole answer otherwise. */
function outputOf(answer: unknown): unknown {
  const body = answer as { choices?: { message?: unknown }[]; content?: unknown; output?: unknown } | undefined
  return body?.choices?.[0]?.message ?? body?.content ?? body?.output ?? answer
}

/** `node:http`: looks at what is written; the answer belongs to the caller's stream and is left alone. */
export function tapRequest(guard: Guard, decision: Decision, request: ClientRequest, call: HttpCall): void {
  if (!mayBeModelCall(decision, call)) return
  const tap = new Tap()
  const { write, end } = request
  request.write = function (this: ClientRequest, ...args: unknown[]) {
    tap.add(args[0])
    return Reflect.apply(write, this, args)
  } as typeof write
  request.end = function (this: ClientRequest, ...args: unknown[]) {
    tap.add(args[0])
    return Reflect.apply(end, this, args)
  } as typeof end
  request.once('finish', () => noteModelCall(guard, decision, call, tap.json(), undefined))
}
