import { castTo } from './preview-parts.js'
import { quoteName, quoteText } from './tree.js'
import { both, type Layers } from './trigger-layers.js'
import type { Acting, Outcome } from './trigger-program.js'
import type { Call, Row } from './trigger-scope.js'

/** Trigger functions that come with PostgreSQL. */
export function builtIn(
  call: Call,
  row: Acting,
  layers: Layers,
  changed: ReadonlySet<string> | undefined,
): Outcome | undefined {
  const { trigger, event, timing, table, arguments: given } = call
  const { fresh, old, live } = row
  if (trigger.body !== null || timing !== 'BEFORE' || fresh === null) return undefined
  const columns = table.columns ?? []
  const column = columns.find(({ name }) => name === given[0])
  const assigned = (value: string): Outcome | undefined => {
    if (column === undefined) return undefined
    const known = fresh.get(column.name) ?? 'NULL'
    const next = layers.value(`CASE WHEN ${live} THEN ${castTo(column, value)} ELSE ${known} END`)
    return { fresh: new Map(fresh).set(column.name, next), skipped: 'false', raised: undefined }
  }
  switch (trigger.calls) {
    case 'suppress_redundant_updates_trigger': {
      if (event !== 'UPDATE' || old === null) return undefined
      const whole = `${quoteName(table.schema)}.${quoteName(table.name)}`
      const rowOf = (values: Row) =>
        `CAST(ROW(${columns.map(({ name, generated }) => (generated ? 'NULL' : values.get(name))).join(', ')}) AS ${whole})`
      const skipped = layers.value(both(live, `${rowOf(fresh)} OPERATOR(pg_catalog.*=) ${rowOf(old)}`))
      return { fresh, skipped, raised: undefined }
    }
    case 'moddatetime':
      return event === 'UPDATE' ? assigned('now()') : undefined
    case 'tsvector_update_trigger': {
      const [, config = '', ...names] = given
      if (event === 'UPDATE' && changed !== undefined && !names.some((name) => changed.has(name))) {
        return { fresh, skipped: 'false', raised: undefined }
      }
      const texts = names.map((name) => `coalesce(CAST(${fresh.get(name)} AS text), '')`)
      return assigned(`to_tsvector(CAST(${quoteText(config)} AS regconfig), ${texts.join(" || ' ' || ")})`)
    }
    default:
      return undefined
  }
}
