import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { DryTraceError, messageOf } from '../errors.js'
import { ownFile } from '../package/own-file.js'
import { compilePolicy, type Policy } from './policy.js'

/** Looked for in the working directory when `DRYTRACE_POLICY` is not set. */
const DEFAULT_FILES = [
  'drytrace.config.yaml',
  'drytrace.config.yml',
  'drytrace.config.json',
  'drytrace.config.mjs',
] as const

/** The policy file that applies: the argument, else `DRYTRACE_POLICY`, else a `drytrace.config.*` in the working directory. */
export function findPolicyFile(file = process.env['DRYTRACE_POLICY']): string | undefined {
  if (file !== undefined && file !== '') return path.resolve(file)
  return DEFAULT_FILES.map((name) => path.resolve(name)).find((candidate) => existsSync(candidate))
}

/**
 * Reads, checks and compiles the policy; the default policy when there is no file.
 *
 * @throws DryTraceError `DRY_POLICY_INVALID`; the message names file, line, rule and the fix, one error a line.
 * @since 0.1.0
 */
export function loadPolicy(file?: string): Policy {
  const found = findPolicyFile(file)
  if (found === undefined) return compilePolicy({ version: 1 }, { hash: sha256('') })
  let text: string
  try {
    text = readFileSync(found, 'utf8')
  } catch (cause) {
    throw new DryTraceError('DRY_POLICY_INVALID', `${found}: cannot be read (${messageOf(cause)})`, {
      cause,
      details: { file: found },
    })
  }
  // The parser weighs tens of milliseconds at start: only a service that has a policy file pays.
  if (found.endsWith('.mjs')) {
    const { readPolicyModule } = createRequire(import.meta.url)(
      ownFile('policy/policy-module.js'),
    ) as typeof import('./policy-module.js')
    return readPolicyModule(text, found)
  }
  const { parsePolicy } = createRequire(import.meta.url)(ownFile('policy/parse.js')) as typeof import('./parse.js')
  return parsePolicy(text, found)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
