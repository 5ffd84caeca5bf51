/** A trigger that is not switched off; `type` is the bit mask of `pg_trigger.tgtype`. */
export interface Trigger {
  readonly name: string
  readonly type: number
}

/** A trigger that fires in this session, with what is needed to follow it. */
export interface FollowedTrigger extends Trigger {
  /** The statement that creates it. */
  readonly definition: string
  /** Of a partition: it comes from the partitioned table. */
  readonly clone: boolean
  /** Fires at the end of the transaction. */
  readonly deferred: boolean
  /** `CREATE FUNCTION` of its function, null where that is not PL/pgSQL. */
  readonly body: string | null
  /** The function's name without its schema. */
  readonly calls: string
  /** The function runs as its owner. */
  readonly owner: boolean
  /** The function's own settings, such as `search_path=""`. */
  readonly settings: readonly string[] | null
  /** The table that has it for itself, by oid: a leaf of the partitioned table, or an heir. */
  readonly leaf?: string
}

/** The triggers that a write to a table may fire. */
export interface Triggers {
  readonly own: readonly FollowedTrigger[]
  /** Those that only some of the leaves have; of a plain table, those of the tables that inherit from it; else null. */
  readonly elsewhere: readonly FollowedTrigger[] | null
}
