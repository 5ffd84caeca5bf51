import { quoteText } from './tree.js'

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
  readonly domainDefault: string | null
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
  readonly foreignKeys: readonly { name: string; references: string; columns: string[]; referenced: string[] }[] | null
  /** Tables whose foreign keys point here; action `c` cascades, `n` and `d` set null or default. */
  readonly referencedBy: readonly { oid: string; table: string; onDelete: string; onUpdate: string }[] | null
  readonly triggers: readonly string[] | null
  readonly rules: readonly string[] | null
}

/** The query whose only cell is a {@link Table} as JSON, for a relation as a statement names it (quoted where needed). */
export function tableQuery(relation: string): string {
  return `SELECT json_build_object(
  'oid', c.oid::text, 'kind', c.relkind, 'schema', n.nspname, 'name', c.relname, 'rowSecurity', c.relrowsecurity,
  'columns', (SELECT json_agg(json_build_object(
      'name', a.attname, 'number', a.attnum, 'type', format_type(a.atttypid, a.atttypmod),
      'baseType', format_type(a.atttypid, NULL), 'typmod', a.atttypmod, 'domain', t.typtype = 'd',
      'notNull', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
      'default', pg_get_expr(d.adbin, d.adrelid), 'domainDefault', t.typdefault) ORDER BY a.attnum)
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
      'immediate', i.indimmediate) ORDER BY i.indisprimary DESC, x.relname)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid),
  'checks', (SELECT json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid)) ORDER BY k.conname)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
    AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'),
  'foreignKeys', (SELECT json_agg(json_build_object(
      'name', k.conname, 'references', k.confrelid::regclass::text,
      'columns', (SELECT json_agg(a.attname ORDER BY u.o) FROM unnest(k.conkey) WITH ORDINALITY u(k, o)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.k),
      'referenced', (SELECT json_agg(a.attname ORDER BY u.o) FROM unnest(k.confkey) WITH ORDINALITY u(k, o)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.k)))
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'),
  'referencedBy', (SELECT json_agg(json_build_object(
      'oid', k.conrelid::text, 'table', k.conrelid::regclass::text, 'onDelete', k.confdeltype, 'onUpdate', k.confupdtype))
    FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f'),
  'triggers', (SELECT json_agg(g.tgname) FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'),
  'rules', (SELECT json_agg(r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'))
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
