import { createRequire, Module } from 'node:module'
import { messageOf } from '../errors.js'
import type { Barrier } from '../guard/barrier.js'
import type { Guard } from '../guard/guard.js'
import type { Integration, Target } from '../integrations/integration.js'
import { ownFile } from '../package/own-file.js'
import { installFooters, type PatchFile } from './footer.js'
import { createManifest, type Manifest, packageRootOf, packageVersion } from './manifest.js'

const PROBE_FILE = ownFile('loader/probe.cjs')
const PROBE: Target = {
  file: 'drytrace/loader/probe.cjs',
  patch(exports) {
    exports.patched = true
  },
}

/** Patches the builtins, hooks the loader for everything else, and proves that the hooks work. */
export function armIntegrations(integrations: readonly Integration[], guard: Guard, barrier: Barrier): void {
  const byName = new Map(integrations.map((integration) => [integration.name, integration]))
  for (const integration of integrations) {
    barrier.expect(integration.name)
    for (const target of integration.targets) {
      if (isBuiltin(target)) armBuiltin(integration, target, guard, barrier)
    }
  }
  const manifest = createManifest([
    ...integrations.flatMap(({ name, targets }) =>
      targets.filter((target) => !isBuiltin(target)).map((target) => ({ integration: name, target })),
    ),
    { integration: 'drytrace', target: PROBE, probe: PROBE_FILE },
  ])
  const meet: PatchFile = (entry, file, bindings, replace) => {
    const version = packageVersion(entry, file)
    try {
      const replacement = entry.target.patch(bindings, guard, { file, version })
      if (replacement !== undefined) replace?.(replacement)
      if (entry.target.defaultExport !== undefined && replace === undefined) {
        throw new TypeError(`the default export of ${entry.file} cannot be replaced`)
      }
      const integration = byName.get(entry.integration)
      if (integration === undefined) return
      const supported = version !== null && inRange(version, integration.versions)
      barrier.saw(entry.integration, {
        status: supported ? 'armed' : 'unsupported version',
        version,
        detail: supported ? null : `tested with ${integration.versions}`,
      })
    } catch (error) {
      // Never break the module load of a live service: the gate closes instead.
      barrier.saw(entry.integration, { status: 'failed', version, detail: messageOf(error) })
    }
  }
  findEarlier(manifest, barrier, meet)
  selfCheck(installFooters(manifest, meet), barrier)
}

function inRange(version: string, range: string): boolean {
  // Loaded with the first library that is met: a process that loads none does not wait for it.
  const satisfies = createRequire(import.meta.url)('semver/functions/satisfies.js') as typeof import('semver').satisfies
  return satisfies(version, range, { includePrerelease: true })
}

function isBuiltin(target: Target): boolean {
  return target.file.startsWith('node:')
}

function armBuiltin(integration: Integration, target: Target, guard: Guard, barrier: Barrier): void {
  try {
    target.patch(undefined, guard, { file: target.file, version: process.versions.node })
    barrier.saw(integration.name, { status: 'armed', version: null, detail: null })
  } catch (error) {
    barrier.saw(integration.name, { status: 'failed', version: null, detail: messageOf(error) })
  }
}

/** Files of ours that another preload has loaded already: the calls of most cannot be met any more. */
function findEarlier(manifest: Manifest, barrier: Barrier, meet: PatchFile): void {
  const cache = (Module as unknown as { _cache: Record<string, { exports: unknown; loaded: boolean } | undefined> })
    ._cache
  for (const [filename, module] of Object.entries(cache)) {
    for (const entry of manifest.candidates(filename)) {
      if (entry.probe !== undefined || packageRootOf(entry, filename) === undefined) continue
      if (entry.target.late === true && module?.loaded === true) {
        meet(entry, filename, module.exports, undefined)
        continue
      }
      barrier.saw(entry.integration, {
        status: 'too late',
        version: packageVersion(entry, filename),
        detail: `loaded before drytrace/register: put --import drytrace/register first (${filename})`,
      })
    }
  }
}

function selfCheck(proof: { load: boolean; compile: boolean }, barrier: Barrier): void {
  let patched = false
  try {
    patched = (createRequire(import.meta.url)(PROBE_FILE) as { patched: boolean }).patched
  } catch (error) {
    barrier.gap(`loader self-check failed: ${messageOf(error)}`)
    return
  }
  // A transpiler that was there first has replaced Module._extensions, so the load hook sees no CommonJS;
  // what it compiles comes by _compile all the same.
  const missing = [patched ? [] : ['footer'], proof.compile || proof.load ? [] : ['load hook, _compile']].flat()
  if (missing.length > 0) {
    barrier.gap(
      `loader self-check: ${missing.join(', ')} did not run, so libraries cannot be met. Is another loader in the way?`,
    )
  }
}
