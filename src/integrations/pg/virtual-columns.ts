import type { Table } from '../../sql/catalog.js'
import type { PreviewQuery } from '../../sql/preview.js'

/**
 * A virtual column is computed when it is read. A write does not read it, so a
 * value that cannot be computed is no error of the write, unless RETURNING asks for it.
 */
export function failsOfVirtual({ table, returning }: PreviewQuery, error: { readonly code?: string }): boolean {
  const virtual = table?.columns?.some(({ generated }) => generated === 'v') ?? false
  return virtual && returning === null && /^22/.test(error.code ?? '')
}

/** The table as it is stored. */
export function withoutVirtual(table: Table): Table {
  return { ...table, columns: table.columns?.filter(({ generated }) => generated !== 'v') ?? null }
}
