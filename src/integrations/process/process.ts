import childProcess from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
import path from 'node:path'
import workerThreads from 'node:worker_threads'
import { childEnvironment } from '../../carriers/environment.js'
import { DryTraceError } from '../../errors.js'
import type { Effect } from '../../guard/effect.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import { ownFile } from '../../package/own-file.js'
import type { Run } from '../../run/run.js'
import type { Integration } from '../integration.js'
import { isNodeCommand } from './node-program.js'

const HOOK: Hook = { name: 'process', version: process.versions.node }
const REGISTER = ownFile('register.js')

/** A child process about to be started. */
export interface ProcessCall {
  readonly file: string
  readonly args: readonly string[]
}

/** Child processes and workers: Node ones inherit the run, everything else is a write. */
export const processIntegration: Integration<ProcessCall> = {
  name: 'process',
  system: 'process',
  versions: '*',
  targets: [
    { file: 'node:child_process', patch: (_, guard) => armChildProcess(guard) },
    { file: 'node:worker_threads', patch: (_, guard) => armWorkers(guard) },
  ],
  classify: classifyProcess,
  simulate: () => undefined,
  docs: 'Node children and new workers run dry with the guard preloaded; other programs are refused.',
}

export function classifyProcess({ file, args }: ProcessCall): Effect {
  const command = path.basename(file)
  // Arguments may hold anything; the program is enough to know what would have run.
  return {
    system: 'process',
    kind: 'unknown',
    action: 'execute',
    target: command,
    summary: `run ${command}${args.length > 1 ? ` with ${args.length - 1} arguments` : ''}`,
    fingerprint: `process:${command}`,
    match: { command },
  }
}

/** What `ChildProcess.prototype.spawn` is handed, by every asynchronous form of the API. */
interface SpawnOptions {
  file: string
  readonly args: readonly string[]
  envPairs: string[]
  readonly cwd?: string
}

/** A path that cannot exist: the child fails as one whose program is missing, asynchronously. */
const NOWHERE = '/proc/self/drytrace-blocked'

function armChildProcess(guard: Guard): void {
  const prototype = childProcess.ChildProcess.prototype as unknown as { spawn(options: SpawnOptions): unknown }
  const { spawn } = prototype
  prototype.spawn = function (this: childProcess.ChildProcess, options) {
    const run = guard.run()
    if (run === undefined) return Reflect.apply(spawn, this, [options])
    const env = Object.fromEntries(
      (options.envPairs ?? []).map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    )
    const { error, environment } = decideProcess(guard, run, options, env)
    if (error !== undefined) {
      failChild(this, error)
      return Reflect.apply(spawn, this, [{ ...options, file: NOWHERE }])
    }
    const envPairs = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
    return Reflect.apply(spawn, this, [{ ...options, envPairs }])
  }

  type SyncForm = (...args: unknown[]) => unknown
  for (const name of ['spawnSync', 'execFileSync', 'execSync'] as const) {
    const original = childProcess[name] as SyncForm
    const wrapped: SyncForm = function (this: unknown, ...args) {
      const run = guard.run()
      if (run === undefined) return Reflect.apply(original, this, args)
      const call = syncCall(name, args)
      const { error, environment } = decideProcess(guard, run, call, call.env)
      if (error === undefined) return Reflect.apply(original, this, call.rebuild(environment))
      // As where the program is missing.
      const nothing = { status: null, signal: null, output: null, pid: 0, stdout: undefined, stderr: undefined }
      if (name !== 'spawnSync') throw Object.assign(error, nothing)
      return { error, ...nothing }
    }
    Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original))
    ;(childProcess as Record<string, unknown>)[name] = wrapped
  }
  armExecve(guard)
  syncBuiltinESMExports()
}

/** `process.execve` puts another program in the place of this one, with the same standing as a child. */
function armExecve(guard: Guard): void {
  const host = process as { execve?: (file: string, args?: readonly string[], env?: NodeJS.ProcessEnv) => never }
  const { execve } = host
  if (execve === undefined) return
  host.execve = function (this: NodeJS.Process, file, args = [], env = process.env) {
    const run = guard.run()
    if (run === undefined) return Reflect.apply(execve, this, [file, args, env]) as never
    const { error, environment } = decideProcess(guard, run, { file, args }, env)
    if (error !== undefined) throw error
    return Reflect.apply(execve, this, [file, args, environment]) as never
  }
}

interface ProcessVerdict {
  readonly error?: Error
  readonly environment: NodeJS.ProcessEnv
}

function decideProcess(
  guard: Guard,
  run: Run,
  call: { readonly file: string; readonly args: readonly string[]; readonly cwd?: string },
  env: NodeJS.ProcessEnv,
): ProcessVerdict {
  let decision: Decision = guard.decide(run, HOOK, () => classifyProcess(call))
  const isNode = () => isNodeCommand(call.file, call.args.slice(1), env, call.cwd ?? process.cwd())
  if (decision.rule === 'default.unknown' && isNode()) {
    decision = {
      ...decision,
      verdict: 'forward',
      rule: 'process.node',
      reason: 'a Node program runs dry with the guard preloaded',
    }
  }
  try {
    guard.record(decision)
  } catch (error) {
    return { error: error as Error, environment: env }
  }
  if (decision.verdict === 'forward' || (decision.verdict === 'allow' && isNode())) {
    return { environment: { ...childEnvironment(run, env), NODE_OPTIONS: withRegister(env['NODE_OPTIONS']) } }
  }
  if (decision.verdict === 'allow') return { environment: env }
  const { summary, target } = decision.effect
  return {
    environment: env,
    error:
      decision.error ??
      new DryTraceError(
        'DRY_BLOCKED',
        `dry run: ${summary} was refused: what it does cannot be seen. Allow it by a rule {system: process, command: ${target}}`,
        { details: { command: target } },
      ),
  }
}

/** `--require`, not `--import`: it also runs in workers made from source text. */
function withRegister(options: string | undefined): string {
  const ours = `--require=${JSON.stringify(REGISTER)}`
  return options?.includes(REGISTER) ? options : `${ours}${options ? ` ${options}` : ''}`
}

/** The genuine failure of a missing program reaches the application as our error. */
function failChild(child: childProcess.ChildProcess, error: Error): void {
  const { emit } = child
  child.emit = function (this: childProcess.ChildProcess, event: string, ...args: unknown[]) {
    return Reflect.apply(emit, this, event === 'error' ? [event, error] : [event, ...args])
  } as typeof emit
}

interface SyncCall {
  readonly file: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly cwd?: string
  rebuild(env: NodeJS.ProcessEnv): unknown[]
}

/** `execSync(command, options)`, `spawnSync|execFileSync(file, args?, options?)`, with or without a shell. */
function syncCall(name: string, args: readonly unknown[]): SyncCall {
  const list = name !== 'execSync' && Array.isArray(args[1]) ? args[1].map(String) : []
  const at = name !== 'execSync' && Array.isArray(args[1]) ? 2 : 1
  const options = (typeof args[at] === 'object' && args[at] !== null ? args[at] : {}) as {
    env?: NodeJS.ProcessEnv
    cwd?: string
    shell?: unknown
  }
  const command = String(args[0])
  const shell = name === 'execSync' || Boolean(options.shell)
  return {
    ...(shell
      ? { file: 'sh', args: ['sh', '-c', [command, ...list].join(' ')] }
      : { file: command, args: [command, ...list] }),
    env: options.env ?? process.env,
    ...(options.cwd === undefined ? {} : { cwd: String(options.cwd) }),
    rebuild: (env) => [...args.slice(0, at), { ...options, env }, ...args.slice(at + 1)],
  }
}

/** A worker starts with no context at all: one made in a dry run is dry as a whole. */
function armWorkers(guard: Guard): void {
  const Original = workerThreads.Worker
  ;(workerThreads as { Worker: unknown }).Worker = new Proxy(Original, {
    construct(target, [file, options = {}]: [string | URL, workerThreads.WorkerOptions?], newTarget) {
      const run = guard.run()
      if (run === undefined) return Reflect.construct(target, [file, options], newTarget) as object
      const env = typeof options.env === 'object' ? options.env : process.env
      const execArgv = [...(options.execArgv ?? process.execArgv), '--require', REGISTER]
      return Reflect.construct(
        target,
        [file, { ...options, env: childEnvironment(run, env as NodeJS.ProcessEnv), execArgv }],
        newTarget,
      ) as object
    },
  })
  syncBuiltinESMExports()
}
