import { type Dirent, existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** One installed copy of a package. */
export interface PackageCopy {
  readonly name: string
  readonly version: string
  readonly path: string
}

/** Directories looked into; a bigger tree is looked at in part, nearest first. */
const MAX_DIRECTORIES = 50_000

/**
 * The copies of the named packages a program in `cwd` could load: in every
 * `node_modules` from here up, nested ones and those of pnpm's store too.
 */
export function findPackages(cwd: string, names: ReadonlySet<string>): Map<string, PackageCopy[]> {
  const found = new Map<string, PackageCopy[]>()
  const seen = new Set<string>()
  const queue: string[] = []
  for (let directory = cwd; ; directory = dirname(directory)) {
    queue.push(join(directory, 'node_modules'))
    if (dirname(directory) === directory) break
  }
  for (let at = 0; at < queue.length && seen.size < MAX_DIRECTORIES; at += 1) {
    for (const { name, path } of packagesIn(queue[at]!)) {
      const real = realpath(path)
      if (real === undefined || seen.has(real)) continue
      seen.add(real)
      const version = names.has(name) ? readManifest(real)?.version : undefined
      if (version !== undefined) found.set(name, [...(found.get(name) ?? []), { name, version, path: real }])
      const nested = join(real, 'node_modules')
      if (existsSync(nested)) queue.push(nested)
    }
    queue.push(...storeOf(queue[at]!))
  }
  return found
}

export function readManifest(root: string): { readonly name?: string; readonly version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  } catch {
    return undefined
  }
}

function packagesIn(directory: string): { name: string; path: string }[] {
  return list(directory).flatMap(({ name }) => {
    if (name.startsWith('.')) return []
    const path = join(directory, name)
    if (!name.startsWith('@')) return [{ name, path }]
    return list(path).map((entry) => ({ name: `${name}/${entry.name}`, path: join(path, entry.name) }))
  })
}

function storeOf(directory: string): string[] {
  const store = join(directory, '.pnpm')
  return list(store).map(({ name }) => join(store, name, 'node_modules'))
}

function list(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).filter(
      (entry) => entry.isDirectory() || entry.isSymbolicLink(),
    )
  } catch {
    return []
  }
}

function realpath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}
