import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { DryTraceError } from '../../errors.js'
import type { Effect } from '../../guard/effect.js'
import type { Decision } from '../../guard/guard.js'
import type { Action, EffectKind } from '../../journal/record.js'
import type { Run } from '../../run/run.js'
import { SYSTEM } from './call-effect.js'
import { consume } from './consumer.js'
import type { Boss, Handler, Method, Options } from './library.js'
import type { Copied } from './producer.js'
import { addWorker, removeWorkers, workersOf } from './registry.js'

/** Bosses that a dry run started, and so may stop. */
const startedBy = new WeakMap<Boss, Run>()

/**
 * `start`, `stop`, `work` and `offWork` make and end what outlives a call:
 * pools, polling loops, maintenance, cron.
 *
 * - Inside one dry request of a live process they run in the root context, so
 *   that a boss made lazily there is not dry for ever; but a schema is not
 *   installed or migrated on behalf of a dry run, and the workers and bosses
 *   of live traffic are not stopped by it.
 * - In a process-wide dry run nothing is started: the pool is opened for
 *   reads, handlers are only remembered (for loopback), no live queue is polled.
 */
export function lifecycle(
  copied: Copied,
  file: string,
): Readonly<Record<'start' | 'stop' | 'work' | 'offWork', Method>> {
  const { guard, hook, originals } = copied

  async function startDry(run: Run, boss: Boss): Promise<Boss> {
    const db = boss.getDb()
    const opened = db._pgbdb === true && db.opened !== true
    if (opened) await guard.root(async () => db.open?.())
    startedBy.set(boss, run)
    if (run.processWide) {
      const decision = decide(run, 'write', 'ddl', 'start', undefined)
      refuseAllow(decision)
      guard.record(asBlocked(decision), {
        note: 'opened for reads only: no schema change, maintenance, cron or polling in a process-wide dry run',
      })
      return boss
    }
    const problem = await schemaProblem(boss)
    if (problem === undefined) {
      guard.record(decide(run, 'read', undefined, 'start', undefined), {
        note: 'the schema is current; worker loops, maintenance and cron outlive the run and run outside it',
      })
      await guard.root(() => originals['start']?.call(boss))
      return boss
    }
    const decision = decide(run, 'write', 'ddl', 'start', undefined)
    if (decision.verdict === 'allow') {
      guard.record(decision)
      await guard.root(() => originals['start']?.call(boss))
      return boss
    }
    startedBy.delete(boss)
    if (opened) await db.close?.()
    guard.record(asBlocked(decision), { note: problem })
    throw (
      decision.error ??
      new DryTraceError(
        'DRY_BLOCKED',
        `dry run: pg-boss was not started, ${problem}. Start it once outside of a dry run`,
      )
    )
  }

  /** Why a start would change the schema; undefined when it would not. */
  async function schemaProblem(boss: Boss): Promise<string | undefined> {
    if ((await originals['isInstalled']?.call(boss)) !== true) return 'its schema is not installed'
    const version = (await originals['schemaVersion']?.call(boss)) as number | null
    const wanted = schemaVersionOf(file)
    return version === null || version >= wanted
      ? undefined
      : `its schema would be migrated from ${version} to ${wanted}`
  }

  async function stopDry(run: Run, boss: Boss, args: unknown[]): Promise<unknown> {
    if (startedBy.get(boss) !== run) {
      const decision = decide(run, 'write', 'execute', 'stop', undefined)
      if (decision.verdict !== 'allow') {
        guard.record(asBlocked(decision), { note: 'this boss serves live traffic' })
        if (decision.error !== undefined) throw decision.error
        return undefined
      }
      guard.record(decision)
    }
    removeWorkers(boss)
    const stopped = await guard.root(() => originals['stop']?.apply(boss, args))
    // Never really started, so pg-boss closes the pool and says nothing.
    if (run.processWide) boss.emit('stopped')
    return stopped
  }

  function decide(
    run: Run,
    kind: EffectKind,
    action: Action | undefined,
    method: string,
    queue: string | undefined,
  ): Decision {
    return guard.decide(run, hook, () => classifyLifecycle(kind, action, method, queue))
  }

  /** A process-wide dry run consumes no live queue and has no live side: a rule that says otherwise is an error. */
  function refuseAllow(decision: Decision): void {
    if (decision.verdict === 'allow') {
      throw guard.fail(
        decision,
        new DryTraceError(
          'DRY_BLOCKED',
          `dry run: ${decision.effect.summary} cannot be allowed in a process-wide dry run`,
        ),
      )
    }
    if (decision.error === undefined) return
    guard.record(decision)
    throw decision.error
  }

  function work(this: Boss, ...args: unknown[]): unknown {
    const at = args.length > 2 ? 2 : args.length - 1
    const handler = args[at] as Handler
    const queue = args[0] as string
    // The library's own error for arguments it does not take.
    if (typeof handler !== 'function' || at === 0) return originals['work']?.apply(this, args)
    const options = (at === 2 ? args[1] : undefined) as Options | null | undefined
    const run = guard.run()
    const register = (id: unknown) =>
      addWorker({ id: String(id), boss: this, queue, handler, options: options ?? {}, runId: run?.id })
    if (run?.processWide === true) return rememberOnly(run, queue, register)
    args[at] = consume({ boss: this, queue, options: options ?? {}, handler, originals, guard })
    const start = () => originals['work']?.apply(this, args) as Promise<unknown>
    const started = run === undefined ? start() : guard.root(start)
    started.then(register, () => {})
    return started
  }

  async function rememberOnly(run: Run, queue: string, register: (id: unknown) => void): Promise<string> {
    const decision = decide(run, 'write', 'settle', 'work', queue)
    refuseAllow(decision)
    guard.record(asBlocked(decision), { note: 'a process-wide dry run consumes no live queue' })
    const id = randomUUID()
    register(id)
    return id
  }

  async function offWorkDry(run: Run, boss: Boss, args: unknown[]): Promise<unknown> {
    const [queue, options] = args as [string, { id?: string } | undefined]
    const theirs = workersOf(boss, queue, options?.id).some(({ runId }) => runId !== run.id)
    if (theirs) {
      const decision = decide(run, 'write', 'execute', 'offWork', queue)
      if (decision.verdict !== 'allow') {
        guard.record(asBlocked(decision), { note: 'these workers serve live traffic' })
        if (decision.error !== undefined) throw decision.error
        return undefined
      }
      guard.record(decision)
    }
    removeWorkers(boss, queue, options?.id)
    return run.processWide ? undefined : await guard.root(() => originals['offWork']?.apply(boss, args))
  }

  return {
    work,
    start(this: Boss, ...args) {
      const run = guard.run()
      return run === undefined ? originals['start']?.apply(this, args) : startDry(run, this)
    },
    stop(this: Boss, ...args) {
      const run = guard.run()
      if (run !== undefined) return stopDry(run, this, args)
      removeWorkers(this)
      return originals['stop']?.apply(this, args)
    },
    offWork(this: Boss, ...args) {
      const run = guard.run()
      if (run !== undefined) return offWorkDry(run, this, args)
      const [queue, options] = args as [string, { id?: string } | undefined]
      removeWorkers(this, queue, options?.id)
      return originals['offWork']?.apply(this, args)
    },
  }
}

function classifyLifecycle(
  kind: EffectKind,
  action: Action | undefined,
  method: string,
  queue: string | undefined,
): Effect {
  const target = queue ?? SYSTEM
  return {
    system: SYSTEM,
    kind,
    ...(action === undefined ? {} : { action }),
    target,
    summary: `${method} ${target}`,
    fingerprint: `pg-boss:${method}:${target}`,
    match: { destination: queue, operation: method },
  }
}

function asBlocked(decision: Decision): Decision {
  return decision.verdict === 'block' ? decision : { ...decision, verdict: 'block' }
}

/** The schema version this copy of the library wants. */
function schemaVersionOf(file: string): number {
  const text = readFileSync(path.join(path.dirname(file), '..', 'package.json'), 'utf8')
  const { pgboss } = JSON.parse(text) as { pgboss?: { schema?: number } }
  if (typeof pgboss?.schema !== 'number') throw new TypeError('pg-boss does not say which schema version it wants')
  return pgboss.schema
}
