import type { DeleteStmt, UpdateStmt } from '@pgsql/types'
import { deparse } from './grammar.js'
import type { RewriteResult } from './preview.js'
import {
  assignments,
  dropSchema,
  idPerRow,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  resolveTarget,
  returningExpressions,
  returningList,
  rowAsText,
  rowId,
  withGenerated,
  withPrefix,
} from './preview-parts.js'
import { contains, quoteName } from './tree.js'
import { NO_VIOLATIONS, violationColumn } from './violations.js'

/**
 * `UPDATE t SET c = e FROM f WHERE w RETURNING r` becomes a SELECT over `f` and
 * a LATERAL subquery of the same name as `t`: inside it `t` is the old row
 * (what SET and WHERE see), outside the new one (what RETURNING sees).
 */
export async function previewUpdate(statement: UpdateStmt, options: PreviewOptions): Promise<RewriteResult> {
  const target = await resolveTarget(statement.relation, options)
  dropSchema(statement, target.relation)
  if (contains(statement.whereClause, 'CurrentOfExpr')) throw new PreviewUnsupported('WHERE CURRENT OF')
  const { table, columns, quotedAlias } = target
  const syntheticIds: string[] = []
  const assigned = assignments(statement.targetList ?? [], target, (column) => {
    const ids = options.syntheticIds(1, column)
    syntheticIds.push(...ids)
    return idPerRow(ids)
  })
  const newValues = columns.map((column) => {
    const name = quoteName(column.name)
    const value = column.generated ? 'NULL' : (assigned.values.get(column.name) ?? `${quotedAlias}.${name}`)
    return `${value} AS ${name}`
  })
  const where = statement.whereClause === undefined ? '' : ` WHERE ${deparse(statement.whereClause)}`
  const changedRow = withGenerated(
    `SELECT ${quotedAlias}.tableoid AS to__, ${quotedAlias}.ctid AS ctid__, ${rowAsText(quotedAlias, columns)} AS old__, ` +
      `${newValues.join(', ')} FROM ${readFrom(target, options)}${assigned.joins.join('')}${where}`,
    columns,
    ['to__', 'ctid__', 'old__'],
  )
  const from = statement.fromClause ?? []
  const expressions = returningExpressions(statement)
  const returning = expressions === null ? [] : returningList(expressions, target, from)
  // A row that matches several rows of FROM is updated once.
  const once = from.length === 0 ? '' : `DISTINCT ON (${quotedAlias}.to__, ${quotedAlias}.ctid__) `
  const list = [
    "'u'::text AS op__",
    `${quotedAlias}.old__`,
    `${rowAsText(quotedAlias, columns)} AS new__`,
    violationColumn(table, quotedAlias, {
      changed: new Set(assigned.values.keys()),
      replaces: true,
      existing: (alias) => readFrom(target, options, alias),
    }),
    rowId(`${quotedAlias}.to__`, `${quotedAlias}.ctid__`),
    ...returning,
  ]
  const sources = [...from.map((item) => deparse(item)), `LATERAL (${changedRow}) AS ${quotedAlias}`]
  return {
    operation: 'UPDATE',
    table,
    target,
    returning: expressions === null ? null : returning.length,
    syntheticIds,
    sql: `${withPrefix(statement.withClause)}SELECT ${once}${list.join(', ')} FROM ${sources.join(', ')}`,
  }
}

/** `DELETE FROM t USING f WHERE w RETURNING r` reads the rows it would delete. */
export async function previewDelete(statement: DeleteStmt, options: PreviewOptions): Promise<RewriteResult> {
  const target = await resolveTarget(statement.relation, options)
  dropSchema(statement, target.relation)
  if (contains(statement.whereClause, 'CurrentOfExpr')) throw new PreviewUnsupported('WHERE CURRENT OF')
  const { table, columns, quotedAlias } = target
  const using = statement.usingClause ?? []
  const expressions = returningExpressions(statement)
  const returning = expressions === null ? [] : returningList(expressions, target, using)
  const once = using.length === 0 ? '' : `DISTINCT ON (${quotedAlias}.tableoid, ${quotedAlias}.ctid) `
  const list = [
    "'d'::text AS op__",
    `${rowAsText(quotedAlias, columns)} AS old__`,
    'NULL::text[] AS new__',
    NO_VIOLATIONS,
    rowId(`${quotedAlias}.tableoid`, `${quotedAlias}.ctid`),
    ...returning,
  ]
  const sources = [readFrom(target, options), ...using.map((item) => deparse(item))]
  const where = statement.whereClause === undefined ? '' : ` WHERE ${deparse(statement.whereClause)}`
  return {
    operation: 'DELETE',
    table,
    target,
    returning: expressions === null ? null : returning.length,
    syntheticIds: [],
    sql: `${withPrefix(statement.withClause)}SELECT ${once}${list.join(', ')} FROM ${sources.join(', ')}${where}`,
  }
}
