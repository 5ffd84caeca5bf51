import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Absolute path of an executable on PATH, or undefined. */
export function findTool(name: string): string | undefined {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    if (directory === '') continue
    const file = join(directory, name)
    try {
      accessSync(file, constants.X_OK)
      if (statSync(file).isFile()) return file
    } catch {
      // not here: look in the next directory
    }
  }
  return undefined
}

/**
 * Like {@link findTool}, for a tool that continuous integration must have: on
 * a developer's machine tests without it are skipped, with CI=true a missing
 * one is an error, so that a suite cannot turn green by losing its tools.
 * @throws Error when CI is true and the tool is missing.
 */
export function requireTool(name: string): string | undefined {
  const file = findTool(name)
  if (file === undefined && process.env['CI'] === 'true')
    throw new Error(`${name} is not on PATH, and CI=true needs it`)
  return file
}
