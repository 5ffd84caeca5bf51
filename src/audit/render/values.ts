import type { FieldChange } from '../../journal/record.js'
import { head, safe, thousands, width } from './text.js'

/** One field of a change, of a record or of a JSON value within it. */
export interface ChangeLine {
  readonly sign: '+' | '-' | '~'
  readonly field: string
  readonly before?: string
  readonly after?: string
}

/** A value as JSON on one line, with nothing in it a terminal would obey. */
export function formatValue(value: unknown): string {
  return safe(JSON.stringify(value) ?? 'undefined')
}

/** The lines of one changed field: one, or one for each path that differs within a JSON object. */
export function changeLines({ field, before, after }: Pick<FieldChange, 'field' | 'before' | 'after'>): ChangeLine[] {
  if (isObject(before) && isObject(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])]
    const differing = keys.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]))
    if (differing.length > 0) {
      return differing.flatMap((key) =>
        changeLines({ field: `${field}.${key}`, before: before[key], after: after[key] }),
      )
    }
  }
  const name = safe(field)
  if (before === undefined) return [{ sign: '+', field: name, after: formatValue(after) }]
  if (after === undefined) return [{ sign: '-', field: name, before: formatValue(before) }]
  return [{ sign: '~', field: name, before: formatValue(before), after: formatValue(after) }]
}

/** A formatted value in at most so many columns: the rest is counted, `"Dear An…" (+120 chars)`. */
export function cutValue(text: string, columns: number): string {
  if (width(text) <= columns) return text
  const quote = text.startsWith('"') ? '"' : ''
  const room = columns - `…${quote} (+${thousands(text.length)} chars)`.length
  const { text: kept, cut } = head(text, Math.max(room, 8))
  return `${kept}…${quote} (+${thousands(cut - quote.length)} chars)`
}

/**
 * Two long values that begin alike, without what they share, so that what
 * differs is not cut off. The rest of both is left as it is.
 */
export function skipShared(before: string, after: string, columns: number): { before: string; after: string } {
  const length = Math.min(before.length, after.length)
  let shared = 0
  while (shared < length && before[shared] === after[shared]) shared += 1
  // Some of it stays, to show where in the text one is; and a surrogate pair stays whole.
  let skipped = shared - 16
  if (skipped > 0 && /[\udc00-\udfff]/.test(before[skipped]!)) skipped -= 1
  if (shared < columns / 2 || skipped <= 0) return { before, after }
  const mark = `(${thousands(skipped)} chars alike) …`
  return { before: mark + before.slice(skipped), after: mark + after.slice(skipped) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
