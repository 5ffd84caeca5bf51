import type { Guard } from '../../guard/guard.js'
import { grammarLoaded, loadGrammar } from '../../sql/grammar.js'
import { stateOf } from './client-state.js'
import type { PgClient } from './driver.js'

type Callback = (...args: never[]) => unknown

interface PgPool {
  connect(callback?: Callback): unknown
  _pulseQueue(): unknown
  _release(client: PgClient, idleListener: unknown, error?: unknown): unknown
}

/**
 * Meets `pg-pool/index.js`. The pool calls waiting callers back from whoever
 * released the connection: without this, live writes would be decided in the
 * context of a dry run, and the other way round.
 */
export function patchPool(Pool: { readonly prototype: PgPool }, guard: Guard): void {
  const { prototype } = Pool
  for (const method of ['connect', '_pulseQueue', '_release'] as const) {
    if (typeof prototype[method] !== 'function') throw new TypeError(`pg-pool's Pool has no ${method}`)
  }
  const { connect, _pulseQueue, _release } = prototype

  // `pool.query` asks for its connection here too.
  prototype.connect = function dryConnect(callback) {
    if (guard.run() === undefined) return connect.call(this, callback)
    if (typeof callback !== 'function') return (connect.call(this) as Promise<unknown>).then(handOut)
    const bound = guard.bind(callback)
    return connect.call(this, function handOutTo(this: unknown, ...args: never[]) {
      void handOut(args[1]).then(() => Reflect.apply(bound, this, args))
    })
  }

  prototype._pulseQueue = function pulseQueue() {
    if (guard.run() === undefined) return _pulseQueue.call(this)
    return guard.root(() => _pulseQueue.call(this))
  }

  prototype._release = function release(client, idleListener, error) {
    // A dry transaction that was left open would swallow the next caller's writes: the pool drops the connection.
    if (stateOf(client)?.transaction !== undefined) client._poolUseCount = Number.POSITIVE_INFINITY
    return _release.call(this, client, idleListener, error)
  }
}

/** With the grammar at hand the first statement, too, is decided where the caller makes it. */
async function handOut<T>(client: T): Promise<T> {
  const state = typeof client === 'object' && client !== null ? stateOf(client) : undefined
  if (state !== undefined) state.newborn = false
  // A grammar that cannot be loaded fails every statement, in words.
  if (!grammarLoaded()) await loadGrammar().catch(() => undefined)
  return client
}
