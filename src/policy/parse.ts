import { createHash } from 'node:crypto'
import { LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'
import { DryTraceError } from '../errors.js'
import { builtinIds } from './packs/index.js'
import { compilePolicy, type Policy } from './policy.js'
import type { PolicySource } from './policy-source.js'
import { prepareAnswers } from './rule-answers.js'
import { policySchema } from './schema.js'
import { lineOf, type Path } from './yaml-lines.js'

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
  return compileSource({ file, text, value: document.toJS(), line: (at) => lineOf(document, lines, at) })
}

/**
 * Checks a policy and compiles it, with the files its answers come from.
 *
 * @param functions responder functions of a policy module, by the index of their rule
 */
export function compileSource(
  source: PolicySource,
  functions: Parameters<typeof prepareAnswers>[2] = new Map(),
): Policy {
  const { file, text, value } = source
  const at = (path: Path) => `${file}:${source.line(path)}`
  const result = policySchema.safeParse(value)
  if (!result.success) {
    throw invalid(
      file,
      result.error.issues.flatMap((issue) =>
        flatten(issue).map(
          ({ path, message }) =>
            `${at(path)}: ${ruleName(value, path)}${path.length === 0 ? '' : `${path.join('.')}: `}${message}`,
        ),
      ),
    )
  }
  const names = new Set<string>()
  for (const [index, rule] of (result.data.rules ?? []).entries()) {
    if (names.has(rule.name)) {
      throw invalid(file, [
        `${at(['rules', index, 'name'])}: rule ${JSON.stringify(rule.name)}: the name is taken by an earlier rule`,
      ])
    }
    names.add(rule.name)
  }
  const known = new Set(builtinIds())
  const unknown = (result.data.disable ?? []).flatMap((name, index) =>
    known.has(name) ? [] : [`${at(['disable', index])}: disable: there is no built-in rule ${JSON.stringify(name)}`],
  )
  if (unknown.length > 0) throw invalid(file, unknown)
  const { answers, problems, digests } = prepareAnswers(source, result.data.rules ?? [], functions)
  if (problems.length > 0) throw invalid(file, problems)
  return compilePolicy(result.data, { file, hash: sha256([text, ...digests].join('\0')) }, answers)
}

function flatten(issue: z.core.$ZodIssue): { path: Path; message: string }[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: [...issue.path, key],
      message: 'unknown field; remove it or check its spelling',
    }))
  }
  return [{ path: issue.path, message: issue.message }]
}

function ruleName(value: unknown, at: Path): string {
  if (at[0] !== 'rules' || typeof at[1] !== 'number') return ''
  const name = (value as { rules?: { name?: unknown }[] }).rules?.[at[1]]?.name
  return typeof name === 'string' ? `rule ${JSON.stringify(name)}: ` : `rule number ${at[1] + 1}: `
}

function invalid(file: string, problems: readonly string[]): DryTraceError {
  return new DryTraceError('DRY_POLICY_INVALID', problems.join('\n'), { details: { file, problems } })
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
