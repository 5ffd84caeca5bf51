import type { Decision, Guard } from '../../guard/guard.js'
import type { RequestInternals } from './agent-view.js'
import { classifyHttp, type HttpCall, overriddenMethod } from './http-effect.js'
import { refusal, unrecorded } from './responder.js'
import type { Exchange } from './wire-peer.js'

/**
 * `node:http` decides when a request is made, and its caller may still set the
 * method, the path and headers until the head is written. What is written is
 * decided on again when it is not what was decided on; a request that would
 * not have been let pass is destroyed before a byte of it has left.
 *
 * @param callNow what the request is by now
 */
export function recheckHead(
  guard: Guard,
  decision: Decision,
  request: RequestInternals,
  callNow: () => HttpCall,
): void {
  const before = headOf(callNow())
  const { _implicitHeader } = request
  Object.defineProperty(request, '_implicitHeader', {
    configurable: true,
    writable: true,
    value: function (this: unknown) {
      try {
        const call = callNow()
        const error = headOf(call) === before ? undefined : refusalOfChange(guard, decision, call)
        if (error !== undefined) request.destroy(error)
      } catch (error) {
        request.destroy(guard.fail(decision, error))
      }
      return Reflect.apply(_implicitHeader, this, [])
    },
  })
}

/** The decision on a request that reached the simulated peer, made again when it is another than the one decided on. */
export function decisionOn(guard: Guard, decision: Decision, call: HttpCall, exchange: Exchange | undefined): Decision {
  if (exchange === undefined) return decision
  const { method, path, headers } = exchange
  const same =
    method === call.method && path === call.path && overriddenMethod(headers) === overriddenMethod(call.headers)
  return same ? decision : decideAgain(guard, decision, { ...call, method, path, headers, headersFinal: true })
}

function refusalOfChange(guard: Guard, decision: Decision, call: HttpCall): Error | undefined {
  const again = decideAgain(guard, decision, call)
  if (again.verdict !== 'allow') return refusal(guard, again)
  // Headers that changed nothing: the call is on record as it is.
  if (again.effect.summary === decision.effect.summary && again.effect.kind === decision.effect.kind) return undefined
  return unrecorded(guard, again)
}

function decideAgain(guard: Guard, { run, hook, context, entry }: Decision, call: HttpCall): Decision {
  return { ...guard.decide(run, hook, () => classifyHttp(call)), context, entry }
}

function headOf({ method, path, headers = {} }: HttpCall): string {
  return JSON.stringify([method, path, Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1))])
}
