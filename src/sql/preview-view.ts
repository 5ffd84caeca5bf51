import type { Node, RangeVar, SelectStmt } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { unanswered } from './foretold.js'
import { deparse, parseOne } from './grammar.js'
import {
  type Command,
  type PreviewOptions,
  PreviewUnsupported,
  readFrom,
  refuseRules,
  type Target,
} from './preview-parts.js'
import { nameParts, quoteName, quoteText, walk } from './tree.js'
import type { Trigger } from './trigger.js'
import { isReadInPart, judgedInPart, madeUpAddress } from './unreadable.js'

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

/** A trigger of a view that acts instead of the command. */
export function insteadTrigger(view: Table, command: Command): Trigger | undefined {
  return view.triggerTypes?.find(({ type }) => (type & INSTEAD_OF) !== 0 && (type & EVENTS[command]) !== 0)
}

/** Finds the table an automatically updatable view writes to. @throws PreviewUnsupported */
export async function viewTarget(
  view: Table,
  relation: RangeVar,
  command: Command,
  options: PreviewOptions,
  assigned: readonly string[],
): Promise<Target> {
  const layers: Layer[] = []
  let columnOf = new Map((view.columns ?? []).map(({ name }) => [name, name]))
  const defaults = new Map<string, string>()
  let cascaded = false
  let table = view
  let from: RangeVar = relation
  const stopAt = options.rules?.stopAt
  let triggered = false
  while (table.kind === 'v' && table.oid !== stopAt) {
    refuseRules(table, command, options)
    const instead = insteadTrigger(table, command)
    if (instead !== undefined) {
      if (command === 'UPSERT') {
        throw new PreviewUnsupported(`trigger ${instead.name} of ${table.name} acts instead`)
      }
      // Its rows are all the trigger gets, so what the view is made of does not matter.
      if (layers.length === 0) return plainTarget(table, relation)
      triggered = true
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
  if (table.oid !== stopAt && !triggered) {
    if (table.kind !== 'r' && table.kind !== 'p') throw new PreviewUnsupported(`${table.name} is no plain table`)
    refuseRules(table, command, options)
  }
  // Whoever may not read the table still reads it through the view, with its owner's rights.
  const indirect = table.kind !== 'v' && isReadInPart(table)
  if (indirect) table = throughView(view, table, columnOf)
  const written = assigned.flatMap((name) => columnOf.get(name) ?? [])
  if (table.kind !== 'v') table = judgedInPart(table, command === 'INSERT' ? undefined : new Set(written))
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
      oldRows: (using, name) =>
        indirect ? rowsOfView(view, { ...base, relation }, columnOf, using, name) : oldRows(layers, base, using, name),
      shown: (row) => shown(layers, columns, row),
      // What the view does not show may decide.
      checks: (row) => (table.unreadable?.length ? [] : checks(layers, columns, row)),
    },
  }
}

/** The table as far as the view shows it. */
function throughView(view: Table, table: Table, columnOf: ReadonlyMap<string, string>): Table {
  const closed = new Set(view.unreadable ?? [])
  const shown = new Set([...columnOf].flatMap(([name, column]) => (closed.has(name) ? [] : [column])))
  const unreadable = (table.columns ?? []).flatMap(({ name }) => (shown.has(name) ? [] : [name]))
  // Rows the view does not show may have the same key.
  const indexes = table.indexes?.map((index) => ({ ...index, unreadable: true })) ?? null
  return { ...table, unreadable, indexes }
}

/** The same FROM item as {@link oldRows}, read from the view itself. */
function rowsOfView(
  view: Table,
  { relation, table, columns }: Target,
  columnOf: ReadonlyMap<string, string>,
  options: PreviewOptions,
  alias: string,
): string {
  if (options.source?.(table, alias) !== undefined) {
    throw new PreviewUnsupported(`${table.name} may not be read, and the run has written it`)
  }
  const closed = new Set(view.unreadable ?? [])
  const visible = (view.columns ?? []).map(({ name, type }) => {
    return `${closed.has(name) ? `CAST(NULL AS ${type})` : `r__.${quoteName(name)}`} AS ${quoteName(name)}`
  })
  const kept = columns.map(({ name, type }, index) => {
    const via = [...columnOf].find(([shown, column]) => column === name && !closed.has(shown))?.[0]
    return `${via === undefined ? `CAST(NULL AS ${type})` : `r__.${quoteName(via)}`} AS b${index}__`
  })
  const list = [...madeUpAddress(table, ['to__', 'ctid__']), ...kept, ...visible]
  const from = deparse({ RangeVar: { ...relation, alias: { aliasname: 'r__' } } })
  return `(SELECT ${list.join(', ')} FROM ${from}) AS ${quoteName(alias)}`
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
  own.push(...systemColumns(layers, base.columns).map((name) => `r__.${name} AS ${name}`))
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
  const unknown = systemColumns(layers, columns).map(
    (name) => `, ${unanswered(`${name} of a row that is not there yet`, SYSTEM[name] ?? '')} AS ${name}`,
  )
  return layers.reduce(
    (text, layer) => `SELECT ${columnsOf(layer).join(', ')} FROM (${text}) AS ${quoteName(layer.below)}`,
    rowOf(columns, row) + unknown.join(''),
  )
}

const SYSTEM: Readonly<Record<string, string>> = {
  tableoid: 'oid',
  ctid: 'tid',
  xmin: 'xid',
  xmax: 'xid',
  cmin: 'cid',
  cmax: 'cid',
}

/** The system columns of the table that the lowest view shows. */
function systemColumns([lowest]: readonly Layer[], columns: readonly Column[]): string[] {
  const found = new Set<string>()
  walk(lowest?.select, (tag, value: { fields?: Node[] }) => {
    const name = tag === 'ColumnRef' ? nameParts(value.fields).at(-1) : undefined
    if (name !== undefined && Object.hasOwn(SYSTEM, name) && !columns.some((column) => column.name === name)) {
      found.add(name)
    }
  })
  return [...found]
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
