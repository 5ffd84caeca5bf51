import type { A_Indices } from '@pgsql/types'
import { failing, unanswered } from './foretold.js'
import { deparse } from './grammar.js'
import { ONCE } from './preview-parts.js'

/** An array type as an assignment sees it. */
export interface ArrayType {
  readonly type: string
  readonly delimiter: string
}

/** `MaxArraySize`: elements in one array. */
const MOST_ELEMENTS = 134_217_727
/** Elements a preview puts together. */
const MOST_PREVIEWED = 1_000_000
const DIMENSIONS = 6

const MESSAGES = {
  null: ['22004', 'array subscript in assignment must not be null'],
  number: ['2202E', 'wrong number of array subscripts'],
  range: ['2202E', 'array subscript out of range'],
  order: ['2202E', 'upper bound cannot be less than lower bound'],
  bounds: ['2202E', 'array slice subscript must provide both boundaries'],
  source: ['2202E', 'source array too small'],
  size: ['54000', `array size exceeds the maximum allowed (${MOST_ELEMENTS})`],
} as const

/**
 * The array after an element or a slice of it is assigned, which PostgreSQL has
 * no expression for. `value` has the element's or, for a slice, the array's type.
 */
export function assignElements(
  array: ArrayType,
  subscripts: readonly A_Indices[],
  current: string,
  value: string,
): string {
  const { type } = array
  const slice = subscripts.some((subscript) => subscript.is_slice)
  const int = (node: A_Indices['uidx']) => `CAST((${node === undefined ? 'NULL' : deparse(node)}) AS int)`
  // Among slices a lone subscript `n` means `1:n`.
  const given = subscripts.map(({ is_slice: range, lidx, uidx }) => ({
    lower: range ? lidx : undefined,
    upper: uidx,
    open: { lower: range === true && lidx === undefined, upper: range === true && uidx === undefined },
    from: range ? int(lidx) : slice ? '1' : int(uidx),
    to: int(uidx),
  }))
  const count = given.length
  const bounds = given.flatMap(({ from, to }, index) => [`${from} AS f${index + 1}`, `${to} AS t${index + 1}`])
  const nulls = given.flatMap(({ open }, index) => [
    ...(open.lower ? [] : [`g__.f${index + 1} IS NULL`]),
    ...(open.upper ? [] : [`g__.t${index + 1} IS NULL`]),
  ])
  const fails = (kind: keyof typeof MESSAGES) => failing(MESSAGES[kind][0], MESSAGES[kind][1], type)
  const anyOpen = given.some(({ open }) => open.lower || open.upper)
  const cases = [
    ...(nulls.length === 0 ? [] : [`WHEN ${nulls.join(' OR ')} THEN ${fails('null')}`]),
    ...(slice ? [`WHEN g__.v IS NULL THEN g__.a`] : []),
    `WHEN array_ndims(g__.a) IS NULL THEN ${anyOpen ? fails('bounds') : fresh()}`,
    `WHEN array_ndims(g__.a) ${slice ? '<' : '<>'} ${count} THEN ${fails('number')}`,
  ]
  if (count === 1) cases.push(`WHEN array_ndims(g__.a) = 1 THEN ${alongOne()}`)
  const rest = count > 1 || slice ? ` ELSE ${within()}` : ''
  return (
    `(SELECT CASE ${cases.join(' ')}${rest} END FROM (SELECT coalesce(${current}, CAST('{}' AS ${type})) AS a, ` +
    `${bounds.join(', ')}, ${value} AS v${ONCE}) g__)`
  )

  /** An array that was empty consists of what is assigned. */
  function fresh(): string {
    const dims = given.map((_, index) => `'[' || g__.f${index + 1} || ':' || g__.t${index + 1} || ']'`).join(' || ')
    const sizes = given.map((_, index) => `(CAST(g__.t${index + 1} AS bigint) - g__.f${index + 1} + 1)`)
    const size = sizes.map((each) => `CAST(${each} AS numeric)`).join(' * ')
    const tooFar = given.map((_, index) => `g__.t${index + 1} = 2147483647`).join(' OR ')
    const guards = [
      ...(slice ? [`WHEN ${sizes.map((each) => `${each} < 1`).join(' OR ')} THEN ${fails('order')}`] : []),
      `WHEN ${size} > ${MOST_ELEMENTS} OR ${tooFar} THEN ${fails('size')}`,
      `WHEN ${size} > ${MOST_PREVIEWED} THEN ${unanswered('a huge array', type)}`,
      ...(slice ? [`WHEN ${size} > cardinality(g__.v) THEN ${fails('source')}`] : []),
    ]
    const source = slice ? numbered('g__.v') : '(SELECT g__.v AS e, 1 AS o) u__'
    const built = spelled(
      dims,
      sizes,
      `SELECT u__.e, CAST(u__.o - 1 AS int) AS i FROM ${source}${slice ? ` WHERE u__.o <= ${size}` : ''}`,
    )
    return `(CASE ${guards.join(' ')} ELSE ${built} END)`
  }

  /** An array of one dimension grows; what is between is NULL. */
  function alongOne(): string {
    const [{ open } = { open: { lower: false, upper: false } }] = given
    const lower = open.lower ? 'array_lower(g__.a, 1)' : 'g__.f1'
    const upper = open.upper ? 'array_upper(g__.a, 1)' : 'g__.t1'
    const list =
      `ARRAY(SELECT CASE WHEN i__ BETWEEN n__.lo AND n__.hi THEN ` +
      `${slice ? 'n__.v[array_lower(n__.v, 1) + i__ - n__.lo]' : 'n__.v'} ELSE n__.a[i__] END ` +
      `FROM generate_series(n__.first, n__.last) i__)`
    const source = slice ? `ARRAY(SELECT unnest(g__.v))` : 'g__.v'
    return (
      `(SELECT CASE ${slice ? `WHEN n__.lo > n__.hi THEN ${fails('order')} ` : ''}` +
      `WHEN CAST(n__.last AS bigint) - n__.first + 1 > ${MOST_ELEMENTS} OR n__.last = 2147483647 THEN ${fails('size')} ` +
      `WHEN n__.last - n__.first + 1 > ${MOST_PREVIEWED} THEN ${unanswered('a huge array', type)} ` +
      `${slice ? `WHEN n__.hi - n__.lo + 1 > cardinality(n__.v) THEN ${fails('source')} ` : ''}` +
      // The text has the session's precision of numbers, so it is only taken where it is needed.
      `WHEN n__.first = 1 THEN CAST(${list} AS ${type}) ` +
      `ELSE CAST('[' || n__.first || ':' || n__.last || ']=' || CAST(${list} AS text) AS ${type}) END FROM ` +
      `(SELECT m__.*, least(array_lower(m__.a, 1), m__.lo) AS first, greatest(array_upper(m__.a, 1), m__.hi) AS last ` +
      `FROM (SELECT g__.a, ${lower} AS lo, ${upper} AS hi, ${source} AS v${ONCE}) m__${ONCE}) n__)`
    )
  }

  /** An array of several dimensions keeps its size. */
  function within(): string {
    const at = Array.from({ length: DIMENSIONS }, (_, index) => index + 1)
    const length = (dimension: number) => `coalesce(array_length(g__.a, ${dimension}), 1)`
    const bound = (dimension: number, kind: 'lower' | 'upper') => {
      const own = `coalesce(array_${kind}(g__.a, ${dimension}), 1)`
      const each = given[dimension - 1]
      return each === undefined || each.open[kind] ? own : `g__.${kind === 'lower' ? 'f' : 't'}${dimension}`
    }
    const columns = at.flatMap((dimension) => [
      `${length(dimension)} AS n${dimension}`,
      `coalesce(array_lower(g__.a, ${dimension}), 1) AS l${dimension}`,
      `${bound(dimension, 'lower')} AS lo${dimension}`,
      `${bound(dimension, 'upper')} AS hi${dimension}`,
    ])
    const stride = (dimension: number) =>
      at
        .filter((other) => other > dimension)
        .map((other) => `d__.n${other}`)
        .join(' * ') || '1'
    const inside = at
      .map((d) => `(u__.o - 1) / (${stride(d)}) % d__.n${d} + d__.l${d} BETWEEN d__.lo${d} AND d__.hi${d}`)
      .join(' AND ')
    const outside = at
      .slice(0, count)
      .map((d) => `d__.lo${d} < d__.l${d} OR d__.hi${d} >= d__.l${d} + d__.n${d}`)
      .join(' OR ')
    const reversed = at
      .slice(0, count)
      .map((d) => `d__.lo${d} > d__.hi${d}`)
      .join(' OR ')
    const size = at.map((d) => `(d__.hi${d} - d__.lo${d} + 1)`).join(' * ')
    const values = slice ? '(ARRAY(SELECT unnest(g__.v)))[x__.s]' : 'g__.v'
    const elements =
      `SELECT CASE WHEN x__.inside THEN ${values} ELSE x__.e END AS e, CAST(x__.o - 1 AS int) AS i FROM (SELECT w__.*, ` +
      `count(*) FILTER (WHERE w__.inside) OVER (ORDER BY w__.o) AS s FROM (SELECT u__.e, u__.o, ${inside} AS inside ` +
      `FROM ${numbered('g__.a')}) w__) x__`
    const built = spelled(
      'array_dims(g__.a)',
      at.map((d) => `d__.n${d}`),
      elements,
      'array_ndims(g__.a)',
    )
    return (
      `(SELECT CASE ${slice ? `WHEN ${reversed} THEN ${fails('order')} ` : ''}WHEN ${outside} THEN ${fails('range')} ` +
      `${slice ? `WHEN ${size} > cardinality(g__.v) THEN ${fails('source')} ` : ''}ELSE ${built} END ` +
      `FROM (SELECT ${columns.join(', ')}${ONCE}) d__)`
    )
  }

  /** An array from its elements `e` in the order `i`, counted from 0, by way of its text. */
  function spelled(dims: string, sizes: readonly string[], elements: string, used = `${sizes.length}`): string {
    // One brace for each dimension that begins, or ends, with an element.
    const edges = (position: string) =>
      sizes
        .map((_, index) => {
          const stride = sizes
            .slice(index)
            .map((size) => `CAST(${size} AS bigint)`)
            .join(' * ')
          return `CAST(${used} > ${index} AND ${position} % (${stride}) = 0 AS int)`
        })
        .join(' + ')
    const text = `CAST(ARRAY[e__.e] AS text)`
    return (
      `CAST(${dims} || '=' || (SELECT string_agg(repeat('{', ${edges('e__.i')}) || ` +
      `substr(${text}, 2, length(${text}) - 2) || repeat('}', ${edges('(e__.i + 1)')}), '${array.delimiter}' ` +
      `ORDER BY e__.i) FROM (${elements}) e__) AS ${type})`
    )
  }
}

/** The elements in the order they are stored; in FROM `unnest` would take composite ones apart. */
function numbered(array: string): string {
  return `(SELECT y__.e, row_number() OVER () AS o FROM (SELECT unnest(${array}) AS e) y__) u__`
}
