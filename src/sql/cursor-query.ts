import type { Node, RangeVar, SelectStmt } from '@pgsql/types'
import { classify } from './classify.js'
import { deparse, parseExpression, parseOne } from './grammar.js'
import { PreviewUnsupported } from './preview-parts.js'
import { contains, quoteName, quoteText } from './tree.js'

/** A cursor as `pg_cursors` has it. */
export interface CursorQuery {
  /** The one table its rows come from. */
  readonly relation: RangeVar
  readonly filtered: boolean
  /** Every column of the table is in its rows. */
  readonly whole: boolean
  /**
   * A query of `tableoid` and `ctid`, at most two rows, of the table's rows that
   * the cursor would show with these values.
   */
  rowsLike(values: readonly (string | null)[]): string
}

/** The server's words for a cursor whose rows are not those of a table. */
export function notUpdatable(cursor: string, table: string): PreviewUnsupported {
  return new PreviewUnsupported(`cursor "${cursor}" is not a simply updatable scan of table "${table}"`, '24000')
}

/**
 * Reads the text of a cursor whose current row can be found again: a plain scan of one table.
 * @throws PreviewUnsupported for others, with the server's error where that is certain.
 */
export function cursorQuery(cursor: string, text: string, table: string): CursorQuery {
  const node = parseOne(text)
  const inner = 'DeclareCursorStmt' in node ? node.DeclareCursorStmt.query : node
  if (inner === undefined || !('SelectStmt' in inner)) throw unknownRow('is no SELECT')
  const select = inner.SelectStmt
  if (select.op !== undefined && select.op !== 'SETOP_NONE') throw unknownRow('combines queries')
  const locks = select.lockingClause !== undefined
  if (!locks && (select.groupClause?.length || select.distinctClause?.length)) throw notUpdatable(cursor, table)
  const [item, ...others] = select.fromClause ?? []
  if (!locks && others.length === 0 && item !== undefined && joinsTwoTables(item)) throw notUpdatable(cursor, table)
  const rest = [select.sortClause?.length, select.withClause, select.havingClause, select.valuesLists, others.length]
  // What else there is decides with the planner whether the server can tell the row.
  const plain = item !== undefined && 'RangeVar' in item && !locks && !rest.some(Boolean)
  if (!plain || contains(select.whereClause, 'SubLink') || contains(select.targetList, 'FuncCall', 'SubLink')) {
    throw unknownRow('is no plain scan of one table')
  }
  // It is fetched once more, so it must have no effect, nor an error that would end it.
  const [judged] = classify(deparse({ SelectStmt: select }))
  if (judged?.kind !== 'read') throw unknownRow(`calls ${judged?.unknown[0] ?? 'what it must not'}`)
  const relation = item.RangeVar
  const alias = quoteName(relation.alias?.aliasname ?? relation.relname ?? '')
  return {
    relation,
    filtered: select.whereClause !== undefined,
    whole: (select.targetList ?? []).some(isStar),
    rowsLike(values) {
      const names = values.map((_, index) => `x${index}`)
      const place = ['tableoid', 'ctid'].map((name) => ({ ResTarget: { val: parseExpression(`${alias}.${name}`) } }))
      const found: SelectStmt = { ...select, targetList: [...place, ...(select.targetList ?? [])] }
      delete found.limitCount
      delete found.limitOffset
      const same = values.map((value, index) => {
        if (value === null) return `num_nulls(q__.x${index}) = 1`
        // `format` spells a value as a result column does, a cast to text not always.
        return `num_nulls(q__.x${index}) = 0 AND format('%s', q__.x${index}) = ${quoteText(value)}`
      })
      return (
        `SELECT CAST(q__.to__ AS text), CAST(q__.ctid__ AS text) FROM (${deparse({ SelectStmt: found })}) ` +
        `AS q__(${['to__', 'ctid__', ...names].join(', ')})${same.length > 0 ? ` WHERE ${same.join(' AND ')}` : ''} LIMIT 2`
      )
    },
  }
}

function unknownRow(why: string): PreviewUnsupported {
  return new PreviewUnsupported(`WHERE CURRENT OF a cursor that ${why}`)
}

/** Joined in a way that the planner takes no table out of. */
function joinsTwoTables(item: Node): boolean {
  if (!('JoinExpr' in item) || item.JoinExpr.jointype !== 'JOIN_INNER') return false
  const { larg, rarg } = item.JoinExpr
  if (larg === undefined || rarg === undefined || !('RangeVar' in larg) || !('RangeVar' in rarg)) return false
  return larg.RangeVar.relname !== rarg.RangeVar.relname
}

function isStar(target: Node): boolean {
  return contains(target, 'A_Star')
}
