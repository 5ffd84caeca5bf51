import type { FieldChange } from '../journal/record.js'

const SECRET_NAME =
  /pass(word|wd|phrase)?$|^pwd$|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authorization|cookie|credential|^cvv$|^cvc$|card[-_]?number|^pan$|^ssn$|^iban$/i

/** Secrets that give themselves away by their shape, wherever they stand. */
const SECRET_VALUES: readonly RegExp[] = [
  /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}/g, // JSON Web Token
  /\b(?:sk|pk|rk|ghp|gho|xox[abpr])[-_][A-Za-z0-9_-]{16,}/g, // API keys of the big providers
  /\bAKIA[0-9A-Z]{16}\b/g, // AWS access key id
  /\bBearer\s+[A-Za-z0-9._~+/-]{12,}=*/gi,
]

/** Digits in groups, at least as many as the shortest card number has. */
const DIGITS = /\d(?:[ -]?\d){12,}/g

const REDACTED = '[redacted]'

/** Characters of one value that are kept. */
export const MAX_VALUE = 2_048
const MAX_DEPTH = 8
const MAX_ITEMS = 200

/** Values of one payload that are looked at, all levels together: a graph may hold the same object a million times. */
const MAX_VALUES = 10_000

/** Characters looked at beyond the cap, so that a secret it cuts through is still recognised. */
const MARGIN = 4_096

export interface Redactor {
  /** A copy of any JSON-like value with secrets replaced and long values cut. */
  value(value: unknown, name?: string): unknown
  text(text: string): string
  changes(changes: readonly FieldChange[]): FieldChange[]
}

/** @param names field names to hide beside the built-in ones; case is ignored. */
export function createRedactor(names: readonly string[] = []): Redactor {
  const extra = new Set(names.map((name) => name.toLowerCase()))
  const secret = (name: string) => extra.has(name.toLowerCase()) || SECRET_NAME.test(name)

  function value(input: unknown, name: string, depth: number, left: { values: number }): unknown {
    if (input === null || input === undefined) return input
    left.values -= 1
    if (left.values < 0) return '[too much]'
    if (name !== '' && secret(name)) return REDACTED
    switch (typeof input) {
      case 'string':
        return text(input)
      case 'number':
      case 'boolean':
        return input
      case 'bigint':
        return String(input)
      case 'object':
        break
      default:
        return `[${typeof input}]`
    }
    if (input instanceof Date) return Number.isNaN(input.getTime()) ? null : input.toISOString()
    if (input instanceof Uint8Array) return `[${input.byteLength} bytes]`
    if (depth >= MAX_DEPTH) return '[nested too deep]'
    if (Array.isArray(input)) {
      const items = input.slice(0, MAX_ITEMS).map((item) => value(item, '', depth + 1, left))
      return input.length > MAX_ITEMS ? [...items, `[${input.length - MAX_ITEMS} more]`] : items
    }
    const entries = Object.entries(input as Record<string, unknown>)
    return Object.fromEntries(
      entries.slice(0, MAX_ITEMS).map(([key, item]) => [key, value(item, key, depth + 1, left)]),
    )
  }

  function text(input: string): string {
    let out = input.slice(0, MAX_VALUE + MARGIN)
    for (const pattern of SECRET_VALUES) out = out.replace(pattern, REDACTED)
    out = out.replace(DIGITS, withoutCards)
    if (input.length <= MAX_VALUE) return out
    return `${out.slice(0, MAX_VALUE)}… (${input.length - MAX_VALUE} more characters)`
  }

  const whole = (input: unknown, name = '') => value(input, name, 0, { values: MAX_VALUES })

  return {
    value: whole,
    text,
    changes: (changes) =>
      changes.map((change) => {
        // Below a secret everything is.
        const name = change.field.split('.').find(secret) ?? change.field
        return {
          ...change,
          ...('before' in change ? { before: whole(change.before, name) } : {}),
          ...('after' in change ? { after: whole(change.after, name) } : {}),
        }
      }),
  }
}

/** A card number may stand beside other numbers (its expiry, an order number): every sequence of whole groups is tried. */
function withoutCards(run: string): string {
  const groups = run.split(/([ -])/)
  let out = ''
  for (let first = 0; first < groups.length; ) {
    let last = Math.min(groups.length - 1, first + 18)
    if (last % 2 === 1) last -= 1
    while (last >= first && !isCard(groups.slice(first, last + 1).join(''))) last -= 2
    out += last < first ? groups[first] : REDACTED
    first = last < first ? first + 1 : last + 1
    // The separator goes out as it came.
    if (first < groups.length) {
      out += groups[first]
      first += 1
    }
  }
  return out
}

/** Luhn: order numbers and timestamps stay readable, card numbers do not. */
function isCard(found: string): boolean {
  const digits = found.replace(/\D/g, '')
  if (digits.length < 13 || digits.length > 19) return false
  let sum = 0
  for (let index = 0; index < digits.length; index += 1) {
    let digit = Number(digits[digits.length - 1 - index])
    if (index % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2
    sum += digit
  }
  return sum % 10 === 0
}
