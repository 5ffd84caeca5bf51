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
  /** Type of an array's elements, null for other types. */
  readonly element?: string | null
  /** Attributes of a composite type, null for other types. */
  readonly fields?: readonly { name: string; type: string }[] | null
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
  readonly nullsNotDistinct?: boolean
}

export interface ForeignKey {
  readonly name: string
  /** The referenced table, quoted where needed, and its oid. */
  readonly references: string
  readonly referencedOid: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
  readonly deferrable: boolean
  /** Row security keeps rows of the other table from us, but not from the check. */
  readonly hidden?: boolean
}

/** A foreign key of another table (or this one) that points here; action `c` cascades, `n` and `d` set null or default. */
export interface Reference {
  readonly oid: string
  readonly table: string
  readonly name: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
  readonly deferrable: boolean
  readonly hidden?: boolean
  readonly onDelete: string
  readonly onUpdate: string
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
  /** The commands rules are for: `2` UPDATE, `3` INSERT, `4` DELETE, without repeats. */
  readonly ruleEvents?: readonly string[] | null
  /** Row security is in force for the current user. */
  readonly rowSecurityActive: boolean
  readonly policies: readonly Policy[] | null
  /** Of a partition: the condition its rows must meet. */
  readonly partitionBound: string | null
  /** Of a partitioned table: its leaves, at most {@link MAX_LEAVES} and one more. */
  readonly leaves: readonly { oid: string; bound: string | null }[] | null
  /** Constraints no preview looks at: exclusion, WITHOUT OVERLAPS and PERIOD, and what partitions have of their own. */
  readonly unchecked?: readonly string[] | null
  /** Of a view: its query, and `local` or `cascaded` for WITH CHECK OPTION. */
  readonly view: string | null
  readonly checkOption: string | null
}

/** Partitions whose bounds are looked at. */
export const MAX_LEAVES = 200

const keyNames = (owner: string, numbers: string) =>
  `(SELECT json_agg(a.attname ORDER BY u.o) FROM unnest(k.${numbers}) WITH ORDINALITY u(k, o)
        JOIN pg_attribute a ON a.attrelid = k.${owner} AND a.attnum = u.k)`

/** The query whose only cell is a {@link Table} as JSON, for a relation as a statement names it (quoted where needed). */
export function tableQuery(relation: string): string {
  return `SELECT json_build_object(
  'oid', c.oid::text, 'kind', c.relkind, 'schema', n.nspname, 'name', c.relname, 'rowSecurity', c.relrowsecurity,
  'columns', (SELECT json_agg(json_build_object(
      'name', a.attname, 'number', a.attnum, 'type', format_type(a.atttypid, a.atttypmod),
      'baseType', format_type(a.atttypid, NULL), 'typmod', a.atttypmod, 'domain', t.typtype = 'd',
      'notNull', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
      'default', pg_get_expr(d.adbin, d.adrelid), 'domainDefault', coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)),
      'element', CASE WHEN t.typlen = -1 AND t.typelem <> 0 AND t.typcategory = 'A' THEN format_type(t.typelem, a.atttypmod) END,
      'fields', CASE WHEN t.typtype = 'c' THEN (SELECT json_agg(json_build_object(
          'name', f.attname, 'type', format_type(f.atttypid, f.atttypmod)) ORDER BY f.attnum)
        FROM pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) END) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', (SELECT json_agg(json_build_object(
      'name', x.relname, 'primary', i.indisprimary,
      'constraint', (SELECT k.conname FROM pg_constraint k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u') AND k.conrelid = c.oid LIMIT 1),
      'keys', (SELECT json_agg(pg_get_indexdef(i.indexrelid, s.n, true) ORDER BY s.n)
        FROM generate_series(1, i.indnkeyatts) s(n)),
      'numbers', (i.indkey::int2[])[0:i.indnkeyatts - 1], 'predicate', pg_get_expr(i.indpred, i.indrelid),
      'immediate', i.indimmediate,
      'nullsNotDistinct', coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'true') ORDER BY i.indisprimary DESC, x.relname)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid),
  'checks', (SELECT json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid)) ORDER BY k.conname)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'foreignKeys', (SELECT json_agg(json_build_object(
      'name', k.conname, 'references', k.confrelid::regclass::text, 'referencedOid', k.confrelid::text,
      'columns', ${keyNames('conrelid', 'conkey')}, 'referenced', ${keyNames('confrelid', 'confkey')},
      'deferrable', k.condeferrable, 'hidden', row_security_active(k.confrelid)))
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
    AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
    AND coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'false'),
  'referencedBy', (SELECT json_agg(json_build_object(
      'oid', k.conrelid::text, 'table', k.conrelid::regclass::text, 'name', k.conname,
      'columns', ${keyNames('conrelid', 'conkey')}, 'referenced', ${keyNames('confrelid', 'confkey')},
      'deferrable', k.condeferrable, 'hidden', row_security_active(k.conrelid), 'onDelete', k.confdeltype, 'onUpdate', k.confupdtype))
    FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'triggers', (SELECT json_agg(g.tgname) FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'triggerTypes', (SELECT json_agg(json_build_object('name', g.tgname, 'type', g.tgtype)) FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'heirs', c.relhassubclass,
  'rules', (SELECT json_agg(r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
  'ruleEvents', (SELECT json_agg(DISTINCT r.ev_type::text) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
  'rowSecurityActive', row_security_active(c.oid),
  'policies', CASE WHEN row_security_active(c.oid) THEN (SELECT json_agg(json_build_object(
      'name', p.polname, 'command', p.polcmd, 'permissive', p.polpermissive,
      'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname)
    FROM pg_policy p WHERE p.polrelid = c.oid AND EXISTS (SELECT FROM unnest(p.polroles) r(oid)
      WHERE r.oid = 0 OR pg_has_role(r.oid, 'MEMBER'))) END,
  'partitionBound', CASE WHEN c.relispartition THEN pg_get_partition_constraintdef(c.oid) END,
  'leaves', CASE WHEN c.relkind = 'p' THEN (SELECT json_agg(json_build_object(
      'oid', l.relid::oid::text, 'bound', pg_get_partition_constraintdef(l.relid)))
    FROM (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf LIMIT ${MAX_LEAVES + 1}) l) END,
  'unchecked', (SELECT json_agg(DISTINCT u.name ORDER BY u.name) FROM (
    SELECT k.conname AS name FROM pg_constraint k WHERE c.oid IN (k.conrelid, k.confrelid)
      AND (k.contype = 'x' OR coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true')
    UNION ALL
    SELECT k.conname FROM pg_partition_tree(c.oid) l JOIN pg_constraint k ON k.conrelid = l.relid
      WHERE c.relkind = 'p' AND l.level > 0 AND k.contype = 'c' AND k.coninhcount = 0
    UNION ALL
    SELECT g.tgname FROM pg_partition_tree(c.oid) l JOIN pg_trigger g ON g.tgrelid = l.relid
      WHERE c.relkind = 'p' AND l.level > 0 AND NOT g.tgisinternal AND g.tgparentid = 0) u),
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
