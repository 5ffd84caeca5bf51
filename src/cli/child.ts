import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'

export interface ChildOptions {
  readonly env: NodeJS.ProcessEnv
  /** Where the program's stdout goes: to ours, or to our stderr. */
  readonly stdout: 'inherit' | 'stderr'
}

export interface ChildResult {
  /** Its exit code, or 128 + the number of the signal that ended it. */
  readonly code: number
  /** Why it could not be started. */
  readonly error?: string
}

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs a program to its end, with the signals we get passed on to it. Never rejects. */
export function runChild(
  command: string,
  args: readonly string[],
  { env, stdout }: ChildOptions,
): Promise<ChildResult> {
  return new Promise((done) => {
    const child = spawn(command, args, { env, stdio: ['inherit', stdout === 'stderr' ? 2 : 'inherit', 'inherit'] })
    const stopForwarding = forwardSignals(child)
    child.once('error', (error: NodeJS.ErrnoException) => {
      // Also raised when a signal could not be delivered: the program still runs then.
      if (child.pid !== undefined) return
      stopForwarding()
      done({ code: 0, error: startError(command, error) })
    })
    child.once('exit', (code, signal) => {
      stopForwarding()
      done({ code: signal === null ? (code ?? 0) : 128 + constants.signals[signal] })
    })
  })
}

function forwardSignals(child: ChildProcess): () => void {
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
  const forward = (signal: NodeJS.Signals) => {
    // The terminal has sent Ctrl-C to the program too; a second one makes many programs give up their clean shutdown.
    if (signal !== 'SIGINT' || !onTerminal) child.kill(signal)
  }
  for (const signal of FORWARDED) process.on(signal, forward)
  return () => {
    for (const signal of FORWARDED) process.off(signal, forward)
  }
}

function startError(command: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT') return `${command}: no such program; check the name behind --, or give its path`
  if (error.code === 'EACCES')
    return `${command}: not executable; start a script with its interpreter, for example -- node ${command}`
  return `${command} cannot be started: ${error.message}`
}
