import { quoteText } from './tree.js'
import type { Trigger, Triggers } from './trigger.js'

/** One column, as the catalog describes it. */
export interface Column {
  readonly name: string
  readonly number: number
  /** With modifiers: `character varying(20)`. */
  readonly type: string
  /** Without: `character varying`. */
  readonly baseType: string
  readonly typmod: number
  readonly domain: boolean
  readonly notNull: boolean
  /** `a` always, `d` by default, empty for none. */
  readonly identity: '' | 'a' | 'd'
  /** `s` stored, `v` virtual, empty for none. */
  readonly generated: '' | 's' | 'v'
  readonly default: string | null
  /** The type's own default, as an expression. */
  readonly domainDefault: string | null
  /** Of a type that has parts: the type itself first, then all it is made of, by {@link PartType.key}. Null for other types. */
  readonly parts?: readonly PartType[] | null
}

/** A type with parts, or the type of a part. Keys are an oid and a type modifier. */
export interface PartType {
  readonly key: string
  readonly type: string
  readonly baseType: string
  readonly typmod: number
  /** Of a domain: the type below. */
  readonly below: string | null
  /** Of an array: the type of its elements, and what its text has between them. */
  readonly element: string | null
  readonly delimiter: string
  /** Of a composite. */
  readonly fields: readonly { name: string; key: string }[] | null
}

export interface UniqueIndex {
  readonly name: string
  readonly primary: boolean
  readonly constraint: string | null
  /** Key columns as written; expressions where {@link numbers} has 0. */
  readonly keys: readonly string[]
  readonly numbers: readonly number[]
  readonly predicate: string | null
  /** False for a deferrable constraint. */
  readonly immediate: boolean
  /** Of a deferrable constraint: it is INITIALLY DEFERRED. */
  readonly deferred?: boolean
  readonly nullsNotDistinct?: boolean
  /** WITHOUT OVERLAPS: keys conflict by the operators that {@link Table.exclusions} tells. */
  readonly exclusion?: boolean
  /** The current user may not read all of its columns. */
  readonly unreadable?: boolean
}

/** An exclusion constraint, or a key WITHOUT OVERLAPS. */
export interface Exclusion {
  readonly name: string
  /** As the index defines them: columns, or expressions. */
  readonly keys: readonly string[]
  /** For each key, with its schema: `OPERATOR(pg_catalog.&&)`. */
  readonly operators: readonly string[]
  /** Numbers of the key columns, 0 for an expression. */
  readonly numbers: readonly number[]
  readonly predicate: string | null
  readonly deferrable: boolean
  readonly deferred: boolean
  /** The column of WITHOUT OVERLAPS, which must not be empty. */
  readonly period: string | null
}

export interface ForeignKey {
  readonly name: string
  /** The referenced table, quoted where needed, and its oid. */
  readonly references: string
  readonly referencedOid: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
  readonly deferrable: boolean
  /** INITIALLY DEFERRED. */
  readonly deferred?: boolean
  /** Row security keeps rows of the other table from us, but not from the check. */
  readonly hidden?: boolean
  /** MATCH FULL: either all columns are NULL, or none. */
  readonly full?: boolean
  /** The last column is a PERIOD. */
  readonly period?: boolean
  /** Of the other table, unquoted. */
  readonly relation?: { readonly schema: string; readonly name: string }
  /** The other table is partitioned; of any other only its own rows count, not those of its child tables. */
  readonly partitioned?: boolean
  /** So do privileges. */
  readonly unreadable?: boolean
}

/** A foreign key of another table (or this one) that points here; action `c` cascades, `n` and `d` set null or default. */
export interface Reference {
  readonly oid: string
  readonly table: string
  readonly name: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
  readonly deferrable: boolean
  readonly deferred?: boolean
  readonly hidden?: boolean
  readonly period?: boolean
  readonly relation?: { readonly schema: string; readonly name: string }
  readonly partitioned?: boolean
  /** Defaults of the columns, as expressions. */
  readonly defaults?: readonly (string | null)[] | null
  /** SET NULL or SET DEFAULT are for some of the columns only. */
  readonly partly?: boolean
  readonly unreadable?: boolean
  readonly onDelete: string
  readonly onUpdate: string
}

/** A leaf of a partitioned table. */
export interface Leaf {
  readonly oid: string
  readonly name?: string
  /** The condition its rows meet. */
  readonly bound: string | null
  /** CHECK constraints that the partitioned table does not have. */
  readonly checks?: readonly { name: string; expression: string }[] | null
}

/** A rewrite rule; it fires only where {@link enabled}. */
export interface Rule {
  readonly name: string
  /** `2` UPDATE, `3` INSERT, `4` DELETE. */
  readonly event: string
  /** By `ALTER TABLE … ENABLE RULE` and the session's replication role. */
  readonly enabled: boolean
  /** The CREATE RULE command, in which every column is qualified. */
  readonly definition: string
}

/** A policy that applies to the current user. */
export interface Policy {
  readonly name: string
  /** `r` select, `a` insert, `w` update, `d` delete, `*` all. */
  readonly command: string
  readonly permissive: boolean
  readonly using: string | null
  readonly check: string | null
}

/** What the catalog knows of one table, enough to work out a write to it. */
export interface Table {
  readonly oid: string
  readonly kind: string
  readonly schema: string
  readonly name: string
  readonly rowSecurity: boolean
  readonly columns: readonly Column[] | null
  readonly indexes: readonly UniqueIndex[] | null
  readonly checks: readonly { name: string; expression: string }[] | null
  readonly foreignKeys: readonly ForeignKey[] | null
  readonly referencedBy: readonly Reference[] | null
  readonly triggers: readonly string[] | null
  readonly triggerTypes: readonly Trigger[] | null
  /** There are or were tables that inherit from it, or partitions. */
  readonly heirs?: boolean
  /** Undefined where they were not asked for. */
  readonly fires?: Triggers
  readonly rules: readonly string[] | null
  /** In the order in which they fire. */
  readonly ruleDefinitions?: readonly Rule[] | null
  /** Row security is in force for the current user. */
  readonly rowSecurityActive: boolean
  readonly policies: readonly Policy[] | null
  /** Of a partition: the condition its rows must meet. */
  readonly partitionBound: string | null
  /** Of a partitioned table: numbers of the columns of its key, 0 for an expression. */
  readonly partitionKeys?: readonly number[] | null
  /** Of a partitioned table: its leaves, at most {@link MAX_LEAVES} and one more. */
  readonly leaves: readonly Leaf[] | null
  /** Exclusion constraints, and keys WITHOUT OVERLAPS. */
  readonly exclusions?: readonly Exclusion[] | null
  /** Tables whose rows foreign keys may delete or change along, however far down. */
  readonly reached?: readonly { oid: string; triggers: boolean }[] | null
  /** SQLSTATE of a RESTRICT that forbids a write. */
  readonly restrictState?: string
  /** What no preview looks at: foreign keys into hidden rows, and what partitions have of their own. */
  readonly unchecked?: readonly string[] | null
  /** Columns the current user may not read, where the table as a whole is not readable; else null. */
  readonly unreadable?: readonly string[] | null
  /** Constraints that could not be looked at for want of privileges. */
  readonly unseen?: readonly string[]
  /** The rows before were read without some columns, or without their addresses. */
  readonly readInPart?: boolean
  /** Of a view: its query, and `local` or `cascaded` for WITH CHECK OPTION. */
  readonly view: string | null
  readonly checkOption: string | null
}

/** Partitions whose bounds are looked at. */
export const MAX_LEAVES = 200

const keyNames = (owner: string, numbers: string) =>
  `(SELECT json_agg(a.attname ORDER BY u.o) FROM unnest(k.${numbers}) WITH ORDINALITY u(k, o)
        JOIN pg_attribute a ON a.attrelid = k.${owner} AND a.attnum = u.k)`

/** The expression of a generated column, which may be another one in each leaf. */
const GENERATED_BY_LEAF = `(SELECT coalesce('CASE' || string_agg(format(' WHEN %s THEN %s', coalesce(pg_get_partition_constraintdef(l.relid), 'true'),
        pg_get_expr(f.adbin, f.adrelid)), '') || ' ELSE ' || pg_get_expr(d.adbin, d.adrelid) || ' END', pg_get_expr(d.adbin, d.adrelid))
      FROM pg_partition_tree(c.oid) l JOIN pg_attribute b ON b.attrelid = l.relid AND b.attname = a.attname
      JOIN pg_attrdef f ON f.adrelid = b.attrelid AND f.adnum = b.attnum
      WHERE l.isleaf AND b.attgenerated = 's' AND pg_get_expr(f.adbin, f.adrelid) <> pg_get_expr(d.adbin, d.adrelid))`

const CASCADES = `k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))`

const relationNamed = (owner: string) =>
  `(SELECT json_build_object('schema', s.nspname, 'name', f.relname) FROM pg_class f
        JOIN pg_namespace s ON s.oid = f.relnamespace WHERE f.oid = k.${owner})`
const closedKey = (owner: string, numbers: string) =>
  `EXISTS (SELECT FROM unnest(k.${numbers}) u(n) WHERE NOT has_column_privilege(k.${owner}, u.n, 'SELECT'))`

const IS_ARRAY = `t.typtype <> 'd' AND t.typlen = -1 AND t.typelem <> 0 AND t.typcategory = 'A'`
const ATTRIBUTES = `FROM pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped`

/** All that the type of the column `a` is made of. */
const PARTS = `WITH RECURSIVE part(typ, typmod) AS (
    SELECT a.atttypid, a.atttypmod
    UNION SELECT m.typ, m.typmod FROM part p JOIN pg_type t ON t.oid = p.typ CROSS JOIN LATERAL (
      SELECT t.typbasetype AS typ, t.typtypmod AS typmod WHERE t.typtype = 'd'
      UNION ALL SELECT t.typelem, p.typmod WHERE ${IS_ARRAY}
      UNION ALL SELECT f.atttypid, f.atttypmod ${ATTRIBUTES} AND t.typtype = 'c') m
  ) SELECT json_agg(json_build_object(
      'key', p.typ || ':' || p.typmod, 'type', format_type(p.typ, p.typmod),
      'baseType', format_type(p.typ, NULL), 'typmod', p.typmod,
      'below', CASE WHEN t.typtype = 'd' THEN t.typbasetype || ':' || t.typtypmod END,
      'element', CASE WHEN ${IS_ARRAY} THEN t.typelem || ':' || p.typmod END, 'delimiter', t.typdelim,
      'fields', CASE WHEN t.typtype = 'c' THEN (SELECT json_agg(json_build_object(
        'name', f.attname, 'key', f.atttypid || ':' || f.atttypmod) ORDER BY f.attnum) ${ATTRIBUTES}) END)
      ORDER BY (p.typ, p.typmod) = (a.atttypid, a.atttypmod) DESC)
    FROM part p JOIN pg_type t ON t.oid = p.typ`

/** The query whose only cell is a {@link Table} as JSON, for a relation as a statement names it (quoted where needed). */
export function tableQuery(relation: string): string {
  return `SELECT json_build_object(
  'oid', c.oid::text, 'kind', c.relkind, 'schema', n.nspname, 'name', c.relname, 'rowSecurity', c.relrowsecurity,
  'columns', (SELECT json_agg(json_build_object(
      'name', a.attname, 'number', a.attnum, 'type', format_type(a.atttypid, a.atttypmod),
      'baseType', format_type(a.atttypid, NULL), 'typmod', a.atttypmod, 'domain', t.typtype = 'd',
      'notNull', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
      'default', CASE WHEN c.relkind = 'p' AND a.attgenerated = 's' THEN ${GENERATED_BY_LEAF} ELSE pg_get_expr(d.adbin, d.adrelid) END, 'domainDefault', coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)),
      'parts', CASE WHEN t.typtype IN ('c', 'd') OR t.typcategory = 'A' THEN (${PARTS}) END) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', (SELECT json_agg(json_build_object(
      'name', x.relname, 'primary', i.indisprimary,
      'constraint', (SELECT k.conname FROM pg_constraint k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u') AND k.conrelid = c.oid LIMIT 1),
      'deferred', (SELECT k.condeferred FROM pg_constraint k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u') AND k.conrelid = c.oid LIMIT 1),
      'exclusion', i.indisexclusion,
      'keys', (SELECT json_agg(pg_get_indexdef(i.indexrelid, s.n, true) ORDER BY s.n)
        FROM generate_series(1, i.indnkeyatts) s(n)),
      'numbers', (i.indkey::int2[])[0:i.indnkeyatts - 1], 'predicate', pg_get_expr(i.indpred, i.indrelid),
      'immediate', i.indimmediate,
      'nullsNotDistinct', coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'true') ORDER BY i.indisprimary DESC, x.relname)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid),
  'exclusions', (SELECT json_agg(json_build_object(
      'name', k.conname, 'keys', (SELECT json_agg(pg_get_indexdef(i.indexrelid, s.n, true) ORDER BY s.n)
        FROM generate_series(1, i.indnkeyatts) s(n)),
      'operators', (SELECT json_agg(format('OPERATOR(%I.%s)', q.nspname, o.oprname) ORDER BY u.o)
        FROM unnest(k.conexclop) WITH ORDINALITY u(k, o) JOIN pg_operator o ON o.oid = u.k
        JOIN pg_namespace q ON q.oid = o.oprnamespace),
      'numbers', (i.indkey::int2[])[0:i.indnkeyatts - 1], 'predicate', pg_get_expr(i.indpred, i.indrelid),
      'deferrable', k.condeferrable, 'deferred', k.condeferred,
      'period', CASE WHEN k.contype <> 'x' THEN (SELECT a.attname FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = (i.indkey::int2[])[i.indnkeyatts - 1]) END) ORDER BY i.indexrelid)
    FROM pg_index i JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = c.oid AND i.indisexclusion AND i.indisvalid),
  'reached', (WITH RECURSIVE r(oid) AS (SELECT k.conrelid FROM pg_constraint k WHERE k.confrelid = c.oid AND ${CASCADES}
      UNION SELECT k.conrelid FROM r JOIN pg_constraint k ON k.confrelid = r.oid AND ${CASCADES})
    SELECT json_agg(json_build_object('oid', r.oid::text, 'triggers', EXISTS (SELECT FROM pg_trigger g
      WHERE g.tgrelid = r.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'))) FROM r),
  'restrictState', CASE WHEN current_setting('server_version_num')::int >= 180000 THEN '23001' ELSE '23503' END,
  'checks', (SELECT json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid)) ORDER BY k.conname)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'foreignKeys', (SELECT json_agg(json_build_object(
      'name', k.conname, 'references', k.confrelid::regclass::text, 'referencedOid', k.confrelid::text,
      'columns', ${keyNames('conrelid', 'conkey')}, 'referenced', ${keyNames('confrelid', 'confkey')},
      'deferrable', k.condeferrable, 'deferred', k.condeferred, 'hidden', row_security_active(k.confrelid),
      'full', k.confmatchtype = 'f', 'period', coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true',
      'relation', ${relationNamed('confrelid')},
      'partitioned', (SELECT f.relkind = 'p' FROM pg_class f WHERE f.oid = k.confrelid),
      'unreadable', ${closedKey('confrelid', 'confkey')}) ORDER BY k.oid)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
    AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'referencedBy', (SELECT json_agg(json_build_object(
      'oid', k.conrelid::text, 'table', k.conrelid::regclass::text, 'name', k.conname,
      'columns', ${keyNames('conrelid', 'conkey')}, 'referenced', ${keyNames('confrelid', 'confkey')},
      'deferrable', k.condeferrable, 'deferred', k.condeferred, 'hidden', row_security_active(k.conrelid),
      'period', coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true',
      'relation', ${relationNamed('conrelid')},
      'defaults', (SELECT json_agg(pg_get_expr(d.adbin, d.adrelid) ORDER BY u.o) FROM unnest(k.conkey) WITH ORDINALITY u(k, o)
        LEFT JOIN pg_attrdef d ON d.adrelid = k.conrelid AND d.adnum = u.k),
      'partly', to_jsonb(k) ->> 'confdelsetcols' IS NOT NULL,
      'partitioned', (SELECT f.relkind = 'p' FROM pg_class f WHERE f.oid = k.conrelid),
      'unreadable', ${closedKey('conrelid', 'conkey')},
      'onDelete', k.confdeltype, 'onUpdate', k.confupdtype) ORDER BY k.oid)
    FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f'
    AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.confrelid = k.confrelid)
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'triggers', (SELECT json_agg(g.tgname) FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'triggerTypes', (SELECT json_agg(json_build_object('name', g.tgname, 'type', g.tgtype)) FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'heirs', c.relhassubclass,
  'rules', (SELECT json_agg(r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
  'ruleDefinitions', (SELECT json_agg(json_build_object(
      'name', r.rulename, 'event', r.ev_type::text, 'definition', pg_get_ruledef(r.oid),
      'enabled', r.ev_enabled = 'A' OR r.ev_enabled =
        CASE WHEN current_setting('session_replication_role') = 'replica' THEN 'R' ELSE 'O' END) ORDER BY r.rulename)
    FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
  'rowSecurityActive', row_security_active(c.oid),
  'policies', CASE WHEN row_security_active(c.oid) THEN (SELECT json_agg(json_build_object(
      'name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive,
      'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname)
    FROM pg_policy p WHERE p.polrelid = c.oid AND EXISTS (SELECT FROM unnest(p.polroles) r(oid)
      WHERE r.oid = 0 OR pg_has_role(r.oid, 'MEMBER'))) END,
  'partitionBound', CASE WHEN c.relispartition THEN pg_get_partition_constraintdef(c.oid) END,
  'partitionKeys', (SELECT p.partattrs::int2[] FROM pg_partitioned_table p WHERE p.partrelid = c.oid),
  'leaves', CASE WHEN c.relkind = 'p' THEN (SELECT json_agg(json_build_object(
      'oid', l.relid::oid::text, 'name', (SELECT r.relname FROM pg_class r WHERE r.oid = l.relid),
      'bound', pg_get_partition_constraintdef(l.relid),
      'checks', (SELECT json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid)) ORDER BY k.conname)
        FROM pg_constraint k WHERE k.conrelid = l.relid AND k.contype = 'c'
        AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
        AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'c' AND p.conname = k.conname))))
    FROM (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf LIMIT ${MAX_LEAVES + 1}) l) END,
  'unchecked', (SELECT json_agg(DISTINCT u.name ORDER BY u.name) FROM (
    SELECT k.conname AS name FROM pg_constraint k WHERE k.contype = 'f'
      AND (k.conrelid = c.oid AND row_security_active(k.confrelid) OR k.confrelid = c.oid AND row_security_active(k.conrelid))
    UNION ALL
    SELECT k.conname FROM pg_partition_tree(c.oid) l JOIN pg_constraint k ON k.conrelid = l.relid
      WHERE c.relkind = 'p' AND l.level > 0 AND k.conparentid = 0 AND k.coninhcount = 0
      AND (k.contype IN ('p', 'u', 'x', 'f', 'n') OR k.contype = 'c' AND NOT l.isleaf)
    UNION ALL
    SELECT g.tgname FROM pg_partition_tree(c.oid) l JOIN pg_trigger g ON g.tgrelid = l.relid
      WHERE c.relkind = 'p' AND l.level > 0 AND NOT g.tgisinternal AND g.tgparentid = 0) u),
  'unreadable', CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN (SELECT coalesce(json_agg(a.attname), '[]')
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')) END,
  'view', CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END,
  'checkOption', (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'check_option'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ${quoteText(relation)}::regclass`
}

/** Reads the cell of {@link tableQuery}. */
export function readTable(json: string): Table {
  return JSON.parse(json) as Table
}

/** `schema.table`, unquoted. */
export function tableName(table: Table): string {
  return `${table.schema}.${table.name}`
}

/** The primary key's columns, empty when there is none. */
export function keyColumns(table: Table): readonly Column[] {
  const primary = table.indexes?.find((index) => index.primary)
  return primary === undefined ? [] : indexColumns(table, primary)
}

/** The columns of a unique index without expressions. */
export function indexColumns(table: Table, index: UniqueIndex): readonly Column[] {
  return index.numbers.flatMap((number) => table.columns?.find((column) => column.number === number) ?? [])
}
