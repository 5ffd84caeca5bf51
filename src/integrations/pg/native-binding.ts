import { DryTraceError } from '../../errors.js'
import type { Guard, Hook } from '../../guard/guard.js'

type Method = (this: unknown, ...args: unknown[]) => unknown

/** Everything of pg-native's client that sends a statement. */
const SENDING = ['query', 'prepare', 'execute', 'querySync', 'prepareSync', 'executeSync', 'pipeline', 'getCopyStream']

let ours = false

/** Calls the binding for a statement that has been decided on. Synchronous, so that no other call can be in between. */
export function asDecided<T>(fn: () => T): T {
  const outer = ours
  ours = true
  try {
    return fn()
  } finally {
    ours = outer
  }
}

/**
 * Meets `pg-native/index.js`: used without pg, it is refused in a dry run,
 * because its socket is one that no fence of ours can see.
 */
export function patchBinding(Binding: { readonly prototype: Record<string, Method> }, guard: Guard, hook: Hook): void {
  const { prototype } = Binding
  if (typeof prototype['query'] !== 'function') throw new TypeError("pg-native's Client has no query")
  for (const name of SENDING) {
    const original = prototype[name]
    if (typeof original !== 'function') continue
    prototype[name] = function send(...args) {
      const run = ours ? undefined : guard.run()
      if (run === undefined) return original.apply(this, args)
      const decision = guard.decide(run, hook, () => ({
        system: 'postgresql',
        kind: 'unknown',
        action: 'execute',
        target: 'pg-native',
        summary: `${name} of pg-native, without pg`,
        fingerprint: 'postgresql:pg-native',
        match: {},
      }))
      const reason = 'dry run: pg-native is supported through pg only'
      const error = guard.fail(decision, new DryTraceError('DRY_BLOCKED', reason))
      const callback = args.at(-1)
      if (typeof callback !== 'function') throw error
      process.nextTick(callback as (error: Error) => void, error)
      return undefined
    }
  }
}
