import type { Table } from './catalog.js'
import type { Triggers } from './trigger.js'

/** True when {@link triggersQuery} would tell anything. */
export function mayHaveTriggers({ triggerTypes, heirs }: Table): boolean {
  return triggerTypes !== null || heirs === true
}

/** Of a trigger `g` with its function `f` and the language `j`. */
const TRIGGER = `'name', g.tgname, 'type', g.tgtype, 'definition', pg_get_triggerdef(g.oid),
      'clone', g.tgparentid <> 0, 'deferred', g.tginitdeferred, 'calls', f.proname,
      'body', CASE WHEN j.lanname = 'plpgsql' THEN pg_get_functiondef(f.oid) END,
      'owner', f.prosecdef, 'settings', f.proconfig`

const FUNCTION = 'JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_language j ON j.oid = f.prolang'
const ELSEWHERE = `coalesce(json_agg(json_build_object(${TRIGGER}, 'leaf', g.tgrelid::text)), '[]')`
const FIRES = `NOT g.tgisinternal AND g.tgenabled IN ('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END)`

/** The query whose only cell is {@link Triggers} as JSON. */
export function triggersQuery({ oid, kind, heirs }: Table): string {
  const leaves = `SELECT ${ELSEWHERE} FROM pg_partition_tree(${oid}) l JOIN pg_trigger g ON g.tgrelid = l.relid ${FUNCTION}
    WHERE l.isleaf AND l.level > 0 AND NOT g.tgisinternal AND NOT EXISTS (SELECT FROM pg_trigger o
      WHERE o.tgrelid = ${oid} AND o.tgname = g.tgname AND o.tgfoid = g.tgfoid AND o.tgenabled = g.tgenabled)`
  const inheriting = `WITH RECURSIVE heirs AS (SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = ${oid}
      UNION SELECT h.inhrelid FROM pg_inherits h JOIN heirs e ON e.inhrelid = h.inhparent)
    SELECT ${ELSEWHERE} FROM heirs l JOIN pg_trigger g ON g.tgrelid = l.inhrelid ${FUNCTION} WHERE ${FIRES}`
  const elsewhere = kind === 'p' ? `(${leaves})` : kind === 'r' && heirs ? `(${inheriting})` : 'NULL::json'
  return `SELECT json_build_object('own', (SELECT coalesce(json_agg(json_build_object(${TRIGGER})), '[]')
    FROM pg_trigger g ${FUNCTION} WHERE g.tgrelid = ${oid} AND ${FIRES}), 'elsewhere', ${elsewhere})`
}

/** The table with its triggers, as {@link triggersQuery} found them. */
export function withTriggers(table: Table, json: string): Table {
  return { ...table, fires: JSON.parse(json) as Triggers }
}
