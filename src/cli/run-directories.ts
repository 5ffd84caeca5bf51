import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { RUNS_DIRECTORY } from '../audit/sources/journal.js'

/** How many run directories stay. */
const KEPT = 50
const DAY = 24 * 60 * 60 * 1000
/** In every directory made here: one that somebody else made or named is never removed. */
const MARKER = 'made-by-drytrace-run'

/** Makes the directory below the working directory for the journal of a run, out of the way of git. */
export function makeRunDirectory(runId: string): string {
  const directory = resolve(RUNS_DIRECTORY, runId)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, MARKER), '')
  ignoreInGit(resolve(dirname(RUNS_DIRECTORY)))
  return directory
}

/** Makes the directory somebody named, which is theirs from then on. */
export function useDirectory(given: string): string {
  const directory = resolve(given)
  mkdirSync(directory, { recursive: true })
  rmSync(join(directory, MARKER), { force: true })
  return directory
}

/**
 * Removes the run directories made here but for the newest 50, and but for those
 * in which anything was written within the last day.
 *
 * @returns how many were removed.
 */
export function removeOldRunDirectories(now = Date.now()): number {
  const parent = resolve(RUNS_DIRECTORY)
  const old = readdirSync(parent, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(parent, entry.name))
    .map((path) => ({ path, madeAt: statSync(join(path, MARKER), { throwIfNoEntry: false })?.mtimeMs }))
    .filter((run): run is { path: string; madeAt: number } => run.madeAt !== undefined)
    .sort((a, b) => b.madeAt - a.madeAt)
    .slice(KEPT)
    .filter(({ path }) => now - lastWrittenAt(path) > DAY)
  for (const { path } of old) rmSync(path, { recursive: true, force: true })
  return old.length
}

/** A journal that grows leaves the time of its directory as it was. */
function lastWrittenAt(directory: string): number {
  const paths = [directory, ...readdirSync(directory).map((name) => join(directory, name))]
  return Math.max(...paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0))
}

/** The journal holds business data, which must not end up in a commit. */
function ignoreInGit(directory: string): void {
  const file = join(directory, '.gitignore')
  if (!existsSync(file)) writeFileSync(file, '*\n')
}
