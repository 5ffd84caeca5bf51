import type { Statement } from './classify.js'

/**
 * User functions and views of one database whose effect READ ONLY and ROLLBACK
 * do not contain: they mention advisory locks, other connections or server
 * files, or are written in a language we cannot read.
 */
export interface Hazards {
  readonly functions: ReadonlySet<string>
  readonly views: ReadonlySet<string>
  /**
   * Functions, and views over them, that write and handle the error with which
   * READ ONLY refuses that: run READ ONLY they would seem to have succeeded.
   */
  readonly silent: ReadonlySet<string>
}

/** Calls, in the text of a function or a view. */
const CALLS =
  '(pg_(try_)?advisory|dblink|pg_notify|\\ynotify\\y|pg_terminate|pg_cancel|lo_(ex|im)port|pg_file_|\\ycopy\\y.*\\yto\\y' +
  '|\\yhttp_(get|post|put|patch|delete|head)\\y|\\yhttp\\s*\\(|pg_logical_emit|pg_switch_wal|brin_(de)?summarize|gin_clean' +
  '|pg_reload_conf|pg_create_restore_point|net\\.http|\\ytxid_current\\y|\\ypg_current_xact_id\\y' +
  '|pg_stat_reset|pg_(create|copy|drop)_\\w*slot|pg_logical_slot_(get|peek)|pg_replication_(origin|slot_adv)|pg_backup_st|pg_st(art|op)_backup' +
  '|pg_export_snapshot|pg_rotate_logfile|pg_promote|pg_wal_replay_|\\ylo_(creat|from_bytea|put|unlink|truncate)' +
  '|\\ylowrite\\y)'

/** What may follow ANALYZE where it is no command: after EXPLAIN, or as an option. */
const EXPLAINED = '[,)]|(select|insert|update|delete|merge|with|values|execute|declare|create|on|off|true|false)\\y'

/**
 * Commands, in the text of a function. READ ONLY permits them, and what they
 * note of a table in the catalog, or write to disk, no ROLLBACK takes back.
 */
const COMMANDS =
  `(\\yreindex\\y|\\yanalyze\\y(?!\\s*(${EXPLAINED}))` +
  `|(^|[;''"$]|\\y(begin|then|else|loop))\\s*(cluster|checkpoint|load|deallocate|discard)\\y)`

/** Conditions of an exception handler that meet a refused write, or a refused COMMIT. */
const HANDLED =
  '\\y(others|read_only_sql_transaction|invalid_transaction_state|invalid_transaction_termination|25006|25000|2d000)\\y'

/** Beginnings of what READ ONLY refuses, and of what the text does not tell. */
const WRITES =
  '\\y(insert|update|delete|merge|truncate|create|alter|drop|grant|revoke|copy|execute|call|commit|rollback|nextval' +
  '|setval|lo_[a-z]+|lowrite|for\\s+(key\\s+)?share|lock\\s+table|comment\\s+on|security\\s+label' +
  '|refresh\\s+materialized|reassign\\s+owned|import\\s+foreign)\\y'

/**
 * Rows of `('f' | 'v' | 's', name)`: the functions that make one of `calls`,
 * the views over them or over such built-in functions, and what is silent
 * about a refused write.
 */
export function hazardsQuery(calls: string): string {
  return `WITH RECURSIVE source AS MATERIALIZED (
  SELECT p.oid, lower(p.proname) AS name, l.lanname, p.provolatile,
    lower(CASE WHEN p.prosrc = '' AND p.prokind IN ('f', 'p')
      THEN substr(pg_get_functiondef(p.oid), length('CREATE OR REPLACE ')) ELSE p.prosrc END) AS body
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
), handlers AS MATERIALIZED (
  SELECT s.oid, s.name FROM source s
  WHERE s.lanname = 'plpgsql' AND s.body ~ '\\yexception\\y' AND s.body ~ '${HANDLED}'
), odd_names AS MATERIALIZED (
  SELECT s.name FROM source s WHERE s.name !~ '^[[:alpha:]_][\\w$]*$'
), calls AS MATERIALIZED (
  SELECT DISTINCT s.oid, m[1] AS name FROM source s CROSS JOIN regexp_matches(s.body, '([[:alpha:]_][\\w$]*)"?\\s*\\(', 'g') m
  WHERE s.lanname IN ('sql', 'plpgsql') AND EXISTS (SELECT FROM handlers)
  UNION ALL
  SELECT s.oid, o.name FROM source s JOIN odd_names o ON position(o.name IN s.body) > 0
  WHERE s.lanname IN ('sql', 'plpgsql')
), writers AS (
  SELECT s.oid, s.name FROM source s WHERE s.lanname IN ('sql', 'plpgsql') AND s.body ~ '${WRITES}'
  UNION
  SELECT s.oid, s.name FROM writers w JOIN calls c ON c.name = w.name JOIN source s ON s.oid = c.oid
), silent AS (
  SELECT h.oid, h.name FROM handlers h JOIN writers w ON w.oid = h.oid
  UNION
  SELECT s.oid, s.name FROM silent f JOIN calls c ON c.name = f.name JOIN source s ON s.oid = c.oid
), silent_views AS (
  SELECT c.oid, lower(c.relname) AS name FROM silent f
  JOIN pg_depend d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
  UNION
  SELECT c.oid, lower(c.relname) FROM silent_views v
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' AND c.oid <> v.oid
)
SELECT 'f', name FROM functions UNION SELECT 'v', name FROM views
UNION SELECT 's', name FROM silent UNION SELECT 's', name FROM silent_views`
}

export const HAZARDS_QUERY = hazardsQuery(CALLS)

export function readHazards(rows: readonly (readonly [string, string])[]): Hazards {
  const functions = new Set<string>()
  const views = new Set<string>()
  const silent = new Set<string>()
  for (const [kind, name] of rows) (kind === 'f' ? functions : kind === 'v' ? views : silent).add(name)
  return { functions, views, silent }
}

/** The function or view that forbids running this statement even READ ONLY, or undefined. */
export function hazardOf(statement: Statement, hazards: Hazards): string | undefined {
  const called = statement.functions.find((name) => hazards.functions.has(name.toLowerCase()))
  if (called !== undefined) return called
  return statement.relations.find((name) => hazards.views.has((name.split('.').at(-1) ?? '').toLowerCase()))
}

/** The function or view of the statement whose refused write nobody would hear of, or undefined. */
export function silentIn({ functions, relations }: Statement, { silent }: Hazards): string | undefined {
  if (silent.size === 0) return undefined
  const named = functions.find((name) => silent.has(name.toLowerCase()))
  return named ?? relations.find((name) => silent.has((name.split('.').at(-1) ?? '').toLowerCase()))
}
