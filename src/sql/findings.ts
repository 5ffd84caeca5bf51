import type { FuncCall, RangeVar } from '@pgsql/types'
import { functionKind } from './functions.js'
import { nameParts, relationName, walk } from './tree.js'

/** Tags of the statements that write rows, with their commands. */
export const WRITING = new Map([
  ['InsertStmt', 'INSERT'],
  ['UpdateStmt', 'UPDATE'],
  ['DeleteStmt', 'DELETE'],
  ['MergeStmt', 'MERGE'],
])

/** What a syntax tree writes, calls and names, at any depth. */
export interface Findings {
  writes: { operation: string; relation: string | undefined }[]
  functions: Set<string>
  denied: Set<string>
  unknown: Set<string>
  relations: Set<string>
  locks: boolean
  upsert: boolean
}

export function findings(root: unknown): Findings {
  const found: Findings = {
    writes: [],
    functions: new Set(),
    denied: new Set(),
    unknown: new Set(),
    relations: new Set(),
    locks: false,
    upsert: false,
  }
  const local = new Set<string>()
  const written = new Set<string>()
  walk(root, (tag, value: never) => {
    switch (tag) {
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt': {
        const relation = relationName((value as { relation?: RangeVar }).relation)
        found.writes.push({ operation: WRITING.get(tag) ?? tag, relation })
        if (relation !== undefined) {
          found.relations.add(relation)
          written.add(relation)
        }
        if (tag === 'MergeStmt') found.upsert = true
        return
      }
      case 'onConflictClause':
        if ((value as { action?: string }).action === 'ONCONFLICT_UPDATE') found.upsert = true
        return
      case 'intoClause':
      case 'into':
        found.writes.push({
          operation: 'SELECT INTO',
          relation: relationName((value as { rel?: RangeVar }).rel),
        })
        return
      case 'lockingClause':
        found.locks = true
        return
      case 'CommonTableExpr':
        local.add((value as { ctename?: string }).ctename ?? '')
        return
      case 'RangeVar':
      case 'relation': {
        const relation = relationName(value as RangeVar)
        if (relation !== undefined) found.relations.add(relation)
        return
      }
      case 'FuncCall':
      case 'funccall': {
        const path = nameParts((value as FuncCall).funcname)
        const name = path.at(-1) ?? ''
        const known = functionKind(path)
        // PostgreSQL itself has no procedures: one that is called like a function of its own is the application's.
        const kind = tag === 'funccall' && known === 'safe' ? 'unknown' : known
        found.functions.add(name)
        if (kind === 'denied') found.denied.add(name)
        else if (kind === 'unknown') found.unknown.add(name)
      }
    }
  })
  // What a WITH clause names is known only at the end.
  for (const name of local) if (!written.has(name)) found.relations.delete(name)
  return found
}
