import { AsyncLocalStorage } from 'node:async_hooks'
import { Writable } from 'node:stream'
import { DryTraceError } from '../../errors.js'
import type { Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { unparsedStatement } from '../../sql/classify.js'
import { effectOf } from '../pg/effect.js'
import type { Caller } from './caller.js'
import { isTypesQuery } from './internal-queries.js'
import type { Handler, LibraryQuery, QueryClass, Scope } from './library.js'
import { originalOf } from './server-error.js'
import type { Shadow } from './shadow.js'

/**
 * Every query of the library, whoever makes it, is one class, and is sent by
 * its `handle`. Queries made or asked for in a dry run are handed to the run's
 * shadow instead of the handler they were made with; a handler that is neither
 * a shadow's nor an instance's belongs to a transaction or a reserved
 * connection of live code, and is not used.
 */

/** Gives the shadow of a run for the instance that a handler belongs to. */
type ShadowFor = (run: Run) => Shadow

const STAMP = Symbol.for('drytrace.postgres.query')

interface Stamp {
  /** The query was made in this dry run. */
  readonly run: Run | undefined
  /** The library made it for a transaction of this shadow. */
  readonly shadow: Shadow | undefined
}

interface Stamped extends LibraryQuery {
  [STAMP]?: Stamp
}

const patched = new WeakSet<object>()
const instances = new WeakMap<Handler, ShadowFor>()
const shadows = new WeakMap<Handler, Shadow>()

/** The shadow whose own code is running: set around the library's methods, never around the application's functions. */
const inside = new AsyncLocalStorage<Shadow | undefined>()

/** Queries of this handler belong to an instance of the application's. */
export function knowInstance(handler: Handler, shadowFor: ShadowFor): void {
  instances.set(handler, shadowFor)
}

/** Queries of a scope of the shadow's are its own, whatever the context says. */
export function knowScope(scope: Scope, shadow: Shadow): void {
  shadows.set(scope.unsafe('').handler, shadow)
  const { file, savepoint } = scope
  scope.file = (...args) => insideOf(shadow, () => file(...args))
  if (savepoint !== undefined) {
    scope.savepoint = (...args) => {
      const fn = args.at(-1)
      const own = typeof fn === 'function' ? [...args.slice(0, -1), scoped(shadow, fn as ScopeFunction)] : args
      return insideOf(shadow, () => savepoint(...own))
    }
  }
}

/** Runs the library's own code for the shadow: queries it makes meanwhile are the shadow's. */
export function insideOf<T>(shadow: Shadow, fn: () => T): T {
  return inside.run(shadow, fn)
}

export type ScopeFunction = (scope: Scope) => unknown

/** The application's function of a transaction: what it makes is its own, not the shadow's. */
export function scoped(shadow: Shadow, fn: ScopeFunction): ScopeFunction {
  return (scope) => {
    knowScope(scope, shadow)
    return inside.run(undefined, () => {
      const result = fn(scope)
      // The library would call `then` of what comes back, and with it code of the application's.
      return Promise.resolve(Array.isArray(result) ? Promise.all(result) : result)
    })
  }
}

/** Meets `query.js`. @throws TypeError when the class is not what we know */
export function patchQuery(Query: QueryClass, guard: Guard, hook: Hook): void {
  const { prototype } = Query ?? {}
  if (typeof prototype?.handle !== 'function' || Object.getPrototypeOf(Query) !== Promise) {
    throw new TypeError('the Query of postgres.js has changed')
  }
  // The constructor of a class cannot be replaced from outside; the one it calls first can.
  class StampedPromise<T> extends Promise<T> {
    constructor(executor: ConstructorParameters<typeof Promise<T>>[0]) {
      super(executor)
      const run = guard.run()
      const shadow = inside.getStore()
      if (run !== undefined || shadow !== undefined) {
        Object.defineProperty(this, STAMP, { value: { run, shadow } satisfies Stamp })
      }
    }
  }
  Object.setPrototypeOf(Query, StampedPromise)
  patched.add(Query)

  const { handle } = prototype
  prototype.handle = function handleDry(this: Stamped) {
    if (this.executed) return handle.call(this)
    const stamp = this[STAMP]
    const shadow = instances.has(this.handler) ? undefined : (stamp?.shadow ?? shadows.get(this.handler))
    const run = shadow?.run ?? stamp?.run ?? guard.run()
    if (run === undefined) return handle.call(this)
    divert(this, run, shadow, guard, hook)
    // Serializers and `debug` are the application's: what they make is not the shadow's.
    return inside.run(undefined, () => handle.call(this))
  }
}

/** True when queries of this class are stamped, so that none can be missed. */
export function isPatched(query: LibraryQuery): boolean {
  return patched.has(query.constructor)
}

function divert(query: LibraryQuery, run: Run, known: Shadow | undefined, guard: Guard, hook: Hook): void {
  try {
    const shadow = known ?? shadowOf(query, run)
    if (shadow !== undefined) {
      if (known === undefined) Object.assign(query, { handler: shadow.handler, canceller: shadow.canceller })
      follow(query, shadow, guard)
      return
    }
    if (query.strings.length === 1 && isTypesQuery(query.strings[0] ?? '')) return
    throw new DryTraceError(
      'DRY_BLOCKED',
      'dry run: the query was made for a transaction or a reserved connection of postgres.js that was opened outside the run',
    )
  } catch (cause) {
    const decision = guard.decide(run, hook, () => ({
      ...effectOf({ ...unparsedStatement('', ''), kind: 'write', operation: 'QUERY' }, {}),
      summary: 'query of a connection opened outside the run',
    }))
    const error = decision.error ?? guard.fail(decision, cause)
    query.handler = (refused) => refused.reject(error)
  }
}

function shadowOf({ handler }: LibraryQuery, run: Run): Shadow | undefined {
  return instances.get(handler)?.(run)
}

/** Has the query's statement decided, and the application's functions called, in the caller's context. */
function follow(query: LibraryQuery, shadow: Shadow, guard: Guard): void {
  const caller: Caller = { query, decide: guard.bind((statement, culprit) => shadow.decide(statement, culprit)) }
  let state: unknown = null
  Object.defineProperty(query, 'state', {
    configurable: true,
    enumerable: true,
    get: () => state,
    // The library sets it when it gives the query to a connection, right before it sends it.
    set(backend: { pid?: number } | null) {
      state = backend
      if (typeof backend?.pid === 'number') shadow.expect(backend.pid, caller)
    },
  })
  const { resolve, reject, forEachFn, cursorFn } = query
  query.resolve = (value) => {
    if (value instanceof Writable) caller.stream = value
    resolve.call(query, value)
  }
  query.reject = (error) => reject.call(query, originalOf(error))
  if (forEachFn !== undefined) query.forEachFn = guard.bind(forEachFn)
  if (cursorFn !== undefined) query.cursorFn = guard.bind(cursorFn)
}
