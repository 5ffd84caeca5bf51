import { AsyncLocalStorage } from 'node:async_hooks'
import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard } from '../../guard/guard.js'
import { otel } from '../../otel-api.js'
import type { Respond, RespondFunction, SyntheticIds } from '../../policy/http/respond.js'
import { lowerCased, type WireAnswer, wireAnswer } from '../../policy/http/respond-answer.js'
import { fillTemplate } from '../../policy/http/template.js'
import type { BlockedCall } from '../../policy/packs/response-pack.js'
import { ATTR_URL_FULL } from '../../semconv.js'
import type { SimulatedResponse } from './wire-peer.js'

/** Milliseconds a responder function may take. */
const RESPONDER_LIMIT = 5_000

/** Set while a responder function runs: what it calls is not answered by one, it would call itself. */
const responding = new AsyncLocalStorage<true>()

/** True in code that a responder function has called. */
export function isResponding(): boolean {
  return responding.getStore() === true
}

/** The answer that a rule states: `json`, `text` or `file`. */
export function statedAnswer(respond: Respond, call: BlockedCall, ids: SyntheticIds): SimulatedResponse {
  const fill = (value: unknown) => fillTemplate(value, { ids, body: call.body })
  const json = respond.json === undefined ? undefined : JSON.stringify(fill(respond.json) ?? null)
  const text = respond.text === undefined ? undefined : String(fill(respond.text) ?? '')
  const body = json ?? text ?? respond.content?.bytes
  const type =
    json !== undefined
      ? 'application/json'
      : text !== undefined
        ? 'text/plain; charset=utf-8'
        : respond.content?.contentType
  // What a request brings in must not end the header.
  const headers = Object.entries(lowerCased(respond.headers ?? {})).map(([name, value]) => [
    name,
    String(fill(value) ?? '').replace(/[^\t\x20-\x7e\x80-\xff]/g, ''),
  ])
  return {
    status: respond.status ?? 200,
    headers: { ...(type === undefined ? {} : { 'content-type': type }), ...Object.fromEntries(headers) },
    ...(body === undefined ? {} : { body }),
  }
}

/**
 * The answer of a responder function. It runs inside the run and under no
 * permit, so what it does itself is decided like any other call.
 *
 * @param path with the query
 * @throws DryTraceError `DRY_GUARD_FAILED` when it throws, returns no answer, or takes too long.
 */
export async function computedAnswer(
  guard: Guard,
  decision: Decision,
  compute: RespondFunction,
  call: BlockedCall,
  path: string,
  ids: SyntheticIds,
): Promise<WireAnswer> {
  const request = {
    method: call.method,
    url: `${originOf(decision, call)}${path}`,
    headers: { ...call.headers },
    text: call.whole ? call.body.text : null,
    json: call.whole ? call.body.json() : undefined,
  }
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`did not answer within ${RESPONDER_LIMIT / 1000} seconds`)),
      RESPONDER_LIMIT,
    )
  })
  const run = async () => await compute(request, ids)
  const inside = () =>
    otel().context.with(decision.context, () => guard.within(decision.run, () => responding.run(true, run)))
  try {
    return wireAnswer(await Promise.race([guard.root(inside), late]))
  } catch (cause) {
    throw new DryTraceError(
      'DRY_GUARD_FAILED',
      `dry run: ${decision.effect.summary} was blocked; the responder of rule "${decision.rule}" failed: ${messageOf(cause)}`,
      { cause, details: { rule: decision.rule } },
    )
  } finally {
    clearTimeout(timer)
  }
}

function originOf({ effect }: Decision, { host }: BlockedCall): string {
  const origin = URL.parse(String(effect.attributes?.[ATTR_URL_FULL]))?.origin
  return origin === undefined || origin === 'null' ? `http://${host}` : origin
}
