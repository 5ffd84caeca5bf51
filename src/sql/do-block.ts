import type { DoStmt, Node } from '@pgsql/types'
import { parseBlock, parseOne, SqlSyntaxError, type Token, tokensOf } from './grammar.js'
import { walk } from './tree.js'

/** What an anonymous block (`DO`) executes, as far as its text tells. */
export interface BlockContent {
  /** Every statement and every expression of the block; an expression is the SELECT of it. */
  readonly statements: readonly Node[]
  /** Names that an argument list follows anywhere in it, also where the parser tells nothing. */
  readonly calls: readonly string[]
}

/** The parts of a block whose whole effect is that of the SQL in them. */
const TRANSPARENT = new Set([
  ...['PLpgSQL_function', 'PLpgSQL_var', 'PLpgSQL_rec', 'PLpgSQL_row', 'PLpgSQL_recfield', 'PLpgSQL_type'],
  ...['PLpgSQL_expr', 'PLpgSQL_stmt_block', 'PLpgSQL_stmt_assign', 'PLpgSQL_stmt_if', 'PLpgSQL_if_elsif'],
  ...['PLpgSQL_stmt_case', 'PLpgSQL_case_when', 'PLpgSQL_stmt_loop', 'PLpgSQL_stmt_while', 'PLpgSQL_stmt_fori'],
  ...['PLpgSQL_stmt_fors', 'PLpgSQL_stmt_forc', 'PLpgSQL_stmt_foreach_a', 'PLpgSQL_stmt_exit', 'PLpgSQL_stmt_return'],
  ...['PLpgSQL_stmt_raise', 'PLpgSQL_raise_option', 'PLpgSQL_stmt_assert', 'PLpgSQL_stmt_execsql'],
  ...['PLpgSQL_stmt_perform', 'PLpgSQL_stmt_call', 'PLpgSQL_stmt_open', 'PLpgSQL_stmt_fetch', 'PLpgSQL_stmt_close'],
])

/** How the text of an expression is to be read, in PostgreSQL's numbers (`RawParseMode`). */
const MODE = { statement: 0, expression: 2, assignment: 3 }

/**
 * The content of a block in PL/pgSQL, or undefined when its text does not tell
 * all of it: another language, dynamic SQL, transaction control, or an
 * exception handler, which could hide from us that a write was refused.
 */
export function blockContent(statement: DoStmt): BlockContent | undefined {
  const source = sourceOf(statement)
  if (source === undefined) return undefined
  try {
    const tree = parseBlock(source)
    if (!isTransparent(tree) || movesForeignCursor(tree)) return undefined
    const tokens = tokensOf(source)
    if (hidesDefault(tree, tokens)) return undefined
    const statements: Node[] = []
    walk(tree, (tag, value: { query?: string; parseMode?: number }) => {
      if (tag === 'PLpgSQL_expr') statements.push(parseOne(asStatement(value.query ?? '', value.parseMode ?? 0)))
    })
    return { statements, calls: callsIn(tokens) }
  } catch (error) {
    if (error instanceof SqlSyntaxError) return undefined
    throw error
  }
}

function sourceOf({ args = [] }: DoStmt): string | undefined {
  let source: string | undefined
  let language = 'plpgsql'
  for (const option of args) {
    if (!('DefElem' in option)) return undefined
    const { defname, arg } = option.DefElem
    const text = arg !== undefined && 'String' in arg ? (arg.String.sval ?? '') : undefined
    if (text === undefined) return undefined
    if (defname === 'as') source = text
    else if (defname === 'language') language = text
    else return undefined
  }
  return language === 'plpgsql' ? source : undefined
}

function isTransparent(tree: unknown): boolean {
  let transparent = true
  walk(tree, (tag) => {
    // Exception handlers are no part that is known here.
    if (tag === 'dynquery' || (tag.startsWith('PLpgSQL_') && !TRANSPARENT.has(tag))) {
      transparent = false
    }
    return transparent
  })
  return transparent
}

/** A cursor that the block has not opened is another's, and where it stands no ROLLBACK takes back. */
function movesForeignCursor(tree: unknown): boolean {
  const opened = new Set<number>()
  const moved = new Set<number>()
  walk(tree, (tag, { curvar = 0 }: { curvar?: number }) => {
    if (tag === 'PLpgSQL_stmt_open') opened.add(curvar)
    else if (tag === 'PLpgSQL_stmt_fetch' || tag === 'PLpgSQL_stmt_close') moved.add(curvar)
  })
  return [...moved].some((cursor) => !opened.has(cursor))
}

function asStatement(query: string, mode: number): string {
  if (mode === MODE.statement) return query
  if (mode === MODE.expression) return `SELECT ${query}`
  if (mode < MODE.assignment) throw new SqlSyntaxError('unknown kind of expression')
  // The target may hold subscripts, which are expressions themselves.
  let depth = 0
  for (const { start, end, text } of tokensOf(query)) {
    if (text === '[' || text === '(') depth += 1
    else if (text === ']' || text === ')') depth -= 1
    else if (depth === 0 && (text === ':=' || text === '=')) {
      const bytes = Buffer.from(query, 'utf8')
      return `SELECT ${bytes.toString('utf8', 0, start)}, ${bytes.toString('utf8', end)}`
    }
  }
  throw new SqlSyntaxError('an assignment without a value')
}

/** The parser does not tell the initial value of a record variable. */
function hidesDefault(tree: unknown, tokens: readonly Token[]): boolean {
  const records = new Set<string>()
  walk(tree, (tag, value: { refname?: string }) => {
    if (tag === 'PLpgSQL_rec') records.add((value.refname ?? '').toLowerCase())
  })
  return tokens.some((token, index) => {
    if (!records.has(nameOf(token)) || !/^(;|declare|>>)$/i.test(tokens[index - 1]?.text ?? '')) return false
    // In a statement the variable is assigned to or a part of it is; in its declaration a type follows.
    const rest = tokens.slice(index + 1)
    if (/^(:=|=|\.|\[)$/.test(rest[0]?.text ?? '')) return false
    const declaration = rest.slice(
      0,
      rest.findIndex(({ text }) => text === ';'),
    )
    return declaration.some(({ text }) => /^(:=|=|default)$/i.test(text))
  })
}

function callsIn(tokens: readonly Token[]): string[] {
  const names = new Set<string>()
  for (const [index, token] of tokens.entries()) {
    if (tokens[index + 1]?.text === '(' && /^["\p{L}_]/u.test(token.text)) names.add(nameOf(token))
  }
  return [...names]
}

/** As the catalog has it, but for the case of quoted names. */
function nameOf({ text }: Token): string {
  return (text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text).toLowerCase()
}
