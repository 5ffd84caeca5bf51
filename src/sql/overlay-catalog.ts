import type { RangeVar } from '@pgsql/types'
import { quoteName, quoteText } from './tree.js'

/** A touched table, as the connection that reads it sees it now. */
export interface VisibleTable {
  readonly schema: string
  readonly name: string
  readonly rowSecurity: boolean
  /** Child tables by inheritance (not partitions), whose rows a read of this table would include. */
  readonly inherited: boolean
  /** Types as this connection's search_path spells them; `collation` where it is not the type's own. */
  readonly columns: readonly {
    readonly name: string
    readonly type: string
    readonly collation: string | null
    readonly comparable: boolean
  }[]
}

/** What one relation a statement names is to the overlay. */
export interface ResolvedRelation {
  /** As in {@link relationKey}. */
  readonly name: string
  readonly oid: string | null
  /** Names of touched tables it reads without naming them: through a view, a partition or inheritance. */
  readonly through: readonly string[]
  readonly table: VisibleTable | null
}

export interface Resolution {
  readonly relations: readonly ResolvedRelation[]
  /** Called functions whose source names a touched table. */
  readonly functions: readonly string[]
}

/** The relation as the server resolves it: quoted, without the alias. */
export function relationKey(relation: RangeVar): string {
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  return schema + quoteName(relation.relname ?? '')
}

function textArray(items: readonly string[]): string {
  return `ARRAY[${items.map(quoteText).join(', ')}]::text[]`
}

/** The query whose only cell is a {@link Resolution} as JSON. */
export function resolutionQuery(
  relations: readonly string[],
  functions: readonly string[],
  touched: readonly string[],
): string {
  const oids = `ARRAY[${touched.map(quoteText).join(', ')}]::oid[]`
  const sources = functions.length === 0 ? "'[]'::json" : functionsNaming(functions)
  // Going up to a parent and down again would end at partitions whose rows are none of ours: so one way only.
  return `WITH RECURSIVE touched AS (
  SELECT c.oid, c.relname, c.relnamespace, c.relkind FROM pg_class c WHERE c.oid = ANY (${oids})
), named AS (
  SELECT n.name, to_regclass(n.name)::oid AS oid FROM unnest(${textArray(relations)}) n(name)
), reach AS (
  SELECT n.oid AS start, n.oid, 'any'::text AS way FROM named n WHERE n.oid IS NOT NULL
  UNION
  SELECT r.start, e.oid, e.way FROM reach r CROSS JOIN LATERAL (
    SELECT d.refobjid, 'any'::text FROM pg_class v JOIN pg_rewrite w ON w.ev_class = v.oid
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
      WHERE v.oid = r.oid AND v.relkind = 'v' AND r.way = 'any' AND d.refobjid <> v.oid
    UNION ALL
    SELECT i.inhrelid, 'down' FROM pg_inherits i WHERE i.inhparent = r.oid AND r.way <> 'up'
    UNION ALL
    SELECT i.inhparent, 'up' FROM pg_inherits i WHERE i.inhrelid = r.oid AND r.way <> 'down'
  ) e(oid, way)
)
SELECT json_build_object(
  'relations', coalesce((SELECT json_agg(json_build_object(
    'name', n.name, 'oid', n.oid::text,
    'through', coalesce((SELECT json_agg(DISTINCT t.relname) FROM reach r JOIN touched t ON t.oid = r.oid
      WHERE r.start = n.oid AND t.oid <> n.oid), '[]'),
    'table', (SELECT json_build_object(
      'schema', s.nspname, 'name', t.relname, 'rowSecurity', row_security_active(t.oid),
      'inherited', t.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = t.oid),
      'columns', (SELECT json_agg(json_build_object(
          'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
          'collation', CASE WHEN a.attcollation <> y.typcollation
            THEN (SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname) FROM pg_collation co
              JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
          'comparable', a.atttypid NOT IN ('json'::regtype, 'xml'::regtype, 'point'::regtype)) ORDER BY a.attnum)
        FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
        WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped))
      FROM touched t JOIN pg_namespace s ON s.oid = t.relnamespace WHERE t.oid = n.oid)))
    FROM named n), '[]'),
  'functions', ${sources})`
}

function functionsNaming(functions: readonly string[]): string {
  return `coalesce((SELECT json_agg(DISTINCT p.proname) FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
    WHERE lower(p.proname) = ANY (${textArray(functions)}) AND p.prokind IN ('f', 'p')
      AND s.nspname NOT IN ('pg_catalog', 'information_schema')
      AND EXISTS (SELECT FROM touched t WHERE position(lower(t.relname) IN
        lower(CASE WHEN p.prosrc = '' THEN pg_get_functiondef(p.oid) ELSE p.prosrc END)) > 0)), '[]')`
}

/** Rows of one oid: what a write to one of these relations may reach through rules and views, themselves included. */
export function reachedQuery(oids: readonly string[]): string {
  return `WITH RECURSIVE reached(oid) AS (
  SELECT unnest(${textArray(oids)}::oid[])
  UNION
  SELECT d.refobjid FROM reached r JOIN pg_rewrite w ON w.ev_class = r.oid
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
) SELECT oid::text FROM reached`
}

/** Reads the cell of {@link resolutionQuery}. */
export function readResolution(json: string): Resolution {
  return JSON.parse(json) as Resolution
}
