import type { Table } from './catalog.js'
import type { InnerRewrite, Target } from './preview-parts.js'

/** A write's main SELECT, and what is to be known of it. */
export interface RewriteResult extends InnerRewrite {
  readonly table: Table
  readonly target: Target
  /** `INSERT … ON CONFLICT DO UPDATE`. */
  readonly upsert?: boolean
  readonly syntheticIds: readonly string[]
}
