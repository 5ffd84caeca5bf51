import type { Statement } from './classify.js'
import { parseOne } from './grammar.js'
import { hazardsQuery } from './hazards.js'

/**
 * What no ROLLBACK takes back: other connections, server files, other
 * backends, WAL control. NOTIFY and advisory locks, which READ ONLY lets
 * through, are contained here: the transaction never commits and its session ends.
 */
const SOURCE =
  '(dblink|pg_terminate|pg_cancel|lo_export|pg_file_|\\ycopy\\y.*\\y(to|program)\\y' +
  '|\\yhttp_(get|post|put|patch|delete|head)\\y|\\yhttp\\s*\\(|pg_logical_emit|pg_switch_wal|brin_(de)?summarize|gin_clean' +
  '|pg_reload_conf|pg_create_restore_point|net\\.http)'

/** Like {@link HAZARDS_QUERY}, for statements that are executed and rolled back. */
export const ROLLBACK_HAZARDS_QUERY = hazardsQuery(SOURCE)

/**
 * Ways out of a rolled-back transaction that a plain write may take without
 * naming them: such functions in triggers, defaults, constraints, indexes,
 * rules and policies, and foreign tables whose wrapper knows no transactions.
 * Takes the names of {@link ROLLBACK_HAZARDS_QUERY} as `$1`.
 */
export const ESCAPES_QUERY = `WITH hazard AS (
  SELECT p.oid, p.proname FROM pg_proc p WHERE lower(p.proname) = ANY($1::text[])
    AND p.pronamespace <> 'pg_catalog'::regnamespace
)
SELECT 'trigger function ' || h.proname FROM pg_trigger t JOIN hazard h ON h.oid = t.tgfoid WHERE NOT t.tgisinternal
UNION SELECT 'event trigger ' || e.evtname FROM pg_event_trigger e JOIN hazard h ON h.oid = e.evtfoid WHERE e.evtenabled <> 'D'
UNION SELECT 'function ' || h.proname FROM pg_depend d JOIN hazard h ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = h.oid
  WHERE d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass, 'pg_policy'::regclass)
UNION SELECT 'rule ' || r.rulename FROM pg_depend d JOIN hazard h ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = h.oid
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND r.ev_type <> '1'
UNION SELECT 'foreign table ' || c.relname FROM pg_foreign_table f JOIN pg_class c ON c.oid = f.ftrelid
  JOIN pg_foreign_server s ON s.oid = f.ftserver JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
  LEFT JOIN pg_proc p ON p.oid = w.fdwhandler
  WHERE coalesce(p.proname, '') NOT IN ('postgres_fdw_handler', 'file_fdw_handler')`

/** Statements whose whole effect belongs to the transaction. What is not here is not executed. */
const CONTAINED = new Set([
  ...[
    'InsertStmt',
    'UpdateStmt',
    'DeleteStmt',
    'MergeStmt',
    'SelectStmt',
    'ExplainStmt',
    'ExecuteStmt',
    'TruncateStmt',
  ],
  ...[
    'CallStmt',
    'DoStmt',
    'CreateTableAsStmt',
    'RefreshMatViewStmt',
    'CreateStmt',
    'ViewStmt',
    'IndexStmt',
    'RuleStmt',
  ],
  ...['CreateSchemaStmt', 'CreateSeqStmt', 'AlterSeqStmt', 'CreateFunctionStmt', 'CreateTrigStmt', 'CreateEnumStmt'],
  ...[
    'AlterEnumStmt',
    'CompositeTypeStmt',
    'CreateRangeStmt',
    'CreateDomainStmt',
    'AlterDomainStmt',
    'CreatePolicyStmt',
  ],
  ...['AlterPolicyStmt', 'AlterTableStmt', 'RenameStmt', 'AlterObjectSchemaStmt', 'AlterOwnerStmt', 'CommentStmt'],
  ...['GrantStmt', 'DropStmt', 'AlterFunctionStmt', 'DefineStmt', 'CreateStatsStmt', 'CreateCastStmt'],
])

/** Definitions after which the functions and triggers of the database may be others. */
const REDEFINING = /^(Do|Call|Create|Alter|Define|Rename|Drop|Rule)/

/** True when what {@link ESCAPES_QUERY} says may have changed with this statement. */
export function redefines({ node }: Statement): boolean {
  return REDEFINING.test(node)
}

/** Why the statement itself must not be executed even to be rolled back; undefined when it may. */
export function whyNotContained(statement: Statement): string | undefined {
  const { node, operation, denied, text } = statement
  if (!CONTAINED.has(node)) return `${operation} is not undone by a rollback`
  if (denied.length > 0) return `${denied[0]}() is not undone by a rollback`
  const parsed = parseOne(text)
  if ('IndexStmt' in parsed && parsed.IndexStmt.concurrent)
    return 'CREATE INDEX CONCURRENTLY cannot run in a transaction'
  if ('DropStmt' in parsed && parsed.DropStmt.concurrent) return 'DROP INDEX CONCURRENTLY cannot run in a transaction'
  if ('DoStmt' in parsed || 'CreateFunctionStmt' in parsed) {
    const language = languageOf(parsed)
    if ('DoStmt' in parsed && !/^plpgsql$/i.test(language ?? 'plpgsql')) return `DO in ${language} cannot be judged`
    if ('DoStmt' in parsed && ESCAPING_TEXT.test(text)) return 'the DO block reaches out of the transaction'
  }
  return undefined
}

/** The same words as in {@link SOURCE}, for text that has not reached the catalog. */
const ESCAPING_TEXT = new RegExp(SOURCE.replaceAll('\\y', '\\b'), 'is')

function languageOf(node: ReturnType<typeof parseOne>): string | undefined {
  const args = 'DoStmt' in node ? node.DoStmt.args : undefined
  for (const option of args ?? []) {
    if (!('DefElem' in option) || option.DefElem.defname !== 'language') continue
    const { arg } = option.DefElem
    if (arg !== undefined && 'String' in arg) return arg.String.sval
  }
  return undefined
}

/** A hazard named inside a DO block. */
export function namedIn(text: string, names: Iterable<string>): string | undefined {
  const lower = text.toLowerCase()
  for (const name of names) if (lower.includes(name)) return name
  return undefined
}
