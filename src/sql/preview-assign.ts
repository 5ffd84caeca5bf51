import type { A_Indices, Node } from '@pgsql/types'
import type { Column } from './catalog.js'
import { deparse } from './grammar.js'
import { castTo, defaultExpression, PreviewUnsupported, type Target } from './preview-parts.js'
import { quoteName, tagOf } from './tree.js'

/** The values an UPDATE or DO UPDATE assigns, by column, each cast to its column. */
export interface Assignments {
  readonly values: ReadonlyMap<string, string>
  /** Joins for `SET (a, b) = (SELECT …)`. */
  readonly joins: readonly string[]
}

/** `current` gives a column's value before, for what changes a part of it. */
export function assignments(
  targets: readonly Node[],
  target: Target,
  ids: (column: Column) => string,
  current: (column: Column) => string,
): Assignments {
  const values = new Map<string, string>()
  const joins: string[] = []
  const joined = new Map<string, string>()
  for (const item of targets) {
    if (!('ResTarget' in item)) throw new PreviewUnsupported('assignment')
    const { name, indirection, val } = item.ResTarget
    const column = writtenColumn(target, name)
    if (val === undefined) throw new PreviewUnsupported(`no value for ${name}`)
    if (column.generated && !('SetToDefault' in val)) throw new PreviewUnsupported('assignment to a generated column')
    const value = assigned(column, val)
    const known = values.get(column.name) ?? current(column)
    values.set(
      column.name,
      indirection?.length ? castTo(column, assignPart(column, indirection, known, value)) : castTo(column, value),
    )
  }
  return { values, joins }

  function assigned(column: Column, value: Node): string {
    if ('SetToDefault' in value) return defaultOf(column, target, ids)
    if (!('MultiAssignRef' in value)) return deparse(value)
    const { source, colno = 1, ncolumns = 1 } = value.MultiAssignRef
    if (source !== undefined && 'RowExpr' in source && !source.RowExpr.args?.some(isStar)) {
      const element = source.RowExpr.args?.[colno - 1]
      if (element === undefined) throw new PreviewUnsupported('assignment from a row')
      return 'SetToDefault' in element ? defaultOf(column, target, ids) : deparse(element)
    }
    const text = rowSource(source)
    let alias = joined.get(text)
    if (alias === undefined) {
      alias = `ma${joined.size}__`
      joined.set(text, alias)
      const names = Array.from({ length: ncolumns }, (_, index) => `c${index + 1}`)
      joins.push(` LEFT JOIN LATERAL (${text}) ${alias}(${names.join(', ')}) ON true`)
    }
    return `${alias}.c${colno}`
  }
}

function isStar(element: Node): boolean {
  return 'ColumnRef' in element && (element.ColumnRef.fields ?? []).some((field) => 'A_Star' in field)
}

/** A query for the values of `SET (a, b) = …`; of a row with `*` in it, which only the server can spell out. */
function rowSource(source: Node | undefined): string {
  if (source !== undefined && 'RowExpr' in source) {
    return `SELECT ${(source.RowExpr.args ?? []).map((element) => deparse(element)).join(', ')}`
  }
  const subquery = source !== undefined && 'SubLink' in source ? source.SubLink.subselect : undefined
  if (subquery === undefined) throw new PreviewUnsupported(`assignment from ${source ? tagOf(source) : 'nothing'}`)
  return deparse(subquery)
}

/** The table's column a statement means; through a view, the one behind the view's. */
export function writtenColumn(target: Target, name: string | undefined): Column {
  const own = target.view === undefined ? name : target.view.columnOf.get(name ?? '')
  const column = target.columns.find((candidate) => candidate.name === own)
  if (column === undefined) throw new PreviewUnsupported(`unknown column ${name}`)
  return column
}

/** What DEFAULT gives; a view's own default comes first. */
export function defaultOf(column: Column, target: Target, ids: (column: Column) => string): string {
  return target.view?.defaults.get(column.name) ?? defaultExpression(column, ids)
}

/**
 * The value after one part of it is assigned: `a[2]`, `a[1:3]`, `c.field`,
 * `j['key']`. PostgreSQL has no expression for it, so it is put together anew.
 * @throws PreviewUnsupported for deeper parts.
 */
export function assignPart(column: Column, path: readonly Node[], current: string, value: string): string {
  const [first, ...more] = path
  if (first === undefined) return value
  if ('String' in first) {
    if (!column.fields || more.length > 0) throw new PreviewUnsupported('assignment to a field of a field')
    const name = first.String.sval ?? ''
    if (!column.fields.some((field) => field.name === name)) throw new PreviewUnsupported(`unknown field ${name}`)
    const fields = column.fields.map((field) =>
      field.name === name ? `CAST((${value}) AS ${field.type})` : `(${current}).${quoteName(field.name)}`,
    )
    return `ROW(${fields.join(', ')})`
  }
  const subscripts = path.map((part) => ('A_Indices' in part ? part.A_Indices : undefined))
  if (subscripts.some((part) => part === undefined)) throw new PreviewUnsupported('assignment to a field of an element')
  if (column.baseType === 'jsonb') return assignKey(subscripts as A_Indices[], current, value)
  if (!column.element || subscripts.length > 1 || column.domain) {
    throw new PreviewUnsupported('assignment to a part of something else than a plain array')
  }
  return assignElements(column, subscripts[0] as A_Indices, current, value)
}

/** A key or a position, as `->` takes it. @throws PreviewUnsupported where only the server knows its type. */
function keyOf(subscript: Node): string {
  const constant = 'A_Const' in subscript ? subscript.A_Const : undefined
  if (constant?.ival === undefined && constant?.sval === undefined) {
    throw new PreviewUnsupported('assignment to a computed key of jsonb')
  }
  return deparse(subscript)
}

/** jsonb: an object or array on the way is made where there is none, and gaps of an array are filled with nulls. */
function assignKey(subscripts: readonly A_Indices[], current: string, value: string): string {
  const [first, ...more] = subscripts
  if (first?.uidx !== undefined && more.length > 0) {
    const inner = assignKey(more, `(${current} -> ${keyOf(first.uidx)})`, value)
    return assignKey([first], current, inner)
  }
  const { uidx, is_slice: slice } = subscripts[0] as A_Indices
  if (slice || uidx === undefined) throw new PreviewUnsupported('assignment to a slice of jsonb')
  const numeric = 'A_Const' in uidx && uidx.A_Const.ival !== undefined
  const index = numeric ? Number(uidx.A_Const.ival?.ival ?? 0) : undefined
  if (!numeric && !('A_Const' in uidx && uidx.A_Const.sval !== undefined)) {
    // The type of the subscript decides, and only the server knows it.
    throw new PreviewUnsupported('assignment to a computed key of jsonb')
  }
  const fresh = `coalesce(CAST((${value}) AS jsonb), CAST('null' AS jsonb))`
  const key = `ARRAY[CAST((${deparse(uidx)}) AS text)]`
  if (index === undefined) return `jsonb_set(coalesce(${current}, CAST('{}' AS jsonb)), ${key}, ${fresh}, true)`
  if (index < 0) return `jsonb_set(${current}, ${key}, ${fresh}, true)`
  const base = `coalesce(${current}, CAST('[]' AS jsonb))`
  const gap = `(SELECT coalesce(jsonb_agg(CAST('null' AS jsonb)), CAST('[]' AS jsonb)) FROM generate_series(jsonb_array_length(${base}), ${index - 1}))`
  return (
    `CASE WHEN jsonb_typeof(${base}) = 'array' THEN jsonb_set(CASE WHEN jsonb_array_length(${base}) < ${index} ` +
    `THEN ${base} || ${gap} ELSE ${base} END, ${key}, ${fresh}, true) ELSE jsonb_set(${base}, ${key}, ${fresh}, true) END`
  )
}

/** Refuses to go on for a row, with an error that no live execution gives; not a constant, or planning would fail. */
const NOT_FLAT = "CAST(CAST(quote_ident('array of several dimensions from ' || n__.first) AS regclass) AS text)"

/** The elements of a one-dimensional array between the least and greatest subscript, old and new, with its bounds. */
function assignElements(column: Column, { is_slice: slice, lidx, uidx }: A_Indices, current: string, value: string) {
  const type = column.type
  const upper = uidx === undefined ? `array_upper(${current}, 1)` : `CAST((${deparse(uidx)}) AS int)`
  const lower =
    !slice || lidx === undefined
      ? slice
        ? `coalesce(array_lower(${current}, 1), 1)`
        : upper
      : `CAST((${deparse(lidx)}) AS int)`
  const element = slice ? `n__.v[array_lower(n__.v, 1) + i__ - n__.lo]` : `n__.v`
  const fresh = slice ? `CAST((${value}) AS ${type})` : `CAST((${value}) AS ${column.element})`
  const list = `ARRAY(SELECT CASE WHEN i__ BETWEEN n__.lo AND n__.hi THEN ${element} ELSE n__.a[i__] END FROM generate_series(n__.first, n__.last) i__)`
  const bounds = `'[' || n__.first || ':' || n__.last || ']='`
  return (
    `(SELECT CASE WHEN n__.nothing THEN n__.a WHEN array_ndims(n__.a) > 1 THEN CAST(${NOT_FLAT} AS ${type}) ` +
    `ELSE CAST(${bounds} || CAST(${list} AS text) AS ${type}) END FROM ` +
    `(SELECT m__.*, least(array_lower(m__.a, 1), m__.lo) AS first, greatest(array_upper(m__.a, 1), m__.hi) AS last, ` +
    `${slice ? 'm__.v IS NULL' : 'm__.lo IS NULL'} AS nothing ` +
    `FROM (SELECT ${current} AS a, ${lower} AS lo, ${upper} AS hi, ${fresh} AS v) m__) n__)`
  )
}
