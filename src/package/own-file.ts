import { fileURLToPath } from 'node:url'

/** The directory of the built package. The bundle puts its chunks one level below it, as this file is. */
export const PACKAGE_FILES = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '')

/** A built file of this package, by its name below `dist/`; for what is loaded by path and not by an import. */
export function ownFile(name: string): string {
  return fileURLToPath(new URL(`../${name}`, import.meta.url))
}
