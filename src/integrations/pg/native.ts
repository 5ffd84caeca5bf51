import { DryTraceError } from '../../errors.js'
import type { Guard, Hook } from '../../guard/guard.js'

interface NativeClient {
  query(config: unknown, values?: unknown, callback?: unknown): unknown
  connect(callback?: unknown): unknown
}

/**
 * Meets `pg/lib/native/client.js`. libpq's binding gives us nothing to stand
 * between, so dry calls are refused; live calls are untouched.
 */
export function patchNative(Client: { readonly prototype: NativeClient }, guard: Guard, hook: Hook): void {
  const { prototype } = Client
  if (typeof prototype.query !== 'function') throw new TypeError("pg's native Client has no query")
  const originalQuery = prototype.query

  prototype.query = function query(config, values, callback) {
    const run = guard.run()
    if (run === undefined) return originalQuery.call(this, config, values, callback)
    const reason = 'pg-native is not supported in a dry run'
    const decision = guard.decide(run, hook, () => ({
      system: 'postgresql',
      kind: 'unknown',
      action: 'execute',
      target: 'pg-native',
      summary: 'query through pg-native',
      fingerprint: 'postgresql:pg-native',
      match: {},
    }))
    const error = guard.fail(decision, new DryTraceError('DRY_BLOCKED', `dry run: ${reason}`))
    return refuse(config, values, callback, error)
  }
}

interface Submitted {
  callback?: unknown
  submit?: unknown
  handleError?(error: Error): void
}

/** The error in the style of the call: through the query object, the callback, or a promise. */
function refuse(config: unknown, values: unknown, callback: unknown, error: Error): unknown {
  const submitted = (typeof config === 'object' ? config : null) as Submitted | null
  if (typeof submitted?.submit === 'function') {
    process.nextTick(() => submitted.handleError?.(error))
    return submitted
  }
  const given = [callback, values, submitted?.callback].find((value) => typeof value === 'function')
  if (given === undefined) return Promise.reject(error)
  process.nextTick(given as (error: Error) => void, error)
  return undefined
}
