import type { Table } from './catalog.js'
import type { Target } from './preview-parts.js'

/** A write's main SELECT, and what is to be known of it. */
export interface RewriteResult {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | 'MERGE'
  readonly table: Table
  readonly target: Target
  /** Number of RETURNING columns, null without RETURNING. */
  readonly returning: number | null
  /** `INSERT … ON CONFLICT DO UPDATE`. */
  readonly upsert?: boolean
  /** Columns by which conflicts are found and that DO UPDATE assigns. */
  readonly rekeys?: readonly string[]
  /** Of DO UPDATE: names of the constraints or indexes whose conflicts it handles. */
  readonly arbiters?: readonly string[]
  readonly syntheticIds: readonly string[]
  readonly sql: string
}
