import { DryTraceError } from '../../errors.js'
import type { Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import { shared } from '../../run/store.js'
import { loadGrammar } from '../../sql/grammar.js'
import { assertInstance, type Factory, type Instance, type Scope } from './library.js'
import { insideOf, isPatched, knowInstance, knowScope, type ScopeFunction, scoped } from './routing.js'
import { Shadow, ShadowSource } from './shadow.js'

/** Meets `index.js`. @returns what `postgres` is from now on @throws TypeError when the library has changed */
export function patchFactory(postgres: Factory, guard: Guard, hook: Hook): Factory {
  // Opens nothing: connections are made with the first query.
  const probe = postgres({ host: 'localhost', user: 'probe', database: 'probe', max: 1 })
  assertInstance(probe)
  const query = probe.unsafe('')
  if (typeof query.handler !== 'function' || typeof query.canceller !== 'function' || !isPatched(query)) {
    throw new TypeError('the queries of postgres.js have changed')
  }
  shared.startListeners.add(prepareGrammar)
  if (guard.run() !== undefined) prepareGrammar()

  const dry = function postgresOrDry(...args: unknown[]): Instance {
    const sql = postgres(...args)
    // The library's own, for replication: live code may go on with it, and a dry run is refused what it is for.
    if (isReplication(args[0])) return sql
    meet(sql, new ShadowSource(sql, postgres, guard, hook))
    return sql
  } as Factory
  return Object.assign(dry, postgres)
}

function isReplication(options: unknown): boolean {
  return typeof options === 'object' && options !== null && 'shared' in options && 'no_subscribe' in options
}

/** A grammar that cannot be loaded fails every statement, in words. */
function prepareGrammar(): void {
  void loadGrammar().catch(() => undefined)
}

function meet(sql: Instance, source: ShadowSource): void {
  const { guard } = source
  const born = guard.run()
  const ofRuns = new WeakMap<Run, Shadow>()
  const shadowFor = (run: Run): Shadow => {
    const known = ofRuns.get(run)
    if (known !== undefined) return known
    const shadow = new Shadow(source, run)
    knowScope(shadow.sql, shadow)
    ofRuns.set(run, shadow)
    atEndOf(run, () => {
      ofRuns.delete(run)
      return shadow.end()
    })
    return shadow
  }
  knowInstance(sql.unsafe('').handler, shadowFor)

  const { begin, reserve, listen, subscribe, file, end, close } = sql
  sql.begin = (...args) => {
    const run = guard.run()
    if (run === undefined) return begin(...args)
    const shadow = shadowFor(run)
    const fn = args.at(-1)
    const own = typeof fn === 'function' ? [...args.slice(0, -1), scoped(shadow, fn as ScopeFunction)] : args
    return insideOf(shadow, () => shadow.sql.begin(...own))
  }
  sql.reserve = async (...args) => {
    const run = guard.run()
    if (run === undefined) return await reserve(...args)
    const shadow = shadowFor(run)
    const scope: Scope = await shadow.sql.reserve()
    knowScope(scope, shadow)
    return scope
  }
  sql.file = (...args) => {
    const run = guard.run()
    return run === undefined ? file(...args) : shadowFor(run).sql.file(...args)
  }
  sql.listen = async (name, fn, onlisten) => {
    const run = guard.run()
    if (run === undefined) return await listen(name, fn, onlisten)
    return await listenDry(shadowFor(run).sql, name, onlisten)
  }
  sql.subscribe = async (...args) => {
    const run = guard.run()
    if (run === undefined) return await subscribe(...args)
    throw refuseReplication(run, source)
  }
  // Live code may be using the instance: only what was made for this run, or by it, is closed.
  sql.end = async (options) => {
    const run = guard.run()
    if (run === undefined) return await end(options)
    await shadowFor(run).sql.end(options)
    if (run.processWide || born === run) return await end(options)
    return undefined
  }
  sql.close = async () => {
    const run = guard.run()
    if (run === undefined) return await close()
    return await ofRuns.get(run)?.sql.close()
  }
}

/** A dry run hears no notifications: they are meant for live code. */
async function listenDry(sql: Instance, name: string, onlisten: (() => unknown) | undefined): Promise<unknown> {
  const channel = `"${name.replaceAll('"', '""')}"`
  const { state } = (await sql.unsafe(`listen ${channel}`)) as { state: unknown }
  onlisten?.()
  return { state, unlisten: () => sql.unsafe(`unlisten ${channel}`) }
}

function refuseReplication(run: Run, { guard, hook, original }: ShadowSource): Error {
  const { database, host } = original.options
  const decision = guard.decide(run, hook, () => ({
    system: 'postgresql',
    kind: 'write',
    action: 'execute',
    target: database,
    summary: 'START_REPLICATION',
    fingerprint: 'postgresql:subscribe',
    match: { operation: 'START_REPLICATION', database, host: host[0] },
  }))
  if (decision.error === undefined) {
    return guard.fail(
      decision,
      new DryTraceError('DRY_BLOCKED', 'dry run: sql.subscribe makes a replication slot, which is not supported'),
    )
  }
  guard.record(decision)
  return decision.error
}

const endings = new WeakMap<Run, (() => Promise<void>)[]>()
let listening = false

function atEndOf(run: Run, fn: () => Promise<void>): void {
  if (!listening) {
    listening = true
    shared.endListeners.add((ended) => {
      for (const ending of endings.get(ended) ?? []) void ending()
      endings.delete(ended)
    })
  }
  const known = endings.get(run)
  if (known === undefined) endings.set(run, [fn])
  else known.push(fn)
}
