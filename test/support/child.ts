import { spawn } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** The repository. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The package as it is shipped: `npm test` builds it first. DRYTRACE_DIST names another build of it. */
export const DIST = path.resolve(ROOT, process.env['DRYTRACE_DIST'] ?? 'dist')
export const REGISTER = path.join(DIST, 'register.js')
export const OTEL = path.join(DIST, 'otel.js')
export const CLI = path.join(DIST, 'cli/main.js')

export interface RunNodeOptions {
  /** Preload drytrace: true for `--import dist/register.js`, `otel` for `--import dist/otel.js`. */
  readonly register?: boolean | 'otel'
  /** A file to run, or … */
  readonly file?: string
  /** … source to run, written to a file inside the repository so that bare imports resolve. */
  readonly source?: string
  readonly type?: 'module' | 'commonjs'
  readonly env?: Readonly<Record<string, string | undefined>>
  /** More preloads, before ours. */
  readonly before?: readonly string[]
  /** More preloads, after ours. */
  readonly after?: readonly string[]
  readonly args?: readonly string[]
  /** Another Node than the toolchain's. */
  readonly node?: string
  /** Kills the child after this many milliseconds; 30 s when left out. */
  readonly timeout?: number
  readonly cwd?: string
}

export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A fresh directory inside the repository (git ignores it), so that bare imports resolve from it. */
export function scratchDirectory(): string {
  return mkdtempSync(`${process.env['DRYTRACE_SCRATCH']}/`)
}

/** Runs a Node program to its end. Anything about preloading, ordering or process death is tested this way. */
export function runNode(options: RunNodeOptions): Promise<Finished> {
  const directory = scratchDirectory()
  const file = options.file ?? path.join(directory, options.type === 'commonjs' ? 'app.cjs' : 'app.mjs')
  if (options.source !== undefined) writeFileSync(file, options.source)
  const ours = options.register === 'otel' ? [OTEL] : options.register === true ? [REGISTER] : []
  const preloads = [...(options.before ?? []), ...ours, ...(options.after ?? [])]
  const args = [...preloads.map((preload) => `--import=${pathToFileURL(preload)}`), file, ...(options.args ?? [])]
  return runCommand(options.node ?? process.execPath, args, {
    env: { DRYTRACE_JOURNAL: path.join(directory, 'journal'), DRYTRACE_QUIET: '1', ...options.env },
    cwd: options.cwd ?? directory,
    timeout: options.timeout,
  })
}

export function runCommand(
  command: string,
  args: readonly string[],
  options: { env?: Readonly<Record<string, string | undefined>>; cwd?: string; timeout?: number | undefined },
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    // What the test runner itself was started with must not reach the child.
    const { NODE_OPTIONS, VITEST, DRY_RUN, BAGGAGE, TRACESTATE, npm_package_name, ...inherited } = process.env
    const child = spawn(command, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...inherited, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeout ?? 30_000)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, stdout, stderr })
    })
  })
}
