import type { CopyStmt, DoStmt, ExplainStmt, Node, RangeVar, TransactionStmt, VariableSetStmt } from '@pgsql/types'
import { commandTag } from './command-tag.js'
import { blockContent } from './do-block.js'
import { type Findings, findings, WRITING } from './findings.js'
import { ASKING_OF_ID, ASSIGNING_ID, functionKind } from './functions.js'
import { fingerprint, type ParsedStatement, parseStatements } from './grammar.js'
import { Lru } from './lru.js'
import { relationName, tagOf } from './tree.js'
import { withoutLiterals } from './without-literals.js'

/**
 * What a statement may do, as far as its text tells.
 *
 * - `read`: calls only functions known to be harmless. Still runs READ ONLY: views, operators and casts hide calls.
 * - `unsure`: calls functions or procedures only the server knows, or is a block of such reads. Runs READ ONLY.
 * - `write`: changes data or the catalog. Never runs.
 * - `deny`: has an effect READ ONLY does not stop. Never runs as written.
 * - `lock`: takes row or table locks.
 * - `xid`: a read that would have a transaction id assigned. Runs READ ONLY with the id that would be the next.
 * - `session`, `txmode`: changes the session, or the transaction's mode.
 * - `tx`: transaction control.
 * - `unparsed`: not SQL, or too long to be read.
 */
export type StatementKind =
  | 'read'
  | 'unsure'
  | 'lock'
  | 'xid'
  | 'session'
  | 'txmode'
  | 'tx'
  | 'write'
  | 'deny'
  | 'unparsed'

export interface Statement {
  readonly kind: StatementKind
  /** Tag of the syntax tree: `UpdateStmt`. Empty when unparsed. */
  readonly node: string
  /** For people and for `db.operation.name`: `UPDATE`, `SELECT FOR UPDATE`, `CREATE TABLE`. */
  readonly operation: string
  /** Words of the server's command tag, without counts. */
  readonly tag: string
  /** What is written, or for reads what is read first; `schema.table` where the statement says so. */
  readonly relation: string | undefined
  /** Every relation the statement writes, without repeats. */
  readonly writes: readonly string[]
  /** Names of all functions called, lower case last part only. */
  readonly functions: readonly string[]
  /** Of those, the ones that must not run. */
  readonly denied: readonly string[]
  /** Of those, the ones only the server knows. */
  readonly unknown: readonly string[]
  /** `INSERT … ON CONFLICT DO UPDATE`, or MERGE. */
  readonly upsert: boolean
  /** Row locks are asked for (`FOR UPDATE` and the like). */
  readonly locks: boolean
  /** Relations named anywhere, without repeats. */
  readonly relations: readonly string[]
  readonly text: string
  /** The text without literals and comments, at most 2,048 characters; empty when unparsed. */
  readonly safeText: string
  readonly fingerprint: string
  /** Why it is `unparsed`. */
  readonly error?: string
}

const READ_ONLY_UTILITIES = new Set(['VariableShowStmt', 'FetchStmt', 'ClosePortalStmt', 'ConstraintsSetStmt'])
const TRANSACTION_MODE =
  /^(default_)?transaction_read_only$|^transaction$|^session characteristics$|^session_replication_role$|^role$|^session_authorization$/i

type Judged = Omit<Statement, 'text' | 'safeText' | 'fingerprint' | 'tag'>

function judged(node: Node, kind: StatementKind, operation: string, found: Findings, target?: string): Judged {
  const writes = [...new Set(found.writes.flatMap((write) => (write.relation === undefined ? [] : [write.relation])))]
  return {
    kind,
    node: tagOf(node),
    operation,
    relation: target ?? writes[0] ?? [...found.relations][0],
    writes,
    functions: [...found.functions],
    denied: [...found.denied],
    unknown: [...found.unknown],
    relations: [...found.relations],
    locks: found.locks,
    upsert: found.upsert,
  }
}

function query(node: Node, found: Findings): Judged {
  const [write] = found.writes
  // The outermost write names the statement, as PostgreSQL's command tag does.
  if (write !== undefined) return judged(node, 'write', WRITING.get(tagOf(node)) ?? write.operation, found)
  const denied = [...found.denied]
  const asked = [...found.functions].some((name) => ASKING_OF_ID.has(name))
  const severe = denied.find((name) => asked || !ASSIGNING_ID.has(name))
  if (severe !== undefined) return judged(node, 'deny', 'SELECT', found, severe)
  if (found.locks) return judged(node, 'lock', 'SELECT FOR UPDATE', found)
  if (denied.length > 0) return judged(node, 'xid', 'SELECT', found)
  return judged(node, found.unknown.size > 0 ? 'unsure' : 'read', 'SELECT', found)
}

/** What a procedure does only the server knows; its arguments are expressions. */
function call(node: Node, found: Findings): Judged {
  const [denied] = found.denied
  if (denied !== undefined) return judged(node, 'deny', 'CALL', found, denied)
  return judged(node, found.writes.length > 0 || found.locks ? 'write' : 'unsure', 'CALL', found)
}

/** Statements that a block may consist of without being a write. */
const IN_READING_BLOCK = new Set(['SelectStmt', 'ExplainStmt', 'CallStmt'])

/** An anonymous block is what its statements are: a write, unless each of them only reads. */
function block(node: Node, statement: DoStmt, found: Findings): Judged {
  const content = blockContent(statement)
  const parts = content?.statements.map(judge)
  const reads = parts?.every(({ node, kind }) => IN_READING_BLOCK.has(node) && (kind === 'read' || kind === 'unsure'))
  const calls = content?.calls ?? []
  if (parts === undefined || !reads || calls.some((name) => functionKind([name]) === 'denied')) {
    found.writes.push({ operation: 'DO', relation: undefined })
    return judged(node, 'write', 'DO', found)
  }
  for (const part of parts) {
    for (const name of part.functions) found.functions.add(name)
    for (const name of part.unknown) found.unknown.add(name)
    for (const name of part.relations) found.relations.add(name)
  }
  for (const name of calls) found.functions.add(name)
  return judged(node, 'unsure', 'DO', found)
}

/** EXPLAIN executes its statement only with ANALYZE. */
function explainsByRunning(statement: ExplainStmt): boolean {
  return (statement.options ?? []).some((option) => {
    if (!('DefElem' in option) || option.DefElem.defname !== 'analyze') return false
    const value = option.DefElem.arg
    if (value === undefined) return true
    if ('String' in value) return !/^(false|off|0)$/i.test(value.String.sval ?? '')
    if ('Integer' in value) return value.Integer.ival !== 0 && value.Integer.ival !== undefined
    if ('Boolean' in value) return value.Boolean.boolval === true
    return true
  })
}

function judge(node: Node): Judged {
  const tag = tagOf(node)
  const found = findings(node)
  const value = Object.values(node)[0] as never
  switch (tag) {
    case 'SelectStmt':
    case 'InsertStmt':
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      return query(node, found)
    case 'ExplainStmt': {
      const statement = value as ExplainStmt
      if (!explainsByRunning(statement)) return judged(node, 'read', 'EXPLAIN', found)
      const inner = judge(statement.query as Node)
      return { ...inner, node: tag, operation: `EXPLAIN ANALYZE ${inner.operation}` }
    }
    case 'CopyStmt': {
      const statement = value as CopyStmt
      const relation = relationName(statement.relation)
      if (statement.is_from) {
        found.writes.push({ operation: 'COPY FROM', relation })
        return judged(node, 'write', 'COPY FROM', found)
      }
      if (statement.is_program || statement.filename) return judged(node, 'deny', 'COPY TO', found, relation)
      if (statement.query === undefined) return judged(node, 'read', 'COPY TO', found, relation)
      return { ...judge(statement.query), node: tag, operation: 'COPY TO' }
    }
    case 'DeclareCursorStmt':
      return { ...query(node, found), operation: 'DECLARE CURSOR' }
    case 'PrepareStmt': {
      const inner = query(node, found)
      return { ...inner, kind: inner.kind === 'read' ? 'session' : inner.kind, operation: 'PREPARE' }
    }
    case 'CallStmt':
      return call(node, found)
    case 'DoStmt':
      return block(node, value, found)
    case 'ExecuteStmt':
      return judged(node, 'unsure', 'EXECUTE', found)
    case 'DeallocateStmt':
    case 'DiscardStmt':
    case 'ListenStmt':
    case 'UnlistenStmt':
      return judged(node, 'session', commandTag(node), found)
    case 'TransactionStmt': {
      const kind = String((value as TransactionStmt).kind)
        .replace('TRANS_STMT_', '')
        .replaceAll('_', ' ')
      return judged(node, kind.includes('PREPARE') ? 'write' : 'tx', kind, found)
    }
    case 'VariableSetStmt': {
      const name = (value as VariableSetStmt).name ?? ''
      return judged(node, TRANSACTION_MODE.test(name) ? 'txmode' : 'session', 'SET', found, name.toLowerCase())
    }
    case 'NotifyStmt':
      return judged(node, 'deny', 'NOTIFY', found, (value as { conditionname?: string }).conditionname)
    case 'LoadStmt':
      return judged(node, 'deny', 'LOAD', found)
    case 'LockStmt':
      return judged(node, 'lock', 'LOCK TABLE', found)
    default: {
      if (READ_ONLY_UTILITIES.has(tag)) return judged(node, 'read', commandTag(node), found)
      const relation = relationName((value as { relation?: RangeVar }).relation)
      found.writes.push({ operation: commandTag(node), relation })
      return judged(node, 'write', commandTag(node), found, relation)
    }
  }
}

function statementOf({ node, text }: ParsedStatement): Statement {
  return {
    ...judge(node),
    tag: commandTag(node),
    text,
    safeText: withoutLiterals(text).slice(0, 2048),
    fingerprint: fingerprint(text),
  }
}

const classified = new Lru<readonly Statement[]>(2000, 16 * 1024 * 1024)

/**
 * Judges every statement of a text; an empty text has none. Never throws for
 * bad SQL: that is one statement of kind `unparsed`. The grammar must be loaded.
 */
export function classify(text: string): readonly Statement[] {
  const known = classified.get(text)
  if (known !== undefined) return known
  const statements = judgeText(text)
  classified.set(text, statements)
  return statements
}

function judgeText(text: string): readonly Statement[] {
  let parsed: ParsedStatement[]
  try {
    parsed = parseStatements(text)
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'SqlSyntaxError') throw error
    return [unparsedStatement(text, error.message)]
  }
  return parsed.map(statementOf)
}

/** A statement that nobody can judge. */
export function unparsedStatement(text: string, error: string): Statement {
  return {
    kind: 'unparsed',
    node: '',
    operation: 'SQL',
    tag: '',
    relation: undefined,
    writes: [],
    functions: [],
    denied: [],
    unknown: [],
    relations: [],
    locks: false,
    upsert: false,
    text,
    safeText: '',
    fingerprint: '0000000000000000',
    error,
  }
}

/** Order of caution, least first. */
const CAUTION: readonly StatementKind[] = [
  'read',
  'session',
  'tx',
  'txmode',
  'lock',
  'xid',
  'unsure',
  'write',
  'deny',
  'unparsed',
]

/** The most cautious kind of several statements; `read` for none. */
export function worstKind(statements: readonly Statement[]): StatementKind {
  let worst = 0
  for (const { kind } of statements) worst = Math.max(worst, CAUTION.indexOf(kind))
  return CAUTION[worst] ?? 'unparsed'
}
