import type { Table } from './catalog.js'
import type { InnerRewrite, Target } from './preview-parts.js'

/** A write's main SELECT, and what is to be known of it. */
export interface RewriteResult extends InnerRewrite {
  readonly table: Table
  readonly target: Target
  /** `INSERT … ON CONFLICT DO UPDATE`. */
  readonly upsert?: boolean
  /** Columns by which conflicts are found and that DO UPDATE assigns. */
  readonly rekeys?: readonly string[]
  /** Of DO UPDATE: names of the constraints or indexes whose conflicts it handles. */
  readonly arbiters?: readonly string[]
  readonly syntheticIds: readonly string[]
}
