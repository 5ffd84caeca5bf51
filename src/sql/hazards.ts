import type { Statement } from './classify.js'

/**
 * User functions and views of one database whose effect READ ONLY and ROLLBACK
 * do not contain: they mention advisory locks, other connections or server
 * files, or are written in a language we cannot read.
 */
export interface Hazards {
  readonly functions: ReadonlySet<string>
  readonly views: ReadonlySet<string>
}

/** Calls, in the text of a function or a view. */
const CALLS =
  '(pg_(try_)?advisory|dblink|pg_notify|\\ynotify\\y|pg_terminate|pg_cancel|lo_(ex|im)port|pg_file_|\\ycopy\\y.*\\yto\\y' +
  '|\\yhttp_(get|post|put|patch|delete|head)\\y|\\yhttp\\s*\\(|pg_logical_emit|pg_switch_wal|brin_(de)?summarize|gin_clean' +
  '|pg_reload_conf|pg_create_restore_point|net\\.http)'

/** What may follow ANALYZE where it is no command: after EXPLAIN, or as an option. */
const EXPLAINED = '[,)]|(select|insert|update|delete|merge|with|values|execute|declare|create|on|off|true|false)\\y'

/**
 * Commands, in the text of a function. READ ONLY permits them, and what they
 * note of a table in the catalog, or write to disk, no ROLLBACK takes back.
 */
const COMMANDS =
  `(\\yreindex\\y|\\yanalyze\\y(?!\\s*(${EXPLAINED}))` +
  `|(^|[;''"$]|\\y(begin|then|else|loop))\\s*(cluster|checkpoint|load)\\y)`

/** Rows of `('f' | 'v', name)`: the functions that make one of `calls`, and the views over them or over such built-in functions. */
export function hazardsQuery(calls: string): string {
  return `WITH RECURSIVE source AS MATERIALIZED (
  SELECT p.oid, lower(p.proname) AS name, l.lanname, p.provolatile,
    lower(CASE WHEN p.prosrc = '' AND p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END) AS body
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
), functions AS (
  SELECT s.oid, s.name FROM source s
  WHERE (s.lanname NOT IN ('sql', 'plpgsql') AND s.provolatile = 'v' AND s.name !~ '^(uuid_generate|gen_random|gen_salt)')
    OR s.body ~ '${calls}' OR s.body ~ '${COMMANDS}'
  UNION
  SELECT s.oid, s.name FROM source s JOIN functions f ON s.lanname IN ('sql', 'plpgsql') AND position(f.name IN s.body) > 0
), views AS (
  SELECT c.oid, lower(c.relname) AS name
  FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid
  LEFT JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_proc'::regclass
  WHERE c.relkind = 'v' AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND (d.refobjid IN (SELECT oid FROM functions) OR lower(pg_get_viewdef(c.oid)) ~ '${calls}')
  UNION
  SELECT c.oid, lower(c.relname) FROM views v
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' AND c.oid <> v.oid
)
SELECT 'f', name FROM functions UNION SELECT 'v', name FROM views`
}

export const HAZARDS_QUERY = hazardsQuery(CALLS)

export function readHazards(rows: readonly (readonly [string, string])[]): Hazards {
  const functions = new Set<string>()
  const views = new Set<string>()
  for (const [kind, name] of rows) (kind === 'f' ? functions : views).add(name)
  return { functions, views }
}

/** The function or view that forbids running this statement even READ ONLY, or undefined. */
export function hazardOf(statement: Statement, hazards: Hazards): string | undefined {
  const called = statement.functions.find((name) => hazards.functions.has(name.toLowerCase()))
  if (called !== undefined) return called
  return statement.relations.find((name) => hazards.views.has((name.split('.').at(-1) ?? '').toLowerCase()))
}
