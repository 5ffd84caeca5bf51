import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Target } from '../integrations/integration.js'

/** One library file we meet. */
export interface ManifestEntry {
  readonly id: number
  readonly integration: string
  /** Name of the package the file must belong to. */
  readonly package: string
  /** Path of the file below the package's root, with forward slashes. */
  readonly file: string
  readonly target: Target
  /** Our own file, loaded to prove that the hooks see files: its absolute path. */
  readonly probe: string | undefined
}

export interface Manifest {
  readonly entries: readonly ManifestEntry[]
  /** Entries whose path the file ends with. Cheap: asked for every module the process loads. */
  candidates(filename: string): readonly ManifestEntry[]
}

const NONE: readonly ManifestEntry[] = []

export function createManifest(
  targets: readonly { readonly integration: string; readonly target: Target; readonly probe?: string }[],
): Manifest {
  const entries = targets.map(({ integration, target, probe }, id) => ({
    id,
    integration,
    ...splitTarget(target.file),
    target,
    probe,
  }))
  const byName = Map.groupBy(entries, (entry) => entry.file.slice(entry.file.lastIndexOf('/') + 1))
  return {
    entries,
    candidates(filename) {
      const named = byName.get(path.basename(filename))
      if (named === undefined) return NONE
      const normal = filename.replaceAll('\\', '/')
      return named.filter((entry) => normal.endsWith(`/${entry.file}`))
    },
  }
}

/** `@scope/name/lib/file.js` or `name/lib/file.js`. */
function splitTarget(target: string): { package: string; file: string } {
  const parts = target.split('/')
  const length = target.startsWith('@') ? 2 : 1
  return { package: parts.slice(0, length).join('/'), file: parts.slice(length).join('/') }
}

/**
 * The root of the package, when the file really belongs to it. Goes by the
 * name in package.json and not by `node_modules` in the path: workspaces and
 * symlinked checkouts are copies like any other.
 */
export function packageRootOf(entry: ManifestEntry, filename: string): string | undefined {
  if (entry.probe !== undefined) return entry.probe === filename ? filename : undefined
  const root = filename.slice(0, filename.length - entry.file.length - 1)
  return readPackage(root)?.name === entry.package ? root : undefined
}

export function packageVersion(entry: ManifestEntry, filename: string): string | null {
  return readPackage(filename.slice(0, filename.length - entry.file.length - 1))?.version ?? null
}

function readPackage(root: string): { name?: string; version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
  } catch {
    return undefined
  }
}
