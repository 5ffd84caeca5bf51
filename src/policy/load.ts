import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'
import { DryTraceError, messageOf } from '../errors.js'
import { compilePolicy, type Policy } from './policy.js'
import { policySchema } from './schema.js'

/** Looked for in the working directory when `DRYTRACE_POLICY` is not set. */
const DEFAULT_FILES = ['drytrace.config.yaml', 'drytrace.config.yml', 'drytrace.config.json'] as const

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
    throw invalid(found, [`${found}: cannot be read (${messageOf(cause)})`], cause)
  }
  return parsePolicy(text, found)
}

/** The policy in a YAML or JSON text (JSON is read as YAML, which gives it line numbers too). */
export function parsePolicy(text: string, file: string): Policy {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  if (document.errors.length > 0) {
    throw invalid(
      file,
      document.errors.map((error) => `${file}:${lines.linePos(error.pos[0]).line}: not valid YAML: ${error.message}`),
    )
  }
  const result = policySchema.safeParse(document.toJS())
  if (!result.success) {
    const value = document.toJS() as unknown
    throw invalid(
      file,
      result.error.issues.flatMap((issue) =>
        flatten(issue).map(({ path: at, message }) => {
          const line = lineOf(document, lines, at)
          return `${file}:${line}: ${ruleName(value, at)}${at.length === 0 ? '' : `${at.join('.')}: `}${message}`
        }),
      ),
    )
  }
  const names = new Set<string>()
  for (const [index, rule] of (result.data.rules ?? []).entries()) {
    if (names.has(rule.name)) {
      const line = lineOf(document, lines, ['rules', index, 'name'])
      throw invalid(file, [`${file}:${line}: rule ${JSON.stringify(rule.name)}: the name is taken by an earlier rule`])
    }
    names.add(rule.name)
  }
  return compilePolicy(result.data, { file, hash: sha256(text) })
}

type Path = readonly PropertyKey[]

function flatten(issue: z.core.$ZodIssue): { path: Path; message: string }[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: [...issue.path, key],
      message: 'unknown field; remove it or check its spelling',
    }))
  }
  return [{ path: issue.path, message: issue.message }]
}

/** Line of the nearest node that exists: a missing field is reported where it should stand. */
function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, at: Path): number {
  for (let length = at.length; length >= 0; length -= 1) {
    const node = length === 0 ? document.contents : document.getIn(at.slice(0, length), true)
    const range = (node as { range?: readonly number[] } | null | undefined)?.range
    if (range?.[0] !== undefined) return lines.linePos(range[0]).line
  }
  return 1
}

function ruleName(value: unknown, at: Path): string {
  if (at[0] !== 'rules' || typeof at[1] !== 'number') return ''
  const name = (value as { rules?: { name?: unknown }[] }).rules?.[at[1]]?.name
  return typeof name === 'string' ? `rule ${JSON.stringify(name)}: ` : `rule number ${at[1] + 1}: `
}

function invalid(file: string, problems: readonly string[], cause?: unknown): DryTraceError {
  return new DryTraceError('DRY_POLICY_INVALID', problems.join('\n'), { cause, details: { file, problems } })
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
