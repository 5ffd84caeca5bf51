import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CLI, type Finished, runCommand } from '../support/child.js'

/** An empty directory outside the repository, so that neither its policy nor its packages are found. */
export function emptyDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'drytrace-cli-'))
}

export interface CliOptions {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** The CLI as it is shipped, in a child process. */
export function drytrace(args: readonly string[], { cwd, env = {} }: CliOptions): Promise<Finished> {
  const clean = {
    DRYTRACE_JOURNAL: undefined,
    DRYTRACE_POLICY: undefined,
    DRYTRACE_SECRET: undefined,
    DRYTRACE_QUIET: '1',
  }
  return runCommand(process.execPath, [CLI, ...args], {
    cwd,
    env: { ...clean, NO_COLOR: undefined, FORCE_COLOR: undefined, ...env },
  })
}
