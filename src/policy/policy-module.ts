import { createRequire } from 'node:module'
import { DryTraceError, messageOf } from '../errors.js'
import type { RespondFunction } from './http/respond.js'
import { compileSource } from './parse.js'
import type { Policy } from './policy.js'
import type { Path } from './yaml-lines.js'

/**
 * The policy that an ES module exports as its default. Loaded synchronously,
 * at start: whatever it imports is loaded before the client libraries are met.
 */
export function readPolicyModule(text: string, file: string): Policy {
  const line = (at: Path) => lineInModule(text, value, at)
  let value: unknown
  try {
    const exported = createRequire(file)(file) as { default?: unknown }
    value = exported.default
  } catch (cause) {
    const why =
      (cause as { code?: unknown }).code === 'ERR_REQUIRE_ASYNC_MODULE'
        ? 'a policy is loaded synchronously: remove the top-level await'
        : messageOf(cause)
    const line = lineOfError(cause, file)
    // Node keeps the place of a syntax error to itself here.
    const where = line === undefined && cause instanceof SyntaxError ? ` (node --check ${file} shows where)` : ''
    throw problem(file, `${file}:${line ?? 1}: cannot be loaded: ${why}${where}`, cause)
  }
  if (typeof value !== 'object' || value === null) {
    throw problem(file, `${file}:1: export the policy as default: export default { version: 1, rules: [...] }`)
  }
  const functions = new Map<number, RespondFunction>()
  return compileSource({ file, text, value: withoutFunctions(value, functions), line }, functions)
}

/** Functions are no part of the schema: they are taken out before it is checked. */
function withoutFunctions(value: object, functions: Map<number, RespondFunction>): unknown {
  const { rules } = value as { rules?: unknown }
  if (!Array.isArray(rules)) return value
  return {
    ...value,
    rules: rules.map((rule: unknown, index) => {
      const { respond } = (rule ?? {}) as { respond?: unknown }
      if (typeof respond !== 'function') return rule
      functions.set(index, respond as RespondFunction)
      return { ...(rule as object), respond: {} }
    }),
  }
}

/** A module has no places of its values: the line on which the rule's name is written, once, is close. */
function lineInModule(text: string, value: unknown, at: Path): number {
  const name =
    at[0] === 'rules' && typeof at[1] === 'number'
      ? (value as { rules?: { name?: unknown }[] }).rules?.[at[1]]?.name
      : at[0]
  if (typeof name !== 'string') return 1
  const lines = text.split('\n')
  const written = at[0] === 'rules' && at.length > 1 ? [`'${name}'`, `"${name}"`, `\`${name}\``] : [`${name}:`, name]
  const found = written.map((form) => lines.findIndex((line) => line.includes(form))).find((index) => index >= 0)
  return (found ?? 0) + 1
}

function lineOfError(cause: unknown, file: string): number | undefined {
  const stack = cause instanceof Error ? (cause.stack ?? '') : ''
  const at = stack.indexOf(`${file}:`)
  return at < 0 ? undefined : Number.parseInt(stack.slice(at + file.length + 1), 10) || undefined
}

function problem(file: string, message: string, cause?: unknown): DryTraceError {
  return new DryTraceError('DRY_POLICY_INVALID', message, {
    ...(cause === undefined ? {} : { cause }),
    details: { file, problems: [message] },
  })
}
