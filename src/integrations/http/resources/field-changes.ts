import type { FieldChange } from '../../../journal/record.js'
import { isObject, sameJson, shownValue } from './json-value.js'

export interface DiffOptions {
  readonly target: string
  /** The value as it may be shown under this field name. */
  redact(value: unknown, name: string): unknown
}

/** Fields of one diff; a document that changes in more is told by its payload. */
export const MAX_FIELDS = 500
const MAX_DEPTH = 6

/** Before -> after by field, dotted where objects nest; a list is one value. Undefined: there is no such resource. */
export function fieldChanges(
  before: unknown,
  after: unknown,
  options: DiffOptions,
): { readonly diff: readonly FieldChange[]; readonly left: number } {
  const diff: FieldChange[] = []
  let left = 0
  const visit = (from: unknown, to: unknown, path: readonly string[]): void => {
    if (from !== undefined && to !== undefined && sameJson(from, to)) return
    const inside = [from, to].filter(isObject)
    // An object on one side and nothing on the other is told field by field too.
    const nested = inside.length === 2 || (inside.length === 1 && (from === undefined || to === undefined))
    if (nested && path.length < MAX_DEPTH) {
      const names = new Set(inside.flatMap((each) => Object.keys(each)))
      for (const name of names) visit(member(from, name), member(to, name), [...path, name])
      return
    }
    if (diff.length >= MAX_FIELDS) {
      left += 1
      return
    }
    const shown = (value: unknown) => (value === undefined ? {} : { value: hidden(value, path, options) })
    const [old, now] = [shown(from), shown(to)]
    diff.push({
      target: options.target,
      key: null,
      field: path.join('.') || '(all)',
      ...('value' in old ? { before: old.value } : {}),
      ...('value' in now ? { after: now.value } : {}),
    })
  }
  visit(before, after, [])
  return { diff, left }
}

function member(value: unknown, name: string): unknown {
  return isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined
}

/** Field names are told apart by their last part later on: a secret one above it hides what is below. */
function hidden(value: unknown, path: readonly string[], { redact }: DiffOptions): unknown {
  const shown = shownValue(value)
  const above = path.slice(0, -1).find((name) => redact('text', name) !== 'text')
  return redact(shown, above ?? path.at(-1) ?? '')
}
