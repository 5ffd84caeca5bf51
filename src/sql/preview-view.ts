import type { RangeVar, SelectStmt } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { deparse, parseOne } from './grammar.js'
import {
  type Command,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  refuseRules,
  type Target,
} from './preview-parts.js'
import { nameParts, quoteName, quoteText } from './tree.js'

interface Layer {
  readonly name: string
  readonly select: SelectStmt
  readonly names: readonly string[]
  /** What the query calls the relation below. */
  readonly below: string
  readonly checked: boolean
}

/** Bits of `pg_trigger.tgtype`. */
const INSTEAD_OF = 64
const EVENTS: Readonly<Record<Command, number>> = { INSERT: 4, DELETE: 8, UPDATE: 16, UPSERT: 20, MERGE: 28 }
const MAX_LAYERS = 20

/** Finds the table an automatically updatable view writes to. @throws PreviewUnsupported */
export async function viewTarget(
  view: Table,
  relation: RangeVar,
  command: Command,
  options: PreviewOptions,
): Promise<Target> {
  const layers: Layer[] = []
  let columnOf = new Map((view.columns ?? []).map(({ name }) => [name, name]))
  const defaults = new Map<string, string>()
  let cascaded = false
  let table = view
  let from: RangeVar = relation
  while (table.kind === 'v') {
    refuseRules(table, command)
    const instead = table.triggerTypes?.find(({ type }) => (type & INSTEAD_OF) !== 0 && (type & EVENTS[command]) !== 0)
    if (instead !== undefined) {
      if (command === 'UPSERT') {
        throw new PreviewUnsupported(`trigger ${instead.name} of ${table.name} acts instead`)
      }
      // Its rows are all the trigger gets, so what the view is made of does not matter.
      if (layers.length === 0) return plainTarget(table, relation)
      break
    }
    if (layers.length >= MAX_LAYERS) throw new PreviewUnsupported('too many views over views')
    cascaded ||= table.checkOption === 'cascaded'
    const layer = layerOf(table, cascaded || table.checkOption === 'local')
    for (const { name, default: expression } of table.columns ?? []) {
      const known = [...columnOf].find(([, below]) => below === name)?.[0]
      if (known !== undefined && expression !== null && !defaults.has(known)) defaults.set(known, expression)
    }
    columnOf = through(columnOf, layer)
    const item = layer.select.fromClause?.[0]
    if (item === undefined || !('RangeVar' in item)) throw new PreviewUnsupported(`${table.name} cannot be written`)
    from = item.RangeVar
    layers.unshift(layer)
    const schema = from.schemaname ? `${quoteName(from.schemaname)}.` : ''
    table = await options.lookup(schema + quoteName(from.relname ?? ''))
  }
  if (!'rpv'.includes(table.kind)) throw new PreviewUnsupported(`${table.name} is no plain table`)
  refuseRules(table, command)
  const columns = table.columns ?? []
  const alias = relation.alias?.aliasname ?? relation.relname ?? ''
  const base: Target = {
    relation: { ...from, relname: table.name, schemaname: table.schema },
    table,
    columns,
    alias: 'r__',
    quotedAlias: 'r__',
    visible: columns.map(({ name }) => name),
    rowType: '',
  }
  const tableDefaults = new Map<string, string>()
  for (const [name, expression] of defaults) {
    const column = columnOf.get(name)
    if (column !== undefined) tableDefaults.set(column, expression)
  }
  return {
    relation,
    table,
    columns,
    alias,
    quotedAlias: quoteName(alias),
    visible: (view.columns ?? []).map(({ name }) => name),
    rowType: `${quoteName(view.schema)}.${quoteName(view.name)}`,
    view: {
      columnOf,
      defaults: tableDefaults,
      oldRows: (using, name) => oldRows(layers, base, using, name),
      shown: (row) => shown(layers, columns, row),
      checks: (row) => checks(layers, columns, row),
    },
  }
}

/** A table, or a view that triggers write, as the statement names it. */
export function plainTarget(table: Table, relation: RangeVar): Target {
  const columns = table.columns ?? []
  const alias = relation.alias?.aliasname ?? relation.relname ?? ''
  const visible = columns.map(({ name }) => name)
  const rowType = `${quoteName(table.schema)}.${quoteName(table.name)}`
  return { relation, table, columns, visible, rowType, alias, quotedAlias: quoteName(alias) }
}

function layerOf(view: Table, checked: boolean): Layer {
  const node = parseOne(view.view ?? '')
  const select = 'SelectStmt' in node ? node.SelectStmt : undefined
  const item = select?.fromClause?.[0]
  const source = item !== undefined && 'RangeVar' in item ? item.RangeVar : undefined
  const simple =
    select?.fromClause?.length === 1 &&
    source !== undefined &&
    !source.alias?.colnames?.length &&
    !select.groupClause &&
    !select.distinctClause &&
    !select.withClause &&
    !select.limitCount &&
    !select.limitOffset &&
    !select.havingClause
  if (!simple) throw new PreviewUnsupported(`${view.name} is not over one table`)
  const names = (view.columns ?? []).map(({ name }) => name)
  if (select.targetList?.length !== names.length) throw new PreviewUnsupported(`${view.name} has changed`)
  return { name: view.name, select, names, below: source.alias?.aliasname ?? source.relname ?? '', checked }
}

/** The columns of the relation below that the view's plain columns stand for. */
function through(columnOf: ReadonlyMap<string, string>, layer: Layer): Map<string, string> {
  const below = new Map<string, string>()
  for (const [index, item] of (layer.select.targetList ?? []).entries()) {
    const value = 'ResTarget' in item ? item.ResTarget.val : undefined
    const column = value !== undefined && 'ColumnRef' in value ? nameParts(value.ColumnRef.fields).at(-1) : undefined
    if (column !== undefined) below.set(layer.names[index] ?? '', column)
  }
  return new Map(
    [...columnOf].flatMap(([name, via]) => {
      const column = below.get(via)
      return column === undefined ? [] : [[name, column] as const]
    }),
  )
}

function oldRows(layers: readonly Layer[], base: Target, options: PreviewOptions, alias: string): string {
  const own = base.columns.map(({ name }) => `r__.${quoteName(name)}`)
  const hidden = base.columns.map((_, index) => `b${index}__`)
  const kept = base.columns.map(({ name }, index) => `r__.${quoteName(name)} AS ${hidden[index]}`)
  let text = `SELECT r__.tableoid AS to__, r__.ctid AS ctid__, ${[...kept, ...own].join(', ')} FROM ${readFrom(base, options, 'r__')}`
  for (const layer of layers) {
    const below = quoteName(layer.below)
    const carried = ['to__', 'ctid__', ...hidden].map((name) => `${below}.${name}`)
    const where = layer.select.whereClause === undefined ? '' : ` WHERE ${deparse(layer.select.whereClause)}`
    text = `SELECT ${[...columnsOf(layer), ...carried].join(', ')} FROM (${text}) AS ${below}${where}`
  }
  return `(${text}) AS ${quoteName(alias)}`
}

function columnsOf(layer: Layer): string[] {
  return (layer.select.targetList ?? []).map((item, index) => {
    const value = 'ResTarget' in item ? item.ResTarget.val : undefined
    if (value === undefined) throw new PreviewUnsupported(`column ${index + 1} of ${layer.name}`)
    return `(${deparse(value)}) AS ${quoteName(layer.names[index] ?? '')}`
  })
}

function rowOf(columns: readonly Column[], row: string): string {
  return `SELECT ${columns.map(({ name }) => `${row}.${quoteName(name)} AS ${quoteName(name)}`).join(', ')}`
}

function shown(layers: readonly Layer[], columns: readonly Column[], row: string): string {
  return layers.reduce(
    (text, layer) => `SELECT ${columnsOf(layer).join(', ')} FROM (${text}) AS ${quoteName(layer.below)}`,
    rowOf(columns, row),
  )
}

function checks(layers: readonly Layer[], columns: readonly Column[], row: string): string[] {
  return layers.flatMap((layer, index) => {
    if (!layer.checked || layer.select.whereClause === undefined) return []
    const below = shown(layers.slice(0, index), columns, row)
    const label = quoteText(`44000:${layer.name}`)
    return [
      `(SELECT CASE WHEN (${deparse(layer.select.whereClause)}) IS NOT TRUE THEN ${label} END FROM (${below}) AS ${quoteName(layer.below)})`,
    ]
  })
}
