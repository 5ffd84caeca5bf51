import type { Preview } from '../../journal/record.js'
import type { PreviewBounds } from '../../policy/policy.js'
import type { Table } from '../../sql/catalog.js'
import type { ConstraintModes } from '../../sql/constraint-modes.js'
import type { TableChanges } from '../../sql/overlay.js'
import type { OverlaySlot } from '../../sql/overlay-rewrite.js'
import type { PreviewOptions, PreviewQuery } from '../../sql/preview.js'
import type { Violation } from '../../sql/violations.js'
import type { OverlaidPreview } from './overlaid.js'
import type { StandIns } from './stand-ins.js'

export interface PreviewRequest {
  readonly text: string
  /** In the driver's wire form. */
  readonly values: readonly unknown[]
  /** Types the server gave the parameters. */
  readonly types: readonly number[] | undefined
  syntheticId(kind: 'integer' | 'smallint'): string
  /** True for ids the run has made up. */
  madeUp(value: string): boolean
  /** What the run has done so far; undefined to read the data as it is. */
  readonly own?: OverlaidPreview
  /** The data is known not to be what the run has made of it: a duplicate is a guess. */
  readonly outdated?: boolean
  readonly bounds?: PreviewBounds
  /** The planner cannot be asked over this connection: EXPLAIN takes no parameters there. */
  readonly unplanned?: boolean
  /** The statement stands for another one (a COPY), and is no write the server would take. */
  readonly invented?: boolean
  readonly withoutRules?: PreviewOptions['withoutRules']
  /** Names the database and its user: what the planner has let pass there is not asked again for a while. */
  readonly place?: string
  /** The same of one table, by oid. */
  stale?(oid: string): boolean
  /** When deferrable constraints are checked. */
  modes?(): ConstraintModes
  /** Tables looked up lately. */
  readonly tables?: { get(relation: string): Table | undefined; set(relation: string, table: Table): void }
  /** Virtual columns are left out: computing them failed, which the write itself does not do. */
  readonly stored?: boolean
  /** Told of a preview that would be the same for the same text, but for its values and ids. */
  learn?(preview: LearnedPreview): void
}

/** A preview worked out before. Its texts have stand-ins where a run's ids go. */
export interface LearnedPreview {
  readonly query: PreviewQuery
  readonly ids: StandIns
  readonly text: string
  readonly slots: readonly OverlaySlot[]
  readonly slotTypes: readonly number[]
}

/** What a blocked write would have done. */
export interface PreviewOutcome {
  readonly preview: Preview
  /** Command tag of the real execution. */
  readonly tag: string
  /** RETURNING rows, or the rows of a SELECT over data-modifying WITH. */
  readonly rows: readonly (string | null)[][]
  readonly syntheticIds: readonly string[]
  /** The error real execution would certainly have raised. */
  readonly violation: Violation | undefined
  /** Nothing was left out that could change the result. */
  readonly exact: boolean
  /** Every row that would be written, at most one more than an overlay holds. */
  readonly changes: readonly TableChanges[]
}
