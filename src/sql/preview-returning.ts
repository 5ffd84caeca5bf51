import type { Node, ReturningClause } from '@pgsql/types'
import { MAX_LEAVES, type Table } from './catalog.js'
import { deparse, parseExpression } from './grammar.js'
import { PreviewUnsupported, type Target } from './preview-parts.js'
import { copyOf, nameParts, quoteName, quoteText, replace, walk } from './tree.js'

export interface Returning {
  readonly returningClause?: ReturningClause
}

/** Where RETURNING finds its values in a rewrite. All texts are SQL. */
export interface ReturningScope {
  readonly target: Target
  /** A column of the row the statement's own name of the table stands for. */
  column(name: string): string
  /** A column before, or null where there is no row before; `present` tells for each row, where it depends. */
  readonly old: ((name: string) => string) | null
  readonly oldPresent?: string
  /** `ctid` of the row before. */
  readonly oldAddress?: string
  /** A column after, or null where there is no row after. */
  readonly fresh: ((name: string) => string) | null
  readonly freshPresent?: string
  /** `tableoid`; undefined where it cannot be known. */
  readonly tableoid?: string | undefined
  /** The name stands for the table itself, so its system columns are there. */
  readonly physical?: boolean
  /** The FROM items that `*` also takes in, and whether they come first. */
  readonly from?: readonly Node[]
  readonly fromFirst?: boolean
  /** Every column must be spelled out by {@link column}, because the plain name is the row before. */
  readonly bindAll?: boolean
  /** `merge_action()` */
  readonly action?: string
}

/** Types of the system columns, and what stands for them in a row that is not there yet: no server gives these. */
const SYSTEM: ReadonlyMap<string, { readonly type: string; readonly madeUp: string }> = new Map([
  ['tableoid', { type: 'oid', madeUp: '4294967295' }],
  ['ctid', { type: 'tid', madeUp: '(4294967294,65535)' }],
  ['xmin', { type: 'xid', madeUp: '4294967295' }],
  ['xmax', { type: 'xid', madeUp: '0' }],
  ['cmin', { type: 'cid', madeUp: '4294967295' }],
  ['cmax', { type: 'cid', madeUp: '4294967295' }],
])

/** The system columns in RETURNING that a preview cannot know of a new row. */
export function madeUpColumns(statement: Returning, target: Target): string[] {
  const found = new Set<string>()
  walk(statement.returningClause?.exprs, (tag, value: { fields?: Node[] }) => {
    const name = tag === 'ColumnRef' ? (nameParts(value.fields).at(-1) ?? '') : ''
    if (name !== 'tableoid' && SYSTEM.has(name) && !target.visible.includes(name)) found.add(name)
  })
  return [...found]
}

export function versionNames(
  clause: ReturningClause | undefined,
  taken: readonly string[],
): { old: string; fresh: string } {
  const given = new Map<string, string>()
  for (const option of clause?.options ?? []) {
    if ('ReturningOption' in option) given.set(option.ReturningOption.option ?? '', option.ReturningOption.value ?? '')
  }
  const free = (name: string) => (taken.includes(name) ? '' : name)
  return {
    old: given.get('RETURNING_OPTION_OLD') ?? free('old'),
    fresh: given.get('RETURNING_OPTION_NEW') ?? free('new'),
  }
}

/** True when RETURNING asks for the row before. */
export function returnsOld(statement: Returning, target: Target, from: readonly Node[] = []): boolean {
  const { old } = versionNames(statement.returningClause, namesIn(target, from))
  let found = false
  walk(statement.returningClause?.exprs, (tag, value: { fields?: Node[] }) => {
    if (tag === 'ColumnRef' && old !== '' && nameParts(value.fields)[0] === old) found = true
  })
  return found
}

function namesIn(target: Target, from: readonly Node[]): string[] {
  const names = [target.alias]
  for (const item of from) {
    walk({ item }, (tag, value: { alias?: { aliasname?: string }; relname?: string }) => {
      if (/^Range|^JoinExpr$/.test(tag)) names.push(value.alias?.aliasname ?? value.relname ?? '')
    })
  }
  return names
}

/** RETURNING as a select list over a rewrite, `*` spelled out; null when there is none. */
export function bindReturning(statement: Returning, scope: ReturningScope): string[] | null {
  const expressions = statement.returningClause?.exprs
  if (expressions === undefined) return null
  const { target, from = [] } = scope
  const named = versionNames(statement.returningClause, namesIn(target, from))
  const all = (column: ((name: string) => string) | null) =>
    target.visible.map((name) => `${column === null ? 'NULL' : column(name)} AS ${quoteName(name)}`)
  return expressions.flatMap((expression) => {
    const star = starQualifier(expression)
    if (star === undefined) return [bind(expression, scope, named)]
    if (star === '') {
      const others = from.flatMap(starOf)
      return scope.fromFirst ? [...others, ...all(scope.column)] : [...all(scope.column), ...others]
    }
    if (star === target.alias) return all(scope.column)
    if (star === named.old) return all(scope.old)
    if (star === named.fresh) return all(scope.fresh)
    return [deparse(expression)]
  })
}

function bind(expression: Node, scope: ReturningScope, named: { old: string; fresh: string }): string {
  const holder = { expression: copyOf(expression) }
  const { target } = scope
  let subquery = false
  walk(holder, (tag) => {
    if (tag === 'SubLink') subquery = true
  })
  const whole = (column: ((name: string) => string) | null, present?: string) => {
    if (column === null) return `CAST(NULL AS ${target.rowType})`
    const row = `CAST(ROW(${target.visible.map(column).join(', ')}) AS ${target.rowType})`
    return present === undefined ? row : `CASE WHEN ${present} THEN ${row} END`
  }
  const system = (name: string) => {
    if (scope.physical) return undefined
    if (name === 'tableoid' && scope.tableoid !== undefined) return scope.tableoid
    if (scope.fresh === null || name === 'tableoid') throw new PreviewUnsupported(`${name} in RETURNING`)
    return madeUp(name)
  }
  const madeUp = (name: string) => `CAST(${quoteText(SYSTEM.get(name)?.madeUp ?? '')} AS ${SYSTEM.get(name)?.type})`
  /** Of `old` or `new`. */
  const systemOf = (name: string, version: 'old' | 'new', present: string | undefined) => {
    const absent = (version === 'old' ? scope.old : scope.fresh) === null
    const none = `CAST(NULL AS ${SYSTEM.get(name)?.type})`
    if (absent) return none
    const before = version === 'old' && name === 'ctid' ? scope.oldAddress : undefined
    const value = name === 'tableoid' ? scope.tableoid : version === 'old' ? before : madeUp(name)
    if (value === undefined) throw new PreviewUnsupported(`${name} in RETURNING`)
    return present === undefined ? value : `CASE WHEN ${present} THEN ${value} END`
  }
  const swap = (fields: readonly Node[]): string | undefined => {
    const star = fields.some((field) => 'A_Star' in field)
    const parts = nameParts(fields).filter((part) => part !== '')
    const [first = '', second] = parts
    if (parts.length === 1 && !star) {
      if (target.visible.includes(first)) {
        if (!scope.bindAll) return undefined
        if (subquery) throw new PreviewUnsupported('a subquery in RETURNING')
        return scope.column(first)
      }
      if (SYSTEM.has(first)) return system(first)
    }
    const version =
      first === named.old
        ? { column: scope.old, present: scope.oldPresent }
        : first === named.fresh
          ? { column: scope.fresh, present: scope.freshPresent }
          : first === target.alias
            ? { column: scope.column, present: undefined }
            : undefined
    if (version === undefined || first === '') return undefined
    if (second === undefined) return whole(version.column, version.present)
    if (SYSTEM.has(second) && !target.visible.includes(second)) {
      if (first === target.alias) return system(second)
      return systemOf(second, first === named.old ? 'old' : 'new', version.present)
    }
    if (!target.visible.includes(second)) return undefined
    if (first === target.alias && !scope.bindAll) return undefined
    return version.column === null ? nullOf(target, second) : version.column(second)
  }
  replace(holder, (node) => {
    if ('MergeSupportFunc' in node && scope.action !== undefined) return parseExpression(scope.action)
    if (!('ColumnRef' in node)) return undefined
    const text = swap((node['ColumnRef'] as { fields?: Node[] }).fields ?? [])
    return text === undefined ? undefined : parseExpression(text)
  })
  return deparse(holder.expression)
}

/** A NULL of the column's type, so that functions of it are found. */
function nullOf(target: Target, name: string): string {
  return `(CAST(NULL AS ${target.rowType})).${quoteName(name)}`
}

/** `''` for `*`, `t` for `t.*`, undefined for anything else. */
export function starQualifier(expression: Node): string | undefined {
  const value = 'ResTarget' in expression ? expression.ResTarget.val : undefined
  const fields = value !== undefined && 'ColumnRef' in value ? value.ColumnRef.fields : undefined
  const last = fields?.at(-1)
  if (fields === undefined || last === undefined || !('A_Star' in last)) return undefined
  return nameParts(fields.slice(0, -1)).at(-1) ?? ''
}

function starOf(item: Node): string[] {
  if ('RangeVar' in item) return [`${quoteName(item.RangeVar.alias?.aliasname ?? item.RangeVar.relname ?? '')}.*`]
  if ('JoinExpr' in item) {
    const { isNatural, usingClause, alias, larg, rarg } = item.JoinExpr
    if (isNatural || usingClause?.length || alias || !larg || !rarg) {
      throw new PreviewUnsupported('RETURNING * over a join that merges columns')
    }
    return [...starOf(larg), ...starOf(rarg)]
  }
  const { alias } = Object.values(item)[0] as { alias?: { aliasname?: string } }
  if (alias?.aliasname === undefined) throw new PreviewUnsupported('RETURNING * over an unnamed item')
  return [`${quoteName(alias.aliasname)}.*`]
}

/** Names of the RETURNING columns, as PostgreSQL would give them. */
export function returningNames(statement: Returning, target: Target): string[] {
  const named = versionNames(statement.returningClause, [target.alias])
  return (statement.returningClause?.exprs ?? []).flatMap((expression) => {
    const star = starQualifier(expression)
    if (star === undefined) return ['ResTarget' in expression ? resultName(expression.ResTarget) : '?column?']
    if (star !== '' && ![target.alias, named.old, named.fresh].includes(star)) {
      throw new PreviewUnsupported('RETURNING another table.* in WITH')
    }
    return [...target.visible]
  })
}

function resultName(target: { name?: string; val?: Node }): string {
  return target.name ?? implicitName(target.val) ?? '?column?'
}

function implicitName(value: Node | undefined): string | undefined {
  if (value === undefined) return undefined
  if ('ColumnRef' in value) return nameParts(value.ColumnRef.fields).at(-1)
  if ('FuncCall' in value) return nameParts(value.FuncCall.funcname).at(-1)
  if ('MergeSupportFunc' in value) return 'merge_action'
  if ('TypeCast' in value) {
    return implicitName(value.TypeCast.arg) ?? nameParts(value.TypeCast.typeName?.names).at(-1)
  }
  if ('CoalesceExpr' in value) return 'coalesce'
  if ('CaseExpr' in value) return 'case'
  return undefined
}

/** The oid of the table or partition a new row goes to; `row` gives its columns. Undefined when there are too many. */
export function tableoidOf(table: Table, row: string): string | undefined {
  if (table.kind !== 'p') return `CAST(${table.oid} AS oid)`
  const leaves = table.leaves ?? []
  if (leaves.length === 0 || leaves.length > MAX_LEAVES) return undefined
  const cases = leaves.map(({ oid, bound }) => `WHEN ${bound ?? 'true'} THEN ${quoteText(oid)}`)
  const columns = (table.columns ?? []).map(({ name }) => `${row}.${quoteName(name)} AS ${quoteName(name)}`)
  return `(SELECT CAST(CASE ${cases.join(' ')} END AS oid) FROM (SELECT ${columns.join(', ')}) n__)`
}
