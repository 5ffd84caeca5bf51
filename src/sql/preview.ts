import type { DeleteStmt, InsertStmt, MergeStmt, Node, SelectStmt, UpdateStmt, WithClause } from '@pgsql/types'
import type { Table } from './catalog.js'
import { classify } from './classify.js'
import { deparse, parseOne } from './grammar.js'
import { neutralise } from './neutralise.js'
import { previewInsert } from './preview-insert.js'
import { previewMerge } from './preview-merge.js'
import { type PreviewOptions, PreviewUnsupported } from './preview-parts.js'
import { madeUpColumns, returningNames } from './preview-returning.js'
import { type Expansion, expandRules, type FiredRule } from './preview-rules.js'
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
  /** It comes after the main query. */
  readonly last?: boolean
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
  /** Null for a SELECT over data-modifying WITH, and for a write that rules leave nothing of. */
  readonly table: Table | null
  readonly returning: number | null
  readonly upsert: boolean
  /** Columns by which conflicts are found and that DO UPDATE assigns. */
  readonly rekeys?: readonly string[]
  /** Of DO UPDATE: names of the constraints or indexes whose conflicts it handles. */
  readonly arbiters?: readonly string[]
  readonly sql: string
  /** Data-modifying WITH parts, and what rules make of a write, each to be read on its own. */
  readonly parts: readonly PreviewPart[]
  /** The parts are done one after the other, and each sees those before. */
  readonly sequential?: boolean
  /** Rules that fire. */
  readonly fired?: readonly FiredRule[]
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
  const told: string[] = []
  const note = (text: string) => void told.push(text)
  const query = await rewrite(node, { ...options, note, names: { taken: 0 } })
  refuseUnlessRead(query.sql)
  for (const part of query.parts) refuseUnlessRead(part.sql)
  const tables = [query.table, ...query.parts.map((part) => part.table)].filter((table) => table !== null)
  return {
    ...query,
    syntheticIds: [...neutralised.syntheticIds, ...query.syntheticIds],
    notes: [
      ...neutralised.notes,
      ...told,
      ...new Set([...query.notes, ...tables.flatMap((table) => blindSpots(table))]),
    ],
  }
}

/** The last word on a rewrite is PostgreSQL's own grammar: it must be one statement that reads. @throws PreviewUnsupported */
export function refuseUnlessRead(sql: string): void {
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
    const { prefix, ...inside } = await rewriteWith(statement.withClause as WithClause, options)
    const main: SelectStmt = { ...node.SelectStmt, withClause: undefined }
    const sql = prefix + deparse({ SelectStmt: main })
    return { operation: 'SELECT', table: null, returning: null, upsert: false, sql, ...inside }
  }
  if (!modifying) return byRules(await expandRules(node, rewriteWrite, options))
  const { prefix, ...inside } = await rewriteWith(statement.withClause as WithClause, options)
  statement.withClause = undefined
  const command = tagOf(node)
  const { write, fired, notes } = await rewriteOne(node, amid(prefix, options))
  const main = plain(write)
  // The server would give the statement's tag, and no rows.
  if (command !== `${write.operation[0]}${write.operation.slice(1).toLowerCase()}Stmt`) {
    throw new PreviewUnsupported('rules with WITH')
  }
  return {
    ...main,
    sql: prefix + main.sql,
    parts: [...inside.parts, ...effectsOf(write).map((part) => ({ ...part, sql: prefix + part.sql }))],
    syntheticIds: [...inside.syntheticIds, ...main.syntheticIds],
    fired: [...inside.fired, ...fired],
    notes: [...inside.notes, ...notes, ...main.notes],
  }
}

function plain(write: RewriteResult): Omit<Rewritten, 'parts'> {
  const { target: _, effects: __, upsert = false, notes = [], ...result } = write
  return { ...result, upsert, notes }
}

/** What triggers write, which is to be read after what they fire on. */
function effectsOf({ effects = [] }: RewriteResult): PreviewPart[] {
  return effects.map((effect) => ({ ...effect, byTrigger: true, last: true }))
}

/** A write that nobody hears of: it has no rows. */
const NOTHING = 'SELECT NULL::text WHERE false'

function byRules({ writes, told, operation, fired, notes, syntheticIds }: Expansion): Rewritten {
  const at = told === undefined ? writes.length : writes.indexOf(told)
  const parts = writes.flatMap((write, index): PreviewPart[] =>
    write === told ? [] : [{ operation: write.operation, table: write.table, sql: leading(write), last: index > at }],
  )
  parts.push(...writes.flatMap(effectsOf))
  const ids = [...syntheticIds, ...writes.flatMap((write) => write.syntheticIds)]
  const all = [...notes, ...writes.flatMap((write) => write.notes ?? [])]
  const more = { parts, sequential: true, fired, notes: all, syntheticIds: ids }
  if (told !== undefined) return { ...plain(told), ...more }
  return { operation, table: null, returning: null, upsert: false, sql: NOTHING, ...more }
}

/** A write's query without its RETURNING columns. */
function leading({ sql, returning }: RewriteResult): string {
  return returning === null ? sql : `SELECT op__, old__, new__, viol__, id__ FROM (${sql}) AS q__`
}

/** A write beside WITH or inside it, of which rules may make one other write only. */
async function rewriteOne(node: Node, options: PreviewOptions) {
  const { writes, fired, notes, syntheticIds } = await expandRules(node, rewriteWrite, options)
  const [write] = writes
  if (write === undefined || writes.length > 1) throw new PreviewUnsupported('rules with WITH')
  return { write: { ...write, syntheticIds: [...syntheticIds, ...write.syntheticIds] }, fired, notes }
}

async function rewriteWrite(node: Node, options: PreviewOptions): Promise<RewriteResult> {
  const result = await rewriteCommand(node, { ...options, rewrite: rewriteWrite })
  if (!('DeleteStmt' in node)) {
    const columns = madeUpColumns(Object.values(node)[0] as never, result.target)
    if (columns.length > 0) options.note?.(`${columns.join(', ')} of new rows is made up`)
  }
  return result
}

async function rewriteCommand(node: Node, options: PreviewOptions): Promise<RewriteResult> {
  if ('UpdateStmt' in node) return await previewUpdate(node.UpdateStmt as UpdateStmt, options)
  if ('DeleteStmt' in node) return await previewDelete(node.DeleteStmt as DeleteStmt, options)
  if ('InsertStmt' in node) return await previewInsert(node.InsertStmt as InsertStmt, options)
  if ('MergeStmt' in node) return await previewMerge(node.MergeStmt as MergeStmt, options)
  throw new PreviewUnsupported(tagOf(node).replace(/Stmt$/, ''))
}

/** What is asked of one part of a statement may name what `prefix` defines. */
function amid(prefix: string, { countRows: _, countColumns, ...options }: PreviewOptions): PreviewOptions {
  return countColumns === undefined
    ? options
    : { ...options, countColumns: (query) => countColumns(/^\s*WITH\b/i.test(query) ? query : prefix + query) }
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
): Promise<
  { prefix: string; parts: PreviewPart[] } & Record<'syntheticIds' | 'notes', string[]> & { fired: FiredRule[] }
> {
  const texts: string[] = []
  const fired: FiredRule[] = []
  const notes: string[] = []
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
    const before = texts.length === 0 ? '' : `WITH ${clause.recursive ? 'RECURSIVE ' : ''}${texts.join(', ')} `
    const { write: part, ...byRule } = await rewriteOne(ctequery, amid(before, options))
    fired.push(...byRule.fired)
    notes.push(...byRule.notes)
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
  return { prefix, parts, syntheticIds, fired, notes }
}

function blindSpots(table: Table): string[] {
  const notes: string[] = []
  if (table.triggers !== null) notes.push(`triggers of ${table.name} were not run: ${table.triggers.join(', ')}`)
  if (table.unchecked?.length) notes.push(`not looked at on ${table.name}: ${table.unchecked.join(', ')}`)
  if (table.unseen?.length) notes.push(`may not be looked at on ${table.name}: ${table.unseen.join(', ')}`)
  if (table.readInPart) notes.push(`not all of ${table.name} may be read: what may not is shown as NULL`)
  if (table.rowSecurityActive) notes.push(`row security of ${table.name} was applied by its policies' text`)
  return notes
}
