import type { Node, RuleStmt } from '@pgsql/types'
import type { Table } from './catalog.js'
import { parseOne } from './grammar.js'
import { PreviewUnsupported, rulesFor } from './preview-parts.js'

/** A command that rules can be for. */
export type RuledCommand = 'INSERT' | 'UPDATE' | 'DELETE'

/** A rule that fires, read from its definition. */
export interface FiringRule {
  readonly name: string
  readonly instead: boolean
  readonly condition: Node | undefined
  /** Empty for NOTHING. */
  readonly actions: readonly Node[]
}

/** The rules of a relation for a command, in the order in which they fire. @throws PreviewUnsupported */
export function firingRules(table: Table, command: RuledCommand): FiringRule[] {
  return rulesFor(table, command).map(({ name, definition }) => {
    const node = parseOne(definition)
    if (!('RuleStmt' in node)) throw new PreviewUnsupported(`rule ${name} cannot be read`)
    const { instead = false, whereClause, actions = [] } = node.RuleStmt as RuleStmt
    return { name, instead, condition: whereClause, actions }
  })
}
