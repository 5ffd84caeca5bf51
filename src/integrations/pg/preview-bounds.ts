import { messageOf } from '../../errors.js'
import type { SecondaryEffect } from '../../journal/record.js'
import type { PreviewBounds } from '../../policy/policy.js'
import type { Cascade } from '../../sql/cascades.js'
import { type Table, tableName } from '../../sql/catalog.js'
import type { TableChanges } from '../../sql/overlay.js'
import { type PreviewQuery, PreviewUnsupported } from '../../sql/preview.js'
import type { Violation } from '../../sql/violations.js'
import type { Step } from './round.js'

/** What the bounds need of a reader. */
export interface PlanReader {
  rows(step: Step): Promise<(string | null)[][]>
}

interface Plan {
  readonly 'Node Type'?: string
  readonly 'Total Cost'?: number
  readonly 'Plan Rows'?: number
  readonly Plans?: readonly Plan[]
}

/** Asks the planner before a preview runs. @throws PreviewUnsupported above the bounds. */
export async function refuseCostly(reader: PlanReader, step: Step, bounds: PreviewBounds): Promise<void> {
  const [row] = await reader.rows({ ...step, text: `EXPLAIN (FORMAT JSON) ${step.text}` })
  // One of each statement that rules make of it; of a NOTIFY there is no plan.
  const plans = (JSON.parse(row?.[0] ?? '[]') as ({ Plan?: Plan } | string)[]).flatMap((each) =>
    typeof each === 'object' && each.Plan !== undefined ? [each.Plan] : [],
  )
  const cost = plans.reduce((sum, plan) => sum + (plan['Total Cost'] ?? 0), 0)
  const rows = plans.reduce((sum, plan) => sum + rowsOf(plan), 0)
  if (cost > bounds.cost) {
    throw new PreviewUnsupported(`its preview would cost about ${Math.round(cost)}, more than ${bounds.cost}`)
  }
  if (rows > bounds.rows) {
    throw new PreviewUnsupported(`its preview would read about ${rows} rows, more than ${bounds.rows}`)
  }
}

/** A write without RETURNING gives no rows itself; what it writes comes from below. */
function rowsOf(plan: Plan): number {
  const own = plan['Plan Rows'] ?? 0
  if (plan['Node Type'] !== 'ModifyTable') return own
  return Math.max(own, ...(plan.Plans ?? []).map((below) => below['Plan Rows'] ?? 0))
}

/** Codes of errors that say nothing of the statement: time, locks, resources, the connection, conflicts with others. */
const PASSING = /^(08|40|53|55P03|55006|57|58|XX|25)/

/**
 * Has the server plan the write itself, which executes nothing: it finds a
 * missing privilege, an ON CONFLICT without an index and a write the table
 * does not take, as live would, and says how much it is about to do.
 * @returns the error the write would fail with
 * @throws PreviewUnsupported above the bounds
 */
export async function refusalOfPlanner(
  reader: PlanReader,
  step: Step,
  bounds: PreviewBounds,
): Promise<Violation | undefined> {
  try {
    await refuseCostly(reader, step, bounds)
    return undefined
  } catch (error) {
    const { code, message, ...fields } = error as Violation & Error
    if (error instanceof PreviewUnsupported || code === undefined || PASSING.test(code)) throw error
    const { detail, schema, table, column, constraint } = fields
    return { code, message, ...withoutUndefined({ detail, schema, table, column, constraint }) }
  }
}

function withoutUndefined<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never
}

/** Bits of `pg_trigger.tgtype`. */
const EVENTS: Readonly<Record<string, number>> = { i: 4, d: 8, u: 16 }

/** What would happen besides: rules that fire, triggers and policies of the written tables, and rows that foreign keys change. */
export async function secondaryOf(
  query: PreviewQuery,
  changes: readonly TableChanges[],
  cascades: (table: Table, sql: string) => Promise<readonly Cascade[]>,
): Promise<{ secondary: SecondaryEffect[]; notes: string[]; violation: Violation | undefined }> {
  const secondary: SecondaryEffect[] = (query.fired ?? []).map(({ target, name }) => ({ kind: 'rule', target, name }))
  const notes: string[] = []
  let violation: Violation | undefined
  const written = [...query.parts, ...(query.table === null ? [] : [{ table: query.table, sql: query.sql }])]
  for (const [at, { table, sql }] of written.entries()) {
    const target = tableName(table)
    const rows = changes.filter((change) => change.table === table).flatMap((change) => change.rows)
    const events = new Set(rows.map(({ operation }) => EVENTS[operation] ?? 0))
    // Rules may write one table several times.
    const told = written.slice(0, at).some((other) => other.table.oid === table.oid)
    for (const { name, type } of told ? [] : (table.triggerTypes ?? [])) {
      if ([...events].some((event) => (type & event) !== 0)) secondary.push({ kind: 'trigger', target, name })
    }
    if (table.rowSecurityActive && !told) {
      for (const { name } of table.policies ?? []) secondary.push({ kind: 'policy', target, name })
    }
    try {
      for (const { table: child, name, action, rows: count, violation: raised } of await cascades(table, sql)) {
        violation ??= raised
        secondary.push({ kind: 'cascade', target: child, name, rows: count })
        notes.push(`${count} ${count === 1 ? 'row' : 'rows'} of ${child} would change with them: ${action} (${name})`)
      }
    } catch (error) {
      // The write itself is worked out; what it drags along is told as unknown.
      notes.push(`what foreign keys would change along is not known: ${messageOf(error)}`)
    }
  }
  return { secondary, notes, violation }
}
