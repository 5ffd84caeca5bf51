import type { Node } from '@pgsql/types'
import { DryTraceError, messageOf } from '../errors.js'

/** Longer texts are not parsed: the grammar takes a second for 200 kB of nested lists, and a dry run must not stall the process. */
export const MAX_TEXT_BYTES = 256 * 1024

/** One statement of a text, with its own text. */
export interface ParsedStatement {
  readonly node: Node
  readonly text: string
}

/** The server would not read this text either, or it is too long for us to. */
export class SqlSyntaxError extends Error {
  override readonly name = 'SqlSyntaxError'
}

/** One token of a text; `start` and `end` count bytes of UTF-8. */
export interface Token {
  readonly start: number
  readonly end: number
  readonly text: string
  readonly tokenName: string
}

interface Grammar {
  parseSync(text: string): { stmts?: { stmt?: Node; stmt_location?: number; stmt_len?: number }[] }
  parsePlPgSQLSync(text: string): unknown
  fingerprintSync(text: string): string
  scanSync(text: string): { tokens: Token[] }
  deparseSync(node: unknown): string
}

let grammar: Grammar | undefined
let loading: Promise<void> | undefined

/** Loads PostgreSQL's own grammar (WebAssembly, about 25 ms and 14 MB) once. Live traffic never needs it. */
export function loadGrammar(): Promise<void> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined
    throw new DryTraceError('DRY_GUARD_FAILED', `the SQL grammar could not be loaded: ${messageOf(error)}`, {
      cause: error,
    })
  })
  return loading
}

async function load(): Promise<void> {
  const [parser, deparser] = await Promise.all([import('libpg-query'), import('pgsql-deparser')])
  await parser.loadModule()
  grammar = {
    parseSync: parser.parseSync as Grammar['parseSync'],
    parsePlPgSQLSync: parser.parsePlPgSQLSync,
    fingerprintSync: parser.fingerprintSync,
    scanSync: parser.scanSync,
    deparseSync: deparser.deparseSync as Grammar['deparseSync'],
  }
}

export function grammarLoaded(): boolean {
  return grammar !== undefined
}

function loaded(): Grammar {
  if (grammar === undefined) throw new DryTraceError('DRY_GUARD_FAILED', 'the SQL grammar is not loaded')
  return grammar
}

/**
 * Splits a text into its statements, as the server would with
 * `standard_conforming_strings` on.
 * @throws SqlSyntaxError when the text is no SQL or longer than {@link MAX_TEXT_BYTES}.
 */
export function parseStatements(text: string): ParsedStatement[] {
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.length > MAX_TEXT_BYTES) {
    throw new SqlSyntaxError(`the statement is longer than ${MAX_TEXT_BYTES / 1024} kB`)
  }
  // The server stops reading at a NUL, so the tail would be judged but never seen, or the other way round.
  if (text.includes('\0')) throw new SqlSyntaxError('the statement contains a NUL character')
  // The library refuses what the server answers with EmptyQueryResponse.
  if (text.trim() === '') return []
  let parsed: ReturnType<Grammar['parseSync']>
  try {
    parsed = loaded().parseSync(text)
  } catch (error) {
    if (error instanceof DryTraceError) throw error
    throw new SqlSyntaxError(messageOf(error))
  }
  const statements: ParsedStatement[] = []
  for (const raw of parsed.stmts ?? []) {
    if (raw.stmt === undefined) continue
    // Offsets count bytes of UTF-8, not characters.
    const start = raw.stmt_location ?? 0
    const end = raw.stmt_len ? start + raw.stmt_len : bytes.length
    statements.push({ node: raw.stmt, text: bytes.toString('utf8', start, end).trim() })
  }
  return statements
}

/** Parses exactly one statement. @throws SqlSyntaxError on anything else. */
export function parseOne(text: string): Node {
  const statements = parseStatements(text)
  const [only] = statements
  if (only === undefined || statements.length !== 1) throw new SqlSyntaxError('expected one statement')
  return only.node
}

/** Parses an expression, for building statements. */
export function parseExpression(text: string): Node {
  const node = parseOne(`SELECT ${text}`)
  const target = 'SelectStmt' in node ? node.SelectStmt.targetList?.[0] : undefined
  const value = target !== undefined && 'ResTarget' in target ? target.ResTarget.val : undefined
  if (value === undefined) throw new SqlSyntaxError('expected an expression')
  return value
}

/**
 * The syntax tree of a block in PL/pgSQL, in the parser's own tags (`PLpgSQL_…`).
 * @throws SqlSyntaxError when it is none.
 */
export function parseBlock(source: string): unknown {
  const quote = '$drytrace_block$'
  if (source.includes(quote) || source.includes('\0')) throw new SqlSyntaxError('the block cannot be quoted')
  try {
    return loaded().parsePlPgSQLSync(`CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS ${quote}${source}${quote}`)
  } catch (error) {
    if (error instanceof DryTraceError) throw error
    throw new SqlSyntaxError(messageOf(error))
  }
}

/** The tokens of a text, without comments. @throws SqlSyntaxError */
export function tokensOf(text: string): Token[] {
  try {
    return loaded()
      .scanSync(text)
      .tokens.filter(({ tokenName }) => !COMMENTS.has(tokenName))
  } catch (error) {
    if (error instanceof DryTraceError) throw error
    throw new SqlSyntaxError(messageOf(error))
  }
}

/** The text of a syntax tree. */
export function deparse(node: Node): string {
  return loaded().deparseSync(node)
}

/** The body of a PL/pgSQL function, given its whole definition. @throws SqlSyntaxError */
export function parseFunction(definition: string): unknown {
  if (definition.length > MAX_TEXT_BYTES) throw new SqlSyntaxError('the function is too long')
  try {
    return loaded().parsePlPgSQLSync(definition)
  } catch (error) {
    if (error instanceof DryTraceError) throw error
    throw new SqlSyntaxError(messageOf(error))
  }
}

/** Equal for statements that differ in constants and white space only; 16 hex digits. */
export function fingerprint(text: string): string {
  return loaded().fingerprintSync(text)
}

const LITERALS = new Set(['SCONST', 'USCONST', 'XCONST', 'BCONST', 'ICONST', 'FCONST'])
const COMMENTS = new Set(['SQL_COMMENT', 'C_COMMENT'])

/** `withoutLiterals` by the server's own lexer: exact, and slow, because all tokens come out of it as JSON. */
export function scannedWithoutLiterals(text: string): string {
  const bytes = Buffer.from(text, 'utf8')
  let out = ''
  let at = 0
  for (const token of loaded().scanSync(text).tokens) {
    const literal = LITERALS.has(token.tokenName) || /^([bx]|u&)?'/i.test(token.text)
    if (!literal && !COMMENTS.has(token.tokenName)) continue
    out += bytes.toString('utf8', at, token.start) + (literal ? '?' : ' ')
    at = token.end
  }
  return (out + bytes.toString('utf8', at)).trim()
}
