// No named import of anything new here: this file must load on every Node, to be able to refuse it in words.

/**
 * Why this Node cannot be guarded, or undefined when it can. Below the floor a
 * load hook beside a loader of somebody else crashes the application at start
 * (nodejs/node#59929), and OpenTelemetry's own hooks stop working.
 */
export function checkNodeFloor(version: string = process.versions.node): string | undefined {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number)
  const atLeast = (m: number, p: number) => minor > m || (minor === m && patch >= p)
  if (major >= 26) return undefined
  if (major === 24 && atLeast(11, 1)) return undefined
  if (major === 22 && atLeast(22, 3)) return undefined
  return (
    `drytrace needs Node ^22.22.3, ^24.11.1 or >=26; this is ${version}. ` +
    'Nothing was armed and the process was not started: a half-armed guard would let writes through.'
  )
}
