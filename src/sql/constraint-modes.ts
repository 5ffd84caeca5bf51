import { parseOne } from './grammar.js'

/**
 * When deferrable constraints are checked: `now` at the end of the statement,
 * `initial` as they were declared; undefined where a statement has set some.
 */
export type ConstraintModes = 'now' | 'initial' | undefined

interface Deferrable {
  readonly deferrable: boolean
  readonly deferred?: boolean
}

/** True when a constraint is checked before the statement ends. */
export function isChecked({ deferrable, deferred }: Deferrable, modes: ConstraintModes): boolean {
  return !deferrable || modes === 'now' || (modes === 'initial' && deferred === false)
}

/** What SET CONSTRAINTS leaves behind. */
export function modesAfter(text: string): ConstraintModes {
  const node = parseOne(text)
  const set = 'ConstraintsSetStmt' in node ? node.ConstraintsSetStmt : undefined
  return set !== undefined && !set.constraints?.length && !set.deferred ? 'now' : undefined
}
