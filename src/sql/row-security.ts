import type { Column, Policy, Table } from './catalog.js'
import { quoteName } from './tree.js'

/** Whether a policy speaks for a command: `a` insert, `w` update, `d` delete, `r` select. */
function appliesTo(policy: Policy, command: string): boolean {
  return policy.command === command || policy.command === '*'
}

/**
 * What row security demands of a row, as a condition; undefined when it is not
 * in force. `using` is about rows that are there, `check` about new ones.
 */
export function policyTest(
  table: Table,
  command: 'a' | 'w' | 'd' | 'r',
  kind: 'using' | 'check',
  column: (column: Column) => string,
): string | undefined {
  if (!table.rowSecurityActive) return undefined
  const found = (table.policies ?? []).filter((policy) => appliesTo(policy, command))
  const condition = (policy: Policy) =>
    `(${(kind === 'check' ? (policy.check ?? policy.using) : policy.using) ?? 'true'})`
  const permissive = found.filter((policy) => policy.permissive).map(condition)
  const restrictive = found.filter((policy) => !policy.permissive).map(condition)
  const all = [permissive.length === 0 ? 'false' : `(${permissive.join(' OR ')})`, ...restrictive]
  // A policy names the columns bare, or by the table.
  const row = (table.columns ?? []).map((each) => `${column(each)} AS ${quoteName(each.name)}`)
  return `(SELECT ${all.join(' AND ')} FROM (SELECT ${row.join(', ')}) AS ${quoteName(table.name)})`
}
