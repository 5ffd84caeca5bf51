import { AsyncLocalStorage } from 'node:async_hooks'
import type { Baggage } from '@opentelemetry/api'
import { activeContext, otel } from '../otel-api.js'
import { BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN } from '../semconv.js'
import type { Run } from './run.js'
import { BAGGAGE_KEY, shared } from './store.js'

/**
 * Runs `fn` inside `run`; live when undefined, whatever the ambient context
 * says. The flag is taken out of the active baggage on the way to live, and a
 * foreign one on the way into a run: the OR of {@link currentRun} would find it.
 */
export function within<T>(run: Run | undefined, fn: () => T): T {
  const active = activeContext()
  const baggage = active?.getValue(BAGGAGE_KEY) as Baggage | undefined
  if (active === undefined || baggage?.getEntry(BAGGAGE_FLAG) === undefined) return shared.runs.run(run, fn)
  const { context, propagation } = otel()
  return context.with(propagation.setBaggage(active, withoutFlag(baggage)), () => shared.runs.run(run, fn))
}

export function withoutFlag(baggage: Baggage): Baggage {
  return baggage.removeEntries(BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN)
}

/** A function that runs in the current context, wherever it is called from. */
export function bind<F extends (...args: never[]) => unknown>(fn: F): F {
  const snapshot = AsyncLocalStorage.snapshot()
  return function bound(this: unknown, ...args: never[]) {
    return snapshot(() => Reflect.apply(fn, this, args))
  } as F
}

/** Makes every event of an emitter run inside the run. Own property: live emitters keep the prototype's method. */
export function bindEmitter(emitter: object, run: Run): void {
  const target = emitter as { emit?: (...args: unknown[]) => boolean }
  const { emit } = target
  if (typeof emit !== 'function') return
  const entry = shared.entries.getStore()
  Object.defineProperty(target, 'emit', {
    configurable: true,
    writable: true,
    enumerable: false,
    value: function boundEmit(this: unknown, ...args: unknown[]) {
      return shared.entries.run(entry, () => shared.runs.run(run, () => Reflect.apply(emit, this, args)))
    },
  })
}
