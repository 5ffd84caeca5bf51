import type { A_Indices, Node } from '@pgsql/types'
import { failing, failingWith, unanswered } from './foretold.js'
import { deparse } from './grammar.js'
import { ONCE, PreviewUnsupported } from './preview-parts.js'

/** Elements of NULL that a preview fills an array's gap with. */
const MOST_FILLED = 100_000

const NULL_KEY = ['22004', 'jsonb subscript in assignment must not be null'] as const
const SCALAR = ['22023', 'cannot replace existing key'] as const

/**
 * jsonb after the value at a path is assigned. What is missing on the way is
 * made: an object, or an array where the key looks like a number; gaps of an
 * array are filled with nulls.
 */
export function assignKeys(subscripts: readonly A_Indices[], current: string, value: string): string {
  const keys = subscripts.map(({ is_slice: slice, uidx }) => {
    if (slice || uidx === undefined) throw new PreviewUnsupported('assignment to a slice of jsonb')
    return uidx
  })
  const columns = keys.map((key, index) => `CAST((${deparse(key)}) AS text) AS k${index + 1}`)
  const nulls = keys.map((_, index) => `p__.k${index + 1} IS NULL`).join(' OR ')
  const fail = failing(...NULL_KEY, 'jsonb')
  // Where there is nothing yet, the type of the first key decides, not what it looks like.
  const empty = `CASE WHEN ${isInteger(keys[0] as Node)} THEN '[]' ELSE '{}' END`
  return (
    `(SELECT CASE WHEN ${nulls} THEN ${fail} ELSE ${set(1, 'coalesce(p__.c, p__.z)')} END FROM ` +
    `(SELECT ${current} AS c, CAST(${empty} AS jsonb) AS z, ` +
    `coalesce(CAST((${value}) AS jsonb), CAST('null' AS jsonb)) AS v, ${columns.join(', ')}${ONCE}) p__)`
  )

  function set(level: number, container: string): string {
    if (level > keys.length) return 'p__.v'
    const here = `j${level}__`
    const key = `p__.k${level}`
    const next = level + 1
    const made = `CASE WHEN p__.k${next} ~ '^\\s*[-+]?[0-9]+$' THEN '[]' ELSE '{}' END`
    const below = `${here}.b #> ARRAY[${key}]`
    const inner = level === keys.length ? 'p__.v' : set(next, `coalesce(${below}, CAST(${made} AS jsonb))`)
    const length = `jsonb_array_length(${here}.b)`
    const notNumber = `'path element at position ${level} is not an integer: "'`
    const nulls = `(SELECT jsonb_agg(CAST('null' AS jsonb)) FROM generate_series(${length}, ${here}.n - 1))`
    return (
      `(SELECT CASE jsonb_typeof(${here}.b) WHEN 'object' THEN jsonb_set(${here}.b, ARRAY[${key}], ${inner}, true) ` +
      `WHEN 'array' THEN CASE WHEN ${here}.n IS NULL THEN ${failingWith('22P02', `${notNumber} || ${key} || '"'`, 'jsonb')} ` +
      `WHEN ${here}.n < -${length} THEN ` +
      `${failingWith('22023', `'path element at position ${level} is out of range: ' || ${here}.n`, 'jsonb')} ` +
      `WHEN ${here}.n > ${length} + ${MOST_FILLED} THEN ${unanswered('a huge array', 'jsonb')} ` +
      `ELSE jsonb_set(CASE WHEN ${here}.n > ${length} THEN ${here}.b || ${nulls} ELSE ${here}.b END, ` +
      `ARRAY[${key}], ${inner}, true) END ELSE ${failing(...SCALAR, 'jsonb')} END FROM (SELECT ${container} AS b, ` +
      `CASE WHEN ${key} ~ '^\\s*[-+]?[0-9]{1,9}$' THEN CAST(${key} AS int) END AS n${ONCE}) ${here})`
    )
  }
}

function isInteger(key: Node): string {
  if ('A_Const' in key) return key.A_Const.ival === undefined ? 'false' : 'true'
  return `pg_typeof(${deparse(key)}) IN (CAST('integer' AS regtype), CAST('smallint' AS regtype))`
}
