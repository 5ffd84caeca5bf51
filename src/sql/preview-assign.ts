import type { A_Indices, Node } from '@pgsql/types'
import type { Column, PartType } from './catalog.js'
import { failing } from './foretold.js'
import { deparse } from './grammar.js'
import { assignElements } from './preview-array.js'
import { assignKeys } from './preview-jsonb.js'
import { castTo, defaultExpression, ONCE, PreviewUnsupported, type Target } from './preview-parts.js'
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
  const inParts = new Set<Column>()
  for (const item of targets) {
    if (!('ResTarget' in item)) throw new PreviewUnsupported('assignment')
    const { name, indirection, val } = item.ResTarget
    const column = writtenColumn(target, name)
    if (val === undefined) throw new PreviewUnsupported(`no value for ${name}`)
    if (column.generated && !('SetToDefault' in val)) throw new PreviewUnsupported('assignment to a generated column')
    const value = assigned(column, val)
    if (indirection?.length) {
      const known = values.get(column.name) ?? current(column)
      values.set(column.name, assignPart(column, indirection, known, partValue(column, indirection, value)))
      inParts.add(column)
    } else values.set(column.name, castTo(column, value))
  }
  for (const column of inParts) values.set(column.name, castTo(column, values.get(column.name) ?? 'NULL'))
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
      // Used as an expression, it fails where it gives more than one row.
      const single = `coalesce((SELECT true FROM (${text}) one__), true)`
      joins.push(` LEFT JOIN LATERAL (${text}) ${alias}(${names.join(', ')}) ON ${single}`)
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
 * `j['key']`, and parts of parts. PostgreSQL has no expression for it, so it is
 * put together anew. It has the type below, where the column's is a domain: what
 * that demands is only asked once every part is assigned, by {@link castTo}.
 * @throws PreviewUnsupported for parts of other types.
 */
export function assignPart(column: Column, path: readonly Node[], current: string, value: string): string {
  return assignIn(typesOf(column), plain(typesOf(column), wholeType(column)), path, current, value)
}

/** A value for a part of a column, with the errors an assignment to it gives. */
export function partValue(column: Column, path: readonly Node[], value: string): string {
  const types = typesOf(column)
  let type = wholeType(column)
  for (let rest = path; rest.length > 0; ) {
    const inner = plain(types, type)
    const step = stepInto(inner, rest)
    // The value of a slice is an array, that of a part of jsonb is jsonb.
    if (step.kind === 'array' && !step.slice) type = keyed(types, inner.element)
    else if (step.kind === 'field') type = keyed(types, step.field.key)
    else if (step.kind === 'point') return `CAST((${value}) AS double precision)`
    else type = inner
    rest = step.rest
  }
  return cast(type, value)
}

/** The type of a column's value while its parts are assigned. */
export function typeOfParts(column: Column): string {
  return plain(typesOf(column), wholeType(column)).type
}

type Types = readonly PartType[]

type PartStep =
  | { readonly kind: 'field'; readonly field: { name: string; key: string }; readonly rest: readonly Node[] }
  | {
      readonly kind: 'array' | 'jsonb' | 'point'
      readonly subscripts: readonly A_Indices[]
      readonly slice: boolean
      readonly rest: readonly Node[]
    }

function typesOf(column: Column): Types {
  return column.parts ?? []
}

function wholeType(column: Column): PartType {
  const { type, baseType, typmod } = column
  // A type without parts of its own in the catalog, such as jsonb, comes first too.
  return (
    column.parts?.[0] ?? { key: '', type, baseType, typmod, below: null, element: null, delimiter: ',', fields: null }
  )
}

function keyed(types: Types, key: string | null): PartType {
  const found = types.find((type) => type.key === key)
  if (found === undefined) throw new PreviewUnsupported('assignment to a part of an unknown type')
  return found
}

/** What a domain is over. */
function plain(types: Types, type: PartType): PartType {
  return type.below === null ? type : plain(types, keyed(types, type.below))
}

/** What the first field or the first subscripts of a path speak of. */
function stepInto(type: PartType, path: readonly Node[]): PartStep {
  const [first] = path
  if (first !== undefined && 'String' in first) {
    const field = type.fields?.find(({ name }) => name === first.String.sval)
    if (field === undefined) throw new PreviewUnsupported(`assignment to a field of ${type.type}`)
    return { kind: 'field', field, rest: path.slice(1) }
  }
  const end = path.findIndex((part) => !('A_Indices' in part))
  const rest = end < 0 ? [] : path.slice(end)
  const subscripts = path
    .slice(0, path.length - rest.length)
    .map((part) => (part as { A_Indices: A_Indices }).A_Indices)
  const slice = subscripts.some((subscript) => subscript.is_slice)
  if (type.baseType === 'jsonb') return { kind: 'jsonb', subscripts, slice, rest }
  if (type.baseType === 'point') return { kind: 'point', subscripts, slice, rest }
  // These two are written without braces and count from 0.
  const vector = type.baseType === 'int2vector' || type.baseType === 'oidvector'
  if (type.element !== null && !vector && subscripts.length > 0) return { kind: 'array', subscripts, slice, rest }
  throw new PreviewUnsupported('assignment to a part of something else than an array')
}

function assignIn(types: Types, type: PartType, path: readonly Node[], current: string, value: string): string {
  const step = stepInto(type, path)
  const { rest } = step
  const inside = (key: string | null, old: string) => {
    const inner = keyed(types, key)
    return rest.length === 0 ? value : cast(inner, assignIn(types, plain(types, inner), rest, old, value))
  }
  switch (step.kind) {
    case 'field': {
      const fields = (type.fields ?? []).map(({ name, key }) => {
        const old = `(c__.c).${quoteName(name)}`
        return name === step.field.name ? inside(key, old) : old
      })
      return `(SELECT CAST(ROW(${fields.join(', ')}) AS ${type.type}) FROM (SELECT ${current} AS c${ONCE}) c__)`
    }
    case 'jsonb':
      return assignKeys(step.subscripts, current, value)
    case 'point':
      return assignCoordinate(step.subscripts, step.slice, current, value)
    case 'array': {
      if (step.slice && rest.length > 0) throw new PreviewUnsupported('assignment to a field of a slice')
      const at = step.subscripts.map(({ uidx }) => (uidx === undefined ? '[NULL]' : `[${deparse(uidx)}]`)).join('')
      const element = step.slice ? value : inside(type.element, `(${current})${at}`)
      return assignElements(type, step.subscripts, current, element)
    }
  }
}

function cast(type: PartType, value: string): string {
  return castTo({ ...type, domain: type.below !== null }, value)
}

/** A point stays as it is where it, or the new coordinate, is NULL. */
function assignCoordinate(subscripts: readonly A_Indices[], slice: boolean, current: string, value: string): string {
  const [only] = subscripts
  if (only?.uidx === undefined || slice || subscripts.length > 1) throw new PreviewUnsupported('assignment to a slice')
  const type = 'point'
  return (
    `(SELECT CASE WHEN g__.i IS NULL THEN ${failing('22004', 'array subscript in assignment must not be null', type)} ` +
    `WHEN g__.p IS NULL OR g__.v IS NULL THEN g__.p WHEN g__.i = 0 THEN point(g__.v, g__.p[1]) ` +
    `WHEN g__.i = 1 THEN point(g__.p[0], g__.v) ELSE ${failing('2202E', 'array subscript out of range', type)} END ` +
    `FROM (SELECT ${current} AS p, CAST((${value}) AS double precision) AS v, CAST((${deparse(only.uidx)}) AS int) AS i${ONCE}) g__)`
  )
}
