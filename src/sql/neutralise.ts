import type { FuncCall, Node, RangeFunction, ResTarget } from '@pgsql/types'
import { ASKING_OF_ID, ASSIGNING_ID, functionKind } from './functions.js'
import { deparse, parseExpression } from './grammar.js'
import { nameParts, replace, walk } from './tree.js'

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
 * synthetic ids, the transaction's id is the next one that nobody has. Calls
 * that have no harmless stand-in are left, so classify the result before
 * running it.
 */
export function neutralise(root: Node, syntheticId: () => string): Neutralised {
  const notes = new Set<string>()
  const syntheticIds: string[] = []
  let asked = false
  walk(root, (tag, value: FuncCall) => {
    if (tag === 'FuncCall' && ASKING_OF_ID.has(nameParts(value.funcname).at(-1) ?? '')) asked = true
  })
  const standIn = (call: FuncCall): Node | undefined => {
    const path = nameParts(call.funcname)
    const name = path.at(-1) ?? ''
    if (functionKind(path) !== 'denied' || (asked && ASSIGNING_ID.has(name))) return undefined
    const expression = standInFor(name, call, () => {
      const id = syntheticId()
      syntheticIds.push(id)
      return id
    })
    if (expression === undefined) return undefined
    notes.add(ASSIGNING_ID.has(name) ? `${name}() assigned no transaction id` : `${name}() was not called`)
    return parseExpression(expression)
  }
  replace(root, (node) => {
    if ('lockingClause' in node) {
      delete node['lockingClause']
      notes.add('row locks were not taken')
    }
    if ('RangeFunction' in node) {
      const item = node['RangeFunction'] as RangeFunction
      const call = soleCall(item)
      const name = nameParts(call?.funcname).at(-1) ?? ''
      // A constant is no FROM item, so any other function there has no stand-in.
      if (call === undefined || !ASSIGNING_ID.has(name)) return node as Node
      item.alias ??= { aliasname: name }
      return undefined
    }
    if ('ResTarget' in node) {
      const target = node['ResTarget'] as ResTarget
      // The result column keeps the name the call would have given it.
      const call = target.name === undefined ? namingCall(target.val) : undefined
      if (call !== undefined && functionKind(nameParts(call.funcname)) === 'denied') {
        target.name = nameParts(call.funcname).at(-1)
      }
      return undefined
    }
    return 'FuncCall' in node ? standIn(node['FuncCall'] as FuncCall) : undefined
  })
  return { notes: [...notes], syntheticIds }
}

/** The call that is all of a FROM item. */
function soleCall({ functions = [] }: RangeFunction): FuncCall | undefined {
  const [only, ...more] = functions
  const call = only !== undefined && 'List' in only ? only.List.items?.[0] : undefined
  return call !== undefined && more.length === 0 && 'FuncCall' in call ? call.FuncCall : undefined
}

/** The call whose name a result column without an alias gets. */
function namingCall(value: Node | undefined): FuncCall | undefined {
  if (value === undefined) return undefined
  if ('FuncCall' in value) return value.FuncCall
  if ('TypeCast' in value) return namingCall(value.TypeCast.arg)
  return 'CollateClause' in value ? namingCall(value.CollateClause.arg) : undefined
}

const VOID = "CAST('' AS void)"

function standInFor(name: string, call: FuncCall, syntheticId: () => string): string | undefined {
  const second = call.args?.[1]
  if (/^pg_try_advisory_|^pg_advisory_unlock(_shared)?$/.test(name)) return 'true'
  if (/^pg_advisory_|^pg_notify$|^setseed$/.test(name)) return VOID
  if (name === 'nextval') return `CAST(${syntheticId()} AS bigint)`
  if (name === 'setval' && second !== undefined) return `CAST((${deparse(second)}) AS bigint)`
  if (name === 'set_config' && second !== undefined) return `CAST((${deparse(second)}) AS text)`
  // The real ones use up a transaction id, unless the transaction has one already.
  if (name === 'txid_current')
    return 'COALESCE(txid_current_if_assigned(), txid_snapshot_xmax(txid_current_snapshot()))'
  if (name === 'pg_current_xact_id')
    return 'COALESCE(pg_current_xact_id_if_assigned(), pg_snapshot_xmax(pg_current_snapshot()))'
  return undefined
}
