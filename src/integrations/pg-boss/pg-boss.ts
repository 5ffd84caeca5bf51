import type { Bindings, Integration } from '../integration.js'
import { type AnsweredCall, classifyCall, SYSTEM, simulateCall } from './call-effect.js'
import { withholdDryJobs } from './consumer.js'
import type { Attorney, Boss, Job, Method, Options, Originals } from './library.js'
import { lifecycle } from './lifecycle.js'
import { LIFECYCLE_METHODS, READING_METHODS } from './method-lists.js'
import { answerCall, type Copied } from './producer.js'

/**
 * Every public method of the class that can write is decided at the public
 * call, as one effect.
 *
 * No call is decided twice: the public methods do not call one another. They
 * delegate to a private manager whose methods call each other (`publish` to
 * `send`, a worker to `complete`), and that one is left alone. So there is no
 * flag to carry from an outer to an inner call, and nothing that concurrent
 * calls on one instance could mix up. For a method to be ours in a future
 * version it must be in one of our lists; one that is in none is blocked.
 */
export const pgBossIntegration: Integration<AnsweredCall, unknown> = {
  name: 'pg-boss',
  system: SYSTEM,
  versions: '>=12.20 <13',
  targets: [
    {
      file: 'pg-boss/dist/index.js',
      bindings: ['PgBoss', 'Attorney'],
      patch(bindings: Bindings, guard, { file, version }) {
        const { prototype } = bindings.PgBoss as { prototype: Record<string, Method> }
        const attorney = bindings.Attorney as Attorney
        const originals = originalsOf(prototype)
        const copied: Copied = { guard, hook: { name: 'pg-boss', version }, originals, attorney }
        for (const name of Object.keys(originals)) {
          if (READING_METHODS.has(name) || LIFECYCLE_METHODS.has(name)) continue
          replace(prototype, name, name === 'fetch' ? fetchOf(copied) : writeOf(copied, name))
        }
        for (const [name, method] of Object.entries(lifecycle(copied, file))) replace(prototype, name, method)
      },
    },
  ],
  classify: classifyCall,
  simulate: simulateCall,
  docs:
    'Every writing method of PgBoss (send, insert, schedule, complete, …), decided at the public call. Reads pass. ' +
    'work(): dry jobs run in their run or are failed; a process-wide dry run polls nothing. publish, flow, update ' +
    'and upsert are not looped back.',
}

function writeOf(copied: Copied, name: string): Method {
  const { guard, originals } = copied
  return function call(this: Boss, ...args) {
    const run = guard.run()
    if (run === undefined) return originals[name]?.apply(this, args)
    return answerCall(copied, run, this, name, args)
  }
}

function fetchOf(copied: Copied): Method {
  const { guard, originals } = copied
  return function fetch(this: Boss, ...args) {
    const run = guard.run()
    if (run !== undefined) return answerCall(copied, run, this, 'fetch', args)
    const fetched = originals['fetch']?.apply(this, args) as Promise<Job[]>
    const db = (args[1] as Options | undefined)?.['db']
    return fetched.then((jobs) => withholdDryJobs(this, args[0] as string, jobs, originals, db))
  }
}

function originalsOf(prototype: Record<string, Method>): Originals {
  const names = Object.getOwnPropertyNames(prototype).filter((name) => typeof prototype[name] === 'function')
  const originals = Object.fromEntries(names.map((name) => [name, prototype[name]]))
  for (const name of ['send', 'insert', 'work', 'start', 'stop', 'fetch', 'fail', 'complete', 'getQueue']) {
    if (originals[name] === undefined) throw new TypeError(`pg-boss has no method ${name} to wrap`)
  }
  return originals
}

function replace(prototype: Record<string, Method>, name: string, value: Method): void {
  Object.defineProperty(prototype, name, { value, writable: true, configurable: true, enumerable: false })
}
