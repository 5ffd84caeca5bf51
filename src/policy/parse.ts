import { createHash } from 'node:crypto'
import { LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'
import { DryTraceError } from '../errors.js'
import { builtinIds } from './packs/index.js'
import { compilePolicy, type Policy } from './policy.js'
import { policySchema } from './schema.js'

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
  const known = new Set(builtinIds())
  const unknown = (result.data.disable ?? []).flatMap((name, index) =>
    known.has(name)
      ? []
      : [
          `${file}:${lineOf(document, lines, ['disable', index])}: disable: there is no built-in rule ${JSON.stringify(name)}`,
        ],
  )
  if (unknown.length > 0) throw invalid(file, unknown)
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

function invalid(file: string, problems: readonly string[]): DryTraceError {
  return new DryTraceError('DRY_POLICY_INVALID', problems.join('\n'), { details: { file, problems } })
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
