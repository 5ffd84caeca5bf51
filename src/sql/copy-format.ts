import type { CopyStmt, Node } from '@pgsql/types'

/** How the data of a COPY FROM is written. */
export interface CopyFormat {
  readonly format: 'text' | 'csv' | 'binary'
  readonly delimiter: string
  readonly null: string
  readonly header: boolean
  readonly quote: string
  /** Within quotes, before a quote or itself. */
  readonly escape: string
  /** Why the rows cannot be told from the data alone, if they cannot. */
  readonly undecided: string | undefined
}

/** Options that say nothing about the rows. */
const HARMLESS = new Set(['freeze', 'log_verbosity'])

/** The format of a COPY FROM, with PostgreSQL's defaults. */
export function copyFormat(statement: CopyStmt): CopyFormat {
  const options = new Map<string, string>()
  for (const option of statement.options ?? []) {
    if ('DefElem' in option) options.set((option.DefElem.defname ?? '').toLowerCase(), optionValue(option.DefElem.arg))
  }
  const take = (name: string): string | undefined => {
    const value = options.get(name)
    options.delete(name)
    return value
  }
  const format = (take('format') ?? 'text').toLowerCase()
  const header = take('header')?.toLowerCase() ?? 'false'
  const encoding = take('encoding')
  const quote = take('quote') ?? '"'
  const known = format === 'text' || format === 'csv' || format === 'binary'
  const result = {
    format: known ? (format as CopyFormat['format']) : ('text' as const),
    delimiter: take('delimiter') ?? (format === 'csv' ? ',' : '\t'),
    null: take('null') ?? (format === 'csv' ? '' : '\\N'),
    header: /^(true|on|1|)$/.test(header),
    quote,
    escape: take('escape') ?? quote,
  }
  const [unknown] = [...options.keys()].filter((name) => !HARMLESS.has(name))
  let undecided: string | undefined
  if (!known) undecided = `the format ${format}`
  else if (unknown !== undefined) undecided = `the option ${unknown}`
  else if (header === 'match') undecided = 'HEADER MATCH'
  else if (encoding !== undefined && !/^utf-?8$/i.test(encoding)) undecided = `the encoding ${encoding}`
  else if (statement.whereClause !== undefined) undecided = 'its WHERE clause'
  return { ...result, undecided }
}

/** An option without a value is on. */
function optionValue(node: Node | undefined): string {
  if (node === undefined) return 'true'
  if ('String' in node) return node.String.sval ?? ''
  if ('Integer' in node) return String(node.Integer.ival ?? 0)
  if ('Boolean' in node) return String(node.Boolean.boolval ?? false)
  return ''
}
