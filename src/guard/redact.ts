import type { FieldChange } from '../journal/record.js'

const SECRET_NAME =
  /pass(word|wd|phrase)?$|^pwd$|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authorization|cookie|credential|^cvv$|^cvc$|card[-_]?number|^pan$|^ssn$|^iban$/i

/** Secrets that give themselves away by their shape, wherever they stand. */
const SECRET_VALUES: readonly RegExp[] = [
  /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}/g, // JSON Web Token
  /\b(?:sk|pk|rk|ghp|gho|xox[abpr])[-_][A-Za-z0-9_-]{16,}/g, // API keys of the big providers
  /\bAKIA[0-9A-Z]{16}\b/g, // AWS access key id
  /\bBearer\s+[A-Za-z0-9._~+/-]{12,}=*/gi,
  /\b(?:\d[ -]?){13,19}\b/g, // card numbers, see isCard
]

const REDACTED = '[redacted]'

/** Characters of one value that are kept. */
export const MAX_VALUE = 2_048
const MAX_DEPTH = 8
const MAX_ITEMS = 200

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

  function value(input: unknown, name = '', depth = 0): unknown {
    if (input === null || input === undefined) return input
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
      const items = input.slice(0, MAX_ITEMS).map((item) => value(item, '', depth + 1))
      return input.length > MAX_ITEMS ? [...items, `[${input.length - MAX_ITEMS} more]`] : items
    }
    const entries = Object.entries(input as Record<string, unknown>)
    return Object.fromEntries(entries.slice(0, MAX_ITEMS).map(([key, item]) => [key, value(item, key, depth + 1)]))
  }

  function text(input: string): string {
    let out =
      input.length > MAX_VALUE ? `${input.slice(0, MAX_VALUE)}… (${input.length - MAX_VALUE} more characters)` : input
    for (const pattern of SECRET_VALUES) {
      out = out.replace(pattern, (found) => (/^[\d -]+$/.test(found) && !isCard(found) ? found : REDACTED))
    }
    return out
  }

  return {
    value: (input, name) => value(input, name),
    text,
    changes: (changes) =>
      changes.map((change) => ({
        ...change,
        ...('before' in change ? { before: value(change.before, change.field) } : {}),
        ...('after' in change ? { after: value(change.after, change.field) } : {}),
      })),
  }
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
