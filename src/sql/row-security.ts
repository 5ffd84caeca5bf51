import type { Column, Policy, Table } from './catalog.js'
import { quoteName, quoteText } from './tree.js'

/** `a` insert, `w` update, `d` delete, `r` select. */
type PolicyCommand = 'a' | 'w' | 'd' | 'r'

/** What is asked of a policy: `using` is about rows that are there, `check` about new ones. */
type PolicyKind = 'using' | 'check'

function appliesTo(policy: Policy, command: PolicyCommand): boolean {
  return policy.command === command || policy.command === '*'
}

/** A policy's condition; undefined when it has none, and then it permits nothing and restricts nothing. */
function conditionOf(policy: Policy, kind: PolicyKind): string | undefined {
  return (kind === 'check' ? (policy.check ?? policy.using) : policy.using) ?? undefined
}

function conditions(table: Table, command: PolicyCommand, kind: PolicyKind) {
  const found = (table.policies ?? []).flatMap((policy) => {
    const condition = appliesTo(policy, command) ? conditionOf(policy, kind) : undefined
    return condition === undefined ? [] : [{ policy, condition: `(${condition})` }]
  })
  const permissive = found.filter(({ policy }) => policy.permissive).map(({ condition }) => condition)
  return {
    permissive: permissive.length === 0 ? 'false' : `(${permissive.join(' OR ')})`,
    restrictive: found.filter(({ policy }) => !policy.permissive),
  }
}

/** A FROM item under which a policy's text finds the row: it names the columns bare, or by the table. */
function asTable(table: Table, column: (column: Column) => string): string {
  const row = (table.columns ?? []).map((each) => `${column(each)} AS ${quoteName(each.name)}`)
  return `(SELECT ${row.join(', ')}) AS ${quoteName(table.name)}`
}

/** What row security demands of a row, as a condition; undefined when it is not in force. */
export function policyTest(
  table: Table,
  command: PolicyCommand,
  kind: PolicyKind,
  column: (column: Column) => string,
): string | undefined {
  if (!table.rowSecurityActive) return undefined
  const { permissive, restrictive } = conditions(table, command, kind)
  const all = [permissive, ...restrictive.map(({ condition }) => condition)]
  return `(SELECT ${all.join(' AND ')} FROM ${asTable(table, column)})`
}

/** Of which row a policy is said to be violated, in the server's words. */
type Subject = 'new' | 'target' | 'conflicting'

/** The label of the policies that a row violates, as a text that is NULL when there are none. */
export function policyLabel(
  table: Table,
  [command, kind]: readonly [PolicyCommand, PolicyKind],
  column: (column: Column) => string,
  subject: Subject = 'new',
): string[] {
  if (!table.rowSecurityActive) return []
  const label = (policy: string) =>
    quoteText(
      `42501m${subject === 'target' ? 'target' : 'new'} row violates row-level security policy ${policy}` +
        `${subject === 'new' ? '' : '(USING expression) '}for table "${table.name}"`,
    )
  const { permissive, restrictive } = conditions(table, command, kind)
  const cases = [
    `WHEN ${permissive} IS NOT TRUE THEN ${label('')}`,
    ...restrictive.map(({ policy, condition }) => `WHEN ${condition} IS NOT TRUE THEN ${label(`"${policy.name}" `)}`),
  ]
  return [`(SELECT CASE ${cases.join(' ')} END FROM ${asTable(table, column)})`]
}

/** What a new row must meet, as {@link policyLabel}; `reads` is for statements that need the right to SELECT. */
export function newRowLabels(
  table: Table,
  command: 'a' | 'w',
  reads: boolean,
  column: (column: Column) => string,
): string[] {
  const own = policyLabel(table, [command, 'check'], column)
  return reads ? [...own, ...policyLabel(table, ['r', 'using'], column)] : own
}

/** The first of several labels. */
export function firstLabel(labels: readonly string[]): string {
  return labels.length === 0 ? 'NULL' : `coalesce(${labels.join(', ')})`
}
