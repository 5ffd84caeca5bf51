import type { DeleteStmt, InsertStmt, MergeStmt, Node, SelectStmt, UpdateStmt, WithClause } from '@pgsql/types'
import type { Table } from './catalog.js'
import { classify } from './classify.js'
import { deparse, parseOne } from './grammar.js'
import { neutralise } from './neutralise.js'
import { previewInsert } from './preview-insert.js'
import { previewMerge } from './preview-merge.js'
import { type PreviewOptions, PreviewUnsupported } from './preview-parts.js'
import { returningNames } from './preview-returning.js'
import { previewDelete, previewUpdate } from './preview-update.js'
import type { RewriteResult } from './rewrite-result.js'
import { contains, copyOf, quoteName, tagOf } from './tree.js'

export { type PreviewOptions, PreviewUnsupported, RaisedByTrigger } from './preview-parts.js'

/** Number of columns before the RETURNING columns: operation, old row, new row, violations, id of the old row. */
export const LEADING_COLUMNS = 5

/** The rows one data-modifying part of a statement would change. */
export interface PreviewPart {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | 'MERGE'
  readonly table: Table
  /** SELECT with exactly the leading columns. */
  readonly sql: string
  /** A trigger writes it, row by row. */
  readonly byTrigger?: boolean
}

/**
 * A write as a read-only SELECT with the same parameters. Its rows have the
 * {@link LEADING_COLUMNS}, `op__` (`i`, `u`, `d`), `old__` and `new__` (whole
 * rows as text arrays in column order), `viol__`, and `id__` (`tableoid:ctid` of
 * the old row), then the RETURNING columns. A SELECT over data-modifying WITH has only its own columns.
 */
export interface PreviewQuery {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | 'MERGE' | 'SELECT'
  /** Null for a SELECT over data-modifying WITH. */
  readonly table: Table | null
  readonly returning: number | null
  readonly upsert: boolean
  readonly sql: string
  /** Data-modifying WITH parts, each to be read on its own. */
  readonly parts: readonly PreviewPart[]
  readonly syntheticIds: readonly string[]
  /** What the preview does not see, one sentence each. */
  readonly notes: readonly string[]
}

/**
 * Rewrites INSERT, UPDATE, DELETE, MERGE, and SELECT over data-modifying WITH.
 * @throws PreviewUnsupported where the rewrite would not hold.
 */
export async function previewOf(text: string, options: PreviewOptions): Promise<PreviewQuery> {
  // Parsed anew for each call, because the rewrite changes the tree.
  const node = parseOne(text)
  const neutralised = neutralise(node, () => options.syntheticIds(1)[0] ?? 'NULL')
  const query = await rewrite(node, { ...options, names: { taken: 0 } })
  verify(query.sql)
  for (const part of query.parts) verify(part.sql)
  const tables = [query.table, ...query.parts.map((part) => part.table)].filter((table) => table !== null)
  return {
    ...query,
    syntheticIds: [...neutralised.syntheticIds, ...query.syntheticIds],
    notes: [...neutralised.notes, ...new Set([...query.notes, ...tables.flatMap((table) => blindSpots(table))])],
  }
}

/** The last word on a rewrite is PostgreSQL's own grammar: it must be one statement that reads. */
function verify(sql: string): void {
  const statements = classify(sql)
  const [only] = statements
  if (only === undefined || statements.length !== 1 || (only.kind !== 'read' && only.kind !== 'unsure')) {
    const what = only?.denied.length ? `it calls ${only.denied.join(', ')}` : (only?.error ?? `it is a ${only?.kind}`)
    throw new PreviewUnsupported(`the rewrite does not hold: ${what}`)
  }
}

type Rewritten = PreviewQuery

async function rewrite(node: Node, options: PreviewOptions): Promise<Rewritten> {
  const statement = Object.values(node)[0] as { withClause?: WithClause }
  const modifying = statement.withClause !== undefined && modifies(statement.withClause)
  if ('SelectStmt' in node) {
    if (!modifying) throw new PreviewUnsupported('the statement writes nothing itself')
    const { prefix, parts, syntheticIds, notes } = await rewriteWith(statement.withClause as WithClause, options)
    const main: SelectStmt = { ...node.SelectStmt, withClause: undefined }
    const sql = prefix + deparse({ SelectStmt: main })
    return { operation: 'SELECT', table: null, returning: null, upsert: false, sql, parts, syntheticIds, notes }
  }
  if (!modifying) return plain(await rewriteWrite(node, options))
  const { prefix, parts, syntheticIds, notes } = await rewriteWith(statement.withClause as WithClause, options)
  statement.withClause = undefined
  const main = plain(await rewriteWrite(node, { ...options, countRows: undefined }))
  return {
    ...main,
    sql: prefix + main.sql,
    parts: [...parts, ...main.parts.map((part) => ({ ...part, sql: prefix + part.sql }))],
    syntheticIds: [...syntheticIds, ...main.syntheticIds],
    notes: [...notes, ...main.notes],
  }
}

function plain(result: RewriteResult): Rewritten {
  const { operation, table, returning, upsert = false, sql, syntheticIds, notes = [], effects = [] } = result
  const parts = effects.map((effect) => ({ ...effect, byTrigger: true }))
  return { operation, table, returning, upsert, sql, syntheticIds, notes, parts }
}

async function rewriteWrite(node: Node, outer: PreviewOptions): Promise<RewriteResult> {
  const options = { ...outer, rewrite: rewriteWrite }
  if ('UpdateStmt' in node) return await previewUpdate(node.UpdateStmt as UpdateStmt, options)
  if ('DeleteStmt' in node) return await previewDelete(node.DeleteStmt as DeleteStmt, options)
  if ('InsertStmt' in node) return await previewInsert(node.InsertStmt as InsertStmt, options)
  if ('MergeStmt' in node) return await previewMerge(node.MergeStmt as MergeStmt, options)
  throw new PreviewUnsupported(tagOf(node).replace(/Stmt$/, ''))
}

function modifies(clause: WithClause): boolean {
  return contains(clause, 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt')
}

/**
 * Each data-modifying part `x` becomes `x__f`, its preview, and `x`, its
 * RETURNING columns under their own names. Constraint checks across parts would
 * be wrong (a row deleted in one may be inserted in another), so only the
 * callers of the parts judge them.
 */
async function rewriteWith(
  clause: WithClause,
  options: PreviewOptions,
): Promise<{ prefix: string; parts: PreviewPart[]; syntheticIds: string[]; notes: string[] }> {
  const notes: string[] = []
  const texts: string[] = []
  const found: { operation: PreviewPart['operation']; table: Table; from: string }[] = []
  const syntheticIds: string[] = []
  for (const item of clause.ctes ?? []) {
    if (!('CommonTableExpr' in item)) throw new PreviewUnsupported('WITH')
    const { ctename = '', aliascolnames, ctequery, ctematerialized } = item.CommonTableExpr
    if (ctequery === undefined) throw new PreviewUnsupported('WITH')
    const aliases = aliascolnames?.map((alias) => quoteName('String' in alias ? (alias.String.sval ?? '') : ''))
    const name = quoteName(ctename) + (aliases?.length ? `(${aliases.join(', ')})` : '')
    if ('SelectStmt' in ctequery) {
      if (contains(ctequery, 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'))
        throw new PreviewUnsupported('nested WITH')
      const materialized = ctematerialized === 'CTEMaterializeAlways' ? 'MATERIALIZED ' : ''
      texts.push(`${name} AS ${materialized}(${deparse(ctequery)})`)
      continue
    }
    const original = copyOf(ctequery)
    const part = await rewriteWrite(ctequery, { ...options, countRows: undefined })
    const names = part.returning === null ? [] : returningNames(Object.values(original)[0] as never, part.target)
    if (part.returning !== null && names.length !== part.returning) throw new PreviewUnsupported('RETURNING in WITH')
    const full = quoteName(`${ctename}__f`)
    const columns = ['op__', 'old__', 'new__', 'viol__', 'id__', ...names.map((_, index) => `r${index}`)]
    texts.push(`${full}(${columns.join(', ')}) AS MATERIALIZED (${part.sql})`)
    if (part.returning !== null) {
      const list = names.map((column, index) => `r${index} AS ${quoteName(column)}`)
      texts.push(`${name} AS (SELECT ${list.join(', ')} FROM ${full})`)
    }
    syntheticIds.push(...part.syntheticIds)
    notes.push(...(part.notes ?? []))
    if (part.effects?.length) notes.push(`what triggers of ${part.table.name} write was not worked out`)
    found.push({ operation: part.operation, table: part.table, from: full })
  }
  const prefix = `WITH ${clause.recursive ? 'RECURSIVE ' : ''}${texts.join(', ')} `
  const parts = found.map(({ operation, table, from }) => ({
    operation,
    table,
    sql: `${prefix}SELECT op__, old__, new__, viol__, id__ FROM ${from}`,
  }))
  return { prefix, parts, syntheticIds, notes }
}

function blindSpots(table: Table): string[] {
  const notes: string[] = []
  if (table.triggers !== null) notes.push(`triggers of ${table.name} were not run: ${table.triggers.join(', ')}`)
  if (table.unchecked?.length) notes.push(`not looked at on ${table.name}: ${table.unchecked.join(', ')}`)
  if (table.rowSecurityActive) notes.push(`row security of ${table.name} was applied by its policies' text`)
  return notes
}
