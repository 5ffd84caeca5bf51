import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { minor, satisfies } from 'semver'
import { SERVICE_DIRECTORY } from '../audit/sources/journal.js'
import { readSecret } from '../carriers/admission.js'
import { messageOf } from '../errors.js'
import { integrations } from '../integrations/index.js'
import { checkNodeFloor } from '../loader/node-floor.js'
import { findPolicyFile, loadPolicy } from '../policy/load.js'
import type { Policy } from '../policy/policy.js'
import { VERSION } from '../version.js'
import { findPackages, type PackageCopy, readManifest } from './installed-packages.js'
import { UNGUARDED_CLIENTS } from './unguarded-clients.js'

export interface Finding {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly name: string
  readonly message: string
  /** What to do about it. */
  readonly fix?: string
}

const API = '@opentelemetry/api'
/** Where every copy of the API keeps what has been registered. */
const API_GLOBAL = Symbol.for('opentelemetry.js.api.1')

/** Everything a dry run in this directory would stand on. */
export async function inspectSetup(cwd: string, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const { finding, policy } = policyFinding()
  return [
    nodeFinding(),
    drytraceFinding(cwd),
    ...apiFindings(cwd),
    journalFinding(cwd, env),
    finding,
    secretFinding(env, policy),
    ...clientFindings(cwd),
  ]
}

function nodeFinding(): Finding {
  const refusal = checkNodeFloor()
  const found = `${process.versions.node} (${process.execPath})`
  if (refusal === undefined) return { level: 'ok', name: 'node', message: found }
  return { level: 'fail', name: 'node', message: found, fix: refusal }
}

function drytraceFinding(cwd: string): Finding {
  const own = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
  const message = `${VERSION} (${own})`
  const installed = resolveRoot('drytrace', cwd)
  if (installed === undefined || realpathSync(installed) === realpathSync(own))
    return { level: 'ok', name: 'drytrace', message }
  const version = readManifest(installed)?.version ?? 'unknown'
  return {
    level: 'warn',
    name: 'drytrace',
    message: `${message}\nthe project has its own: ${version} (${installed})`,
    fix: 'use one copy: npx drytrace, or node_modules/.bin/drytrace',
  }
}

function apiFindings(cwd: string): Finding[] {
  const name = API
  const own = resolveRoot(API, dirname(fileURLToPath(import.meta.url)))
  const ownVersion = own === undefined ? undefined : readManifest(own)?.version
  if (own === undefined || ownVersion === undefined) {
    return [{ level: 'fail', name, message: 'drytrace cannot find it', fix: `npm install ${API}` }]
  }
  const registered = (globalThis as { [API_GLOBAL]?: { version?: string } })[API_GLOBAL]?.version
  const global =
    registered === undefined ? 'nothing is registered in this process' : `${registered} is registered in this process`
  const theirs = resolveRoot(API, cwd)
  const theirVersion = theirs === undefined ? undefined : readManifest(theirs)?.version
  const versions = [theirVersion, registered].filter((version) => version !== undefined)
  if (theirs === undefined || theirVersion === undefined) {
    const message = `${ownVersion} of drytrace (${own}); the project has none, so there are no traces beside the journal; ${global}`
    return [{ level: 'ok', name, message }]
  }
  const shared = realpathSync(theirs) === realpathSync(own)
  const message = shared
    ? `${ownVersion}, one copy for project and drytrace (${own}); ${global}`
    : `${theirVersion} of the project (${theirs}), ${ownVersion} of drytrace (${own}); ${global}`
  // The API hands out nothing, in silence, to a copy that is newer than the one that registered the SDK.
  const older = versions.find(
    (version) => minor(version) < minor(ownVersion) || version.split('.')[0] !== ownVersion.split('.')[0],
  )
  if (older === undefined) return [{ level: 'ok', name, message }]
  return [
    {
      level: 'warn',
      name,
      message: `${message}\nspans of drytrace will be lost: its copy is newer than the ${older} the SDK is registered with`,
      fix: `npm install ${API}@^${ownVersion}`,
    },
  ]
}

function journalFinding(cwd: string, env: NodeJS.ProcessEnv): Finding {
  const name = 'journal'
  const given = env['DRYTRACE_JOURNAL'] || undefined
  const directory = resolve(cwd, given ?? SERVICE_DIRECTORY)
  const where = `${directory}${given === undefined ? '' : ' (DRYTRACE_JOURNAL)'}`
  let nearest = directory
  while (!existsSync(nearest)) nearest = dirname(nearest)
  try {
    if (!statSync(nearest).isDirectory()) throw new Error(`${nearest} is not a directory`)
    accessSync(nearest, constants.W_OK | constants.X_OK)
  } catch (error) {
    return {
      level: 'fail',
      name,
      message: `${where} cannot be written: ${messageOf(error)}`,
      fix: 'set DRYTRACE_JOURNAL to a directory this user may write to',
    }
  }
  const made = nearest === directory ? 'writable' : 'can be made'
  return { level: 'ok', name, message: `${where}, ${made}` }
}

function policyFinding(): { finding: Finding; policy: Policy | undefined } {
  const name = 'policy'
  try {
    const policy = loadPolicy()
    const message =
      policy.file === undefined
        ? 'no file: reads pass, writes are blocked, nothing is let through'
        : `${policy.file}, sha256 ${policy.hash.slice(0, 16)}`
    return { finding: { level: 'ok', name, message }, policy }
  } catch (error) {
    const file = findPolicyFile()
    const fix = `correct it; until then dry runs are refused. drytrace policy check${file === undefined ? '' : ` ${file}`}`
    return { finding: { level: 'fail', name, message: messageOf(error), fix }, policy: undefined }
  }
}

function secretFinding(env: NodeJS.ProcessEnv, policy: Policy | undefined): Finding {
  const name = 'secret'
  try {
    if (readSecret(env['DRYTRACE_SECRET']) !== undefined) {
      return { level: 'ok', name, message: 'set: only signed flags make a request dry' }
    }
  } catch (error) {
    return {
      level: 'fail',
      name,
      message: messageOf(error),
      fix: 'set DRYTRACE_SECRET to the key, or to file:/path of a file that holds it',
    }
  }
  if (policy?.trust.mode === 'signed') {
    return {
      level: 'fail',
      name,
      message: 'not set, but the policy says trust.mode: signed, so every dry run is refused',
      fix: 'set DRYTRACE_SECRET to the key, or to file:/path of a file that holds it',
    }
  }
  return { level: 'ok', name, message: 'not set: only loopback peers, DRY_RUN=1 and drytrace run can start a dry run' }
}

function clientFindings(cwd: string): Finding[] {
  const guarded = integrations.map((integration) => ({ integration, packages: packagesOf(integration.targets) }))
  const met = new Set(guarded.flatMap(({ packages }) => packages))
  const unguarded = new Map([...UNGUARDED_CLIENTS].filter(([name]) => !met.has(name)))
  const installed = findPackages(cwd, new Set([...met, ...unguarded.keys()]))
  const findings: Finding[] = []
  for (const { integration, packages } of guarded) {
    const copies = packages.flatMap((name) => installed.get(name) ?? [])
    if (packages.length === 0) findings.push({ level: 'ok', name: integration.name, message: 'part of Node, guarded' })
    else findings.push(...copies.map((copy) => copyFinding(integration, copy, cwd)))
  }
  for (const [name, reach] of unguarded) {
    const copies = installed.get(name) ?? []
    if (copies.length === 0) continue
    const versions = [...new Set(copies.map(({ version }) => version))].join(', ')
    findings.push(
      reach === 'socket'
        ? {
            level: 'warn',
            name,
            message: `${versions}: no integration; in a dry run the fence refuses its connections, reads too`,
            fix: 'nothing, if dry runs do not come by it; else wrap its calls in effect() of drytrace',
          }
        : {
            level: 'warn',
            name,
            message: `${versions}: no integration, and native code the fence does not see: its writes are NOT blocked`,
            fix: 'keep it out of dry runs, or wrap its calls in effect() of drytrace',
          },
    )
  }
  return findings
}

function copyFinding({ name, versions }: { name: string; versions: string }, copy: PackageCopy, cwd: string): Finding {
  const where = `${copy.version} (${relative(cwd, copy.path) || '.'})`
  if (satisfies(copy.version, versions, { includePrerelease: true })) {
    return { level: 'ok', name, message: `${where}, guarded` }
  }
  return {
    level: 'fail',
    name,
    message: `${where} is outside the tested range ${versions}: once it is loaded, dry runs are refused`,
    fix: `npm install ${copy.name}@"${versions}"`,
  }
}

/** Names of the packages an integration meets; none when it meets builtins only. */
function packagesOf(targets: readonly { readonly file: string }[]): string[] {
  const names = targets
    .filter(({ file }) => !file.startsWith('node:'))
    .map(({ file }) =>
      file
        .split('/')
        .slice(0, file.startsWith('@') ? 2 : 1)
        .join('/'),
    )
  return [...new Set(names)]
}

/** Root of the package a module in `directory` would get. */
function resolveRoot(name: string, directory: string): string | undefined {
  for (const parent of createRequire(join(directory, 'x.js')).resolve.paths(name) ?? []) {
    const root = join(parent, name)
    if (readManifest(root) !== undefined) return root
  }
  return undefined
}
