import { versionedFlag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { HEADER_FLAG } from '../semconv.js'
import { foreignBaggage, foreignTracestate, mergeBaggage, mergeTracestate } from './environment.js'

/** Reading and writing the headers of an outgoing request, whatever holds them. */
export interface HeaderBag {
  get(name: string): string | undefined
  set(name: string, value: string): void
  remove(name: string): void
}

/**
 * Puts the flag into every carrier of a request to a peer that may be told of
 * the run, and takes it out of a request to anybody else: a token must not
 * leave the house, and a stranger has no use for it.
 */
export function carryFlag(headers: HeaderBag, run: Run, tell: boolean): void {
  const baggage = headers.get('baggage')
  const tracestate = headers.get('tracestate')
  if (tell) {
    headers.set('baggage', mergeBaggage(run, baggage))
    headers.set('tracestate', mergeTracestate(run, tracestate))
    headers.set(HEADER_FLAG, versionedFlag(run.id))
    return
  }
  replace(headers, 'baggage', baggage, foreignBaggage(baggage))
  replace(headers, 'tracestate', tracestate, foreignTracestate(tracestate))
  if (headers.get(HEADER_FLAG) !== undefined) headers.remove(HEADER_FLAG)
}

function replace(headers: HeaderBag, name: string, before: string | undefined, members: readonly string[]): void {
  if (before === undefined) return
  if (members.length === 0) headers.remove(name)
  else headers.set(name, members.join(','))
}

let silent = 0

/** Runs `fn` with the propagator mute: instrumentation that injects inside a library (undici) tells nobody. */
export function withoutInjection<T>(fn: () => T): T {
  silent += 1
  try {
    return fn()
  } finally {
    silent -= 1
  }
}

export function injectionMuted(): boolean {
  return silent > 0
}
