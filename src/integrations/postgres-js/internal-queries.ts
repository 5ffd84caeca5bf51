const TYPES_QUERY =
  'select b.oid, b.typarray from pg_catalog.pg_type a left join pg_catalog.pg_type b on b.oid = a.typelem ' +
  "where a.typcategory = 'A' group by b.oid, b.typarray order by b.oid"

/** The one query that connections of the library make on their own: it reads which array types there are. */
export function isTypesQuery(text: string): boolean {
  return text.length < 1_000 && text.replace(/\s+/g, ' ').trim() === TYPES_QUERY
}
