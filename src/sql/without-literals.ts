import { scannedWithoutLiterals } from './grammar.js'

const NAME = '[A-Za-z_\\u0080-\\uffff][\\w$\\u0080-\\uffff]*'
// Strings with only white space and a line break between them are one.
const CONTINUED = "(?:[ \\t\\f\\v]*[\\r\\n]\\s*'(?:[^']|'')*')*"

/**
 * One part of a text, as PostgreSQL's lexer cuts it: a comment (group 1), a
 * literal (group 2) or anything else. No match where the lexer itself is
 * needed: at a comment in a comment, or a quote that does not end.
 */
const PART = new RegExp(
  [
    '(--[^\\r\\n]*|/\\*(?:[^*/]|\\*(?!/)|/(?!\\*))*\\*/)',
    "([eE]'(?:[^'\\\\]|''|\\\\[^])*'" +
      `|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*'${CONTINUED}` +
      '|\\$((?:[A-Za-z_\\u0080-\\uffff][\\w\\u0080-\\uffff]*)?)\\$[^]*?\\$\\3\\$' +
      '|0[xX][\\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+' +
      '|(?:\\d[\\d_]*(?:\\.(?!\\.)[\\d_]*)?|\\.\\d[\\d_]*)(?:[eE][+-]?\\d[\\d_]*)?)',
    NAME,
    '"(?:[^"]|"")*"|\\$\\d+',
    '[^/\'"$.\\w\\u0080-\\uffff-]+|/(?!\\*)|-(?!-)|\\.\\.|\\.(?!\\d)',
  ].join('|'),
  'y',
)

/**
 * The text of a statement that parses, with every literal replaced by `?` and
 * every comment removed, so that it holds no data.
 */
export function withoutLiterals(text: string): string {
  let out = ''
  let from = 0
  PART.lastIndex = 0
  while (PART.lastIndex < text.length) {
    const start = PART.lastIndex
    const part = PART.exec(text)
    if (part === null) return scannedWithoutLiterals(text)
    const literal = part[2] !== undefined
    if (!literal && part[1] === undefined) continue
    out += text.slice(from, start) + (literal ? '?' : ' ')
    from = PART.lastIndex
  }
  return (out + text.slice(from)).trim()
}
