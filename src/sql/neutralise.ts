import type { FuncCall, Node, ResTarget } from '@pgsql/types'
import { functionKind } from './functions.js'
import { deparse, parseExpression } from './grammar.js'
import { nameParts, replace } from './tree.js'

/** What was taken out of a statement so that it can be executed in a dry run. */
export interface Neutralised {
  /** One sentence each, for the report. */
  readonly notes: readonly string[]
  /** Ids handed out instead of `nextval`. */
  readonly syntheticIds: readonly string[]
}

/**
 * Takes row locks and calls with a lasting effect out of a statement, in place:
 * locks are dropped, advisory locks are always granted, sequences give
 * synthetic ids. Calls that have no harmless stand-in are left, so classify
 * the result before running it.
 */
export function neutralise(root: Node, syntheticId: () => string): Neutralised {
  const notes = new Set<string>()
  const syntheticIds: string[] = []
  const standIn = (call: FuncCall): Node | undefined => {
    const path = nameParts(call.funcname)
    const name = path.at(-1) ?? ''
    if (functionKind(path) !== 'denied') return undefined
    const expression = standInFor(name, call, () => {
      const id = syntheticId()
      syntheticIds.push(id)
      return id
    })
    if (expression === undefined) return undefined
    notes.add(`${name}() was not called`)
    return parseExpression(expression)
  }
  replace(root, (node) => {
    if ('lockingClause' in node) {
      delete node['lockingClause']
      notes.add('row locks were not taken')
    }
    // A constant is no FROM item, so a function there has no stand-in.
    if ('RangeFunction' in node) return node as Node
    if ('ResTarget' in node) {
      const target = node['ResTarget'] as ResTarget
      // The result column keeps the name the call would have given it.
      if (target.name === undefined && target.val !== undefined && 'FuncCall' in target.val) {
        const swapped = standIn(target.val.FuncCall)
        if (swapped !== undefined) {
          target.name = nameParts(target.val.FuncCall.funcname).at(-1)
          target.val = swapped
        }
      }
      return undefined
    }
    return 'FuncCall' in node ? standIn(node['FuncCall'] as FuncCall) : undefined
  })
  return { notes: [...notes], syntheticIds }
}

const VOID = "CAST('' AS void)"

function standInFor(name: string, call: FuncCall, syntheticId: () => string): string | undefined {
  const second = call.args?.[1]
  if (/^pg_try_advisory_|^pg_advisory_unlock(_shared)?$/.test(name)) return 'true'
  if (/^pg_advisory_|^pg_notify$|^setseed$/.test(name)) return VOID
  if (name === 'nextval') return `CAST(${syntheticId()} AS bigint)`
  if (name === 'setval' && second !== undefined) return `CAST((${deparse(second)}) AS bigint)`
  if (name === 'set_config' && second !== undefined) return `CAST((${deparse(second)}) AS text)`
  // The real ones use up a transaction id.
  if (name === 'txid_current') return 'txid_snapshot_xmax(txid_current_snapshot())'
  if (name === 'pg_current_xact_id') return 'pg_snapshot_xmax(pg_current_snapshot())'
  return undefined
}
