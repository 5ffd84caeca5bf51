import { type Exclusion, indexColumns, type Table } from './catalog.js'

/** A constraint a new row would break. */
export interface Violation {
  /** SQLSTATE. */
  readonly code: string
  readonly message: string
  readonly detail?: string
  readonly schema?: string
  readonly table?: string
  readonly column?: string
  readonly constraint?: string
}

type Row = readonly (string | null)[]

/** A label of what a trigger raises: `!` BEFORE, `~` AFTER. */
export const RAISED = /^[0-9A-Z]{5}[!~]/

/** What a label of a trigger says, and which columns of the row decided that it is raised. */
export function raisedBy(label: string): Omit<Violation, 'code'> & { readonly columns?: readonly string[] } {
  return JSON.parse(label.slice(6))
}

/**
 * The error behind a label of `viol__`, in the server's words. `row` is the new
 * row, or a deleted one; `old` the row before, where there is one.
 */
export function violationOf(table: Table, label: string, row: Row, old: Row = row): Violation {
  const code = label.slice(0, 5)
  const name = label.slice(6)
  const place = { schema: table.schema, table: table.name }
  if (RAISED.test(label)) {
    const { columns: _, ...told } = raisedBy(label)
    return { code, ...told }
  }
  const failing = { detail: `Failing row contains (${row.map((value) => value ?? 'null').join(', ')}).` }
  switch (code + label[5]) {
    case '23505:': {
      const detail = duplicateDetail(table, name, row)
      const message = `duplicate key value violates unique constraint "${name}"`
      return { code, message, constraint: name, ...place, ...(detail ? { detail } : {}) }
    }
    case '23505x': {
      const message = `duplicate key value violates unique constraint "${constraintOf(label)}"`
      return { code, message, ...expressionKey(table, name), ...place }
    }
    case '23P01:':
      return { code, ...place, ...conflictingKey(table, name) }
    case '23503:':
    case '23503f': {
      const message = `insert or update on table "${table.name}" violates foreign key constraint "${name}"`
      const detail = missingDetail(table, name, row, label[5] === 'f')
      return { code, message, constraint: name, ...place, ...(detail ? { detail } : {}) }
    }
    case '23503k':
    case '23001k':
      return { code, ...referencedKey(table, name, old, code === '23001') }
    case '23503d':
      return { code, ...missingDefault(table, name) }
    case '23514e': {
      const message = `empty WITHOUT OVERLAPS value found in column "${name}" in relation "${table.name}"`
      return { code, message }
    }
    case '23514l': {
      const [oid, constraint = ''] = parted(name)
      const leaf = table.leaves?.find((candidate) => candidate.oid === oid)?.name ?? table.name
      const message = `new row for relation "${leaf}" violates check constraint "${constraint}"`
      return { code, message, constraint, schema: table.schema, table: leaf, ...failing }
    }
    case '23514p':
      return { code, message: `new row for relation "${name}" violates partition constraint`, ...place, ...failing }
    case '23514r':
      return {
        code,
        message: `no partition of relation "${name}" found for row`,
        ...place,
        ...partitionKey(table, row),
      }
    case '21000m':
    case '42501m':
    case '55000m':
      return { code, message: name }
    case '42501:':
      return { code, message: `new row violates row-level security policy for table "${name}"` }
    case '44000:':
      return { code, message: `new row violates check option for view "${name}"`, ...failing }
    default: {
      const message = `new row for relation "${table.name}" violates check constraint "${name}"`
      return { code, message, constraint: name, ...place, ...failing }
    }
  }
}

/** `oid:name`. */
function parted(text: string): [string, string] {
  const at = text.indexOf(':')
  return [text.slice(0, at), text.slice(at + 1)]
}

/** Name of the constraint a label is about. */
export function constraintOf(label: string): string {
  const name = label.slice(6)
  return /^(23P01|23505x|23503d)/.test(label) ? ((JSON.parse(name) as string[])[0] ?? '') : name
}

function partitionKey({ columns, partitionKeys, rowSecurityActive }: Table, row: Row): { detail?: string } {
  const at = (partitionKeys ?? []).map((number) => columns?.findIndex((column) => column.number === number) ?? -1)
  if (at.length === 0 || at.includes(-1) || rowSecurityActive) return {}
  const names = at.map((index) => columns?.[index]?.name)
  const values = at.map((index) => row[index] ?? 'null')
  return { detail: `Partition key of the failing row contains (${names.join(', ')}) = (${values.join(', ')}).` }
}

function valuesOf(table: Table, names: readonly string[], row: Row): string {
  return names.map((name) => row[table.columns?.findIndex((column) => column.name === name) ?? -1] ?? 'null').join(', ')
}

function duplicateDetail(table: Table, name: string, row: Row): string | undefined {
  const index = table.indexes?.find((candidate) => (candidate.constraint ?? candidate.name) === name)
  if (index === undefined || index.numbers.includes(0)) return undefined
  const columns = indexColumns(table, index).map((column) => column.name)
  return `Key (${columns.join(', ')})=(${valuesOf(table, columns, row)}) already exists.`
}

/** The label of a key with expressions tells, as JSON, its name and the key. */
function expressionKey(table: Table, json: string): Pick<Violation, 'detail' | 'constraint'> {
  const [name = '', ...values] = JSON.parse(json) as (string | null)[]
  const constraint = name ?? ''
  const index = table.indexes?.find((candidate) => (candidate.constraint ?? candidate.name) === constraint)
  if (index === undefined || table.rowSecurityActive) return { constraint }
  const key = `(${index.keys.join(', ')})=(${values.map((value) => value ?? 'null').join(', ')})`
  return { constraint, detail: `Key ${key} already exists.` }
}

/** The label of an exclusion tells, as JSON, its name, the new key and the key that is there. */
function conflictingKey(table: Table, json: string): Pick<Violation, 'message' | 'detail' | 'constraint'> {
  const [name = '', ...values] = JSON.parse(json) as string[]
  const exclusion: Exclusion | undefined = table.exclusions?.find((candidate) => candidate.name === name)
  const message = `conflicting key value violates exclusion constraint "${name}"`
  if (exclusion === undefined || table.rowSecurityActive) return { message, constraint: name }
  const keys = exclusion.keys.join(', ')
  const width = exclusion.keys.length
  const key = (from: number) =>
    `(${keys})=(${values
      .slice(from, from + width)
      .map((value) => value ?? 'null')
      .join(', ')})`
  return { message, constraint: name, detail: `Key ${key(0)} conflicts with existing key ${key(width)}.` }
}

function missingDetail(table: Table, name: string, row: Row, mixed: boolean): string | undefined {
  const key = table.foreignKeys?.find((candidate) => candidate.name === name)
  if (mixed) return 'MATCH FULL does not allow mixing of null and nonnull key values.'
  if (key?.relation === undefined) return undefined
  const there = `is not present in table "${key.relation.name}".`
  // Row security would let the values leak.
  if (table.rowSecurityActive) return `Key ${there}`
  return `Key (${key.columns.join(', ')})=(${valuesOf(table, key.columns, row)}) ${there}`
}

/** The label of what SET DEFAULT does tells, as JSON, the foreign key's name and the default key. */
function missingDefault(table: Table, json: string): Omit<Violation, 'code'> {
  const [name = '', ...values] = JSON.parse(json) as string[]
  const reference = table.referencedBy?.find((candidate) => candidate.name === name)
  const child = reference?.relation ?? { schema: table.schema, name: '' }
  const message = `insert or update on table "${child.name}" violates foreign key constraint "${name}"`
  const detail = `Key (${reference?.columns.join(', ')})=(${values.join(', ')}) is not present in table "${table.name}".`
  return { message, detail, constraint: name, schema: child.schema, table: child.name }
}

function referencedKey(table: Table, name: string, old: Row, restricts: boolean): Omit<Violation, 'code'> {
  const reference = table.referencedBy?.find((candidate) => candidate.name === name)
  const child = reference?.relation ?? { schema: table.schema, name: reference?.table ?? '' }
  const what = restricts ? 'RESTRICT setting of foreign key constraint' : 'foreign key constraint'
  const message = `update or delete on table "${table.name}" violates ${what} "${name}" on table "${child.name}"`
  const place = { constraint: name, schema: child.schema, table: child.name }
  if (reference?.relation === undefined) return { message, ...place }
  const there = `is ${restricts ? '' : 'still '}referenced from table "${child.name}".`
  const key = `(${reference.referenced.join(', ')})=(${valuesOf(table, reference.referenced, old)})`
  return { message, detail: table.rowSecurityActive ? `Key ${there}` : `Key ${key} ${there}`, ...place }
}
