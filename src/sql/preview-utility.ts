import type { Node, RangeVar, SelectStmt, TruncateStmt } from '@pgsql/types'
import { describeDefinition } from './definitions.js'
import { deparse, parseOne } from './grammar.js'
import { neutralise } from './neutralise.js'
import { PreviewUnsupported } from './preview-parts.js'
import { copyOf, quoteName, quoteText } from './tree.js'

/** What a statement that is no row-by-row write would do. */
export interface UtilityPreview {
  /** Command tag of the real execution, with its count; undefined when the statement's own words are all of it. */
  readonly tag: string | undefined
  /** Records it would delete or create. */
  readonly rows: number
  readonly notes: readonly string[]
  /** Other tables it would empty. */
  readonly cascades: readonly { readonly table: string; readonly rows: number }[]
  /** Tables it would leave without rows; undefined where that is not certain. */
  readonly empties?: readonly string[] | undefined
}

export interface UtilityReader {
  /** Rows of a read-only query of ours, as texts. */
  rows(text: string): Promise<(string | null)[][]>
  /** Rows of a query with the statement's own parameters, within the bounds of a preview. */
  count(text: string): Promise<number>
  /** Tables with more rows than this, by the server's own estimate, are not counted. */
  readonly maxRows: number
}

/**
 * TRUNCATE, CREATE TABLE AS, SELECT INTO and other definitions, worked out by
 * counting and from the catalog. Undefined for what is none of these.
 * @throws PreviewUnsupported, or the server's error.
 */
export async function previewUtility(text: string, reader: UtilityReader): Promise<UtilityPreview | undefined> {
  const node = parseOne(text)
  if ('TruncateStmt' in node) return await previewTruncate(node.TruncateStmt as TruncateStmt, reader)
  if ('CreateTableAsStmt' in node) {
    const { query, into, if_not_exists: lenient, objtype } = node.CreateTableAsStmt
    if (query === undefined || !('SelectStmt' in query)) return undefined
    const kind = objtype === 'OBJECT_MATVIEW' ? 'CREATE MATERIALIZED VIEW' : 'CREATE TABLE AS'
    return await previewCreateAs(query.SelectStmt, into?.rel, { kind, lenient, empty: into?.skipData === true }, reader)
  }
  if ('SelectStmt' in node) {
    const select = copyOf(node.SelectStmt)
    const into = takeInto(select)
    return into === undefined ? undefined : await previewCreateAs(select, into, { kind: 'SELECT INTO' }, reader)
  }
  const notes = await describeDefinition(node, (query) => reader.rows(query))
  return notes === undefined ? undefined : { tag: undefined, rows: 0, notes, cascades: [] }
}

/** Takes INTO out of the leftmost SELECT, where the grammar puts it. */
function takeInto(select: SelectStmt): RangeVar | undefined {
  if (select.intoClause !== undefined) {
    const { rel } = select.intoClause
    delete select.intoClause
    return rel
  }
  return select.larg === undefined ? undefined : takeInto(select.larg)
}

async function previewCreateAs(
  select: SelectStmt,
  relation: RangeVar | undefined,
  how: { kind: string; lenient?: boolean | undefined; empty?: boolean },
  reader: UtilityReader,
): Promise<UtilityPreview> {
  const name = nameOf(relation)
  const notes: string[] = []
  const [found] = await reader.rows(`SELECT to_regclass(${quoteText(name)}) IS NOT NULL`)
  if (found?.[0] === 't' || found?.[0] === 'true') {
    if (how.lenient) return { tag: how.kind, rows: 0, notes: [`${name} is there already`], cascades: [] }
    notes.push(`would fail as the data is now (predicted): 42P07 relation ${name} already exists`)
  }
  if (how.empty) return { tag: how.kind, rows: 0, notes: [...notes, `would create ${name}, empty`], cascades: [] }
  const query: Node = { SelectStmt: copyOf(select) }
  const neutralised = neutralise(query, () => '0')
  const rows = await reader.count(`SELECT count(*) FROM (${deparse(query)}) q__`)
  notes.push(...neutralised.notes, `would create ${name} with ${rows} ${rows === 1 ? 'row' : 'rows'}`)
  return { tag: `SELECT ${rows}`, rows, notes, cascades: [] }
}

function nameOf(relation: RangeVar | undefined): string {
  if (relation?.relname === undefined) throw new PreviewUnsupported('the statement names no table')
  const schema = relation.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  return schema + quoteName(relation.relname)
}

/** Rows per table: oid, name, estimated rows, whether it was named. */
function truncatedTables(names: readonly string[]): string {
  return `WITH RECURSIVE hit AS (
  SELECT n.name::regclass::oid AS oid, true AS named FROM unnest(ARRAY[${names.map(quoteText).join(', ')}]::text[]) n(name)
  UNION
  SELECT k.conrelid, false FROM hit h JOIN pg_constraint k ON k.confrelid = h.oid AND k.contype = 'f' AND k.conparentid = 0
)
SELECT h.oid::regclass::text, greatest(c.reltuples, 0)::bigint::text, bool_or(h.named)::text,
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = h.oid AND NOT t.tgisinternal AND (t.tgtype & 32) <> 0)::text
FROM hit h JOIN pg_class c ON c.oid = h.oid GROUP BY h.oid, c.reltuples ORDER BY bool_or(h.named) DESC, 1`
}

async function previewTruncate(statement: TruncateStmt, reader: UtilityReader): Promise<UtilityPreview> {
  const relations = (statement.relations ?? []).flatMap((item) => ('RangeVar' in item ? [item.RangeVar] : []))
  const only = new Set(relations.filter((relation) => !relation.inh).map(nameOf))
  const tables = await reader.rows(truncatedTables(relations.map(nameOf)))
  const cascade = statement.behavior === 'DROP_CASCADE'
  const notes: string[] = []
  const cascades: { table: string; rows: number }[] = []
  const empties: string[] = []
  let certain = true
  let total = 0
  for (const [table, estimate, named, triggers] of tables) {
    if (!table) continue
    if (named !== 'true' && !cascade) {
      certain = false
      notes.push(
        `would fail as the data is now (predicted): 0A000 ${table} has a foreign key to a truncated table, and there is no CASCADE`,
      )
      continue
    }
    const large = Number(estimate) > reader.maxRows
    const rows = large
      ? Number(estimate)
      : await reader.count(`SELECT count(*) FROM ${only.has(table) ? 'ONLY ' : ''}${table}`)
    total += rows
    empties.push(table)
    notes.push(`would delete ${large ? 'about ' : ''}${rows} ${rows === 1 ? 'row' : 'rows'} of ${table}`)
    if (named !== 'true') cascades.push({ table, rows })
    if (triggers === 'true') notes.push(`triggers of ${table} on TRUNCATE were not run`)
  }
  if (statement.restart_seqs) notes.push('would restart the sequences of the tables')
  return { tag: 'TRUNCATE TABLE', rows: total, notes, cascades, empties: certain ? empties : undefined }
}
