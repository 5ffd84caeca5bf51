import type { Node, RangeVar } from '@pgsql/types'
import { mayCascade } from './cascades.js'
import type { Table } from './catalog.js'
import { deparse, parseOne } from './grammar.js'
import { relationKey } from './overlay-catalog.js'
import { type PreviewOptions, PreviewUnsupported } from './preview-parts.js'
import { relationUses } from './relations.js'
import type { RewriteResult } from './rewrite-result.js'
import { quoteName } from './tree.js'

const MARKER = 'earlier writes'
const MAX_VIEWS = 20
/** Subscripts of the second half of a made-up row address; 1 is for rows of the run. */
const FIRST_PART = 2

/** True for the address of a row that an earlier one of several writes has left. */
export function isOfEarlierWrite(id: string | null): boolean {
  const part = /^0:\(\d+,(\d+)\)$/.exec(id ?? '')?.[1]
  return part !== undefined && Number(part) >= FIRST_PART
}

interface Write {
  readonly table: Table
  /** `u`, `d`: what may set foreign keys in motion. */
  readonly operations: ReadonlySet<string>
  /** Query of the leading columns, over the writes before it. */
  readonly body: string
}

/**
 * The writes that one statement becomes, in the order in which the server does
 * them: each one reads what those before it have left behind.
 */
export class EarlierWrites {
  readonly #options: PreviewOptions
  readonly #writes: Write[] = []

  constructor(options: PreviewOptions) {
    this.#options = options
  }

  /** The options for working out the next write. */
  get options(): PreviewOptions {
    const { source, countColumns, countRows } = this.#options
    return {
      ...this.#options,
      source: (table, alias) =>
        this.#written(table.oid)
          ? `${quoteName(MARKER)}.${quoteName(table.oid)} AS ${quoteName(alias)}`
          : source?.(table, alias),
      ...(countColumns && { countColumns: async (query: string) => await countColumns(await this.whole(query)) }),
      ...(countRows && { countRows: async (query: string) => await countRows(await this.whole(query)) }),
    }
  }

  /** Something was written that a query may have to see. */
  get any(): boolean {
    return this.#writes.length > 0
  }

  #written(oid: string): boolean {
    return this.#writes.some(({ table }) => table.oid === oid)
  }

  /** True when a write before may have set foreign keys in motion, which later ones would see. */
  get cascades(): boolean {
    return this.#writes.some(({ table, operations }) => mayCascade(table, operations))
  }

  /** Adds the next write, and gives its query over those before. @throws PreviewUnsupported */
  async add({ table, sql, operation, upsert }: RewriteResult): Promise<string> {
    const body = await this.#over(sql)
    const whole = this.#withEarlier(body, sql)
    const operations = new Set(operation === 'DELETE' ? ['d'] : operation === 'UPDATE' || upsert ? ['u'] : [])
    if (operation === 'MERGE') operations.add('u').add('d')
    this.#writes.push({ table, operations, body })
    return whole
  }

  /** A query over the writes before. @throws PreviewUnsupported */
  async whole(sql: string): Promise<string> {
    return this.#withEarlier(await this.#over(sql), sql)
  }

  #withEarlier(body: string, sql: string): string {
    return body === sql ? sql : `${this.#prefix()}SELECT * FROM (${body}) AS q__`
  }

  #prefix(): string {
    const texts = this.#writes.map(
      ({ body }, index) =>
        `w${index}__ AS MATERIALIZED (SELECT op__, old__, new__, viol__, id__, row_number() OVER () AS n__ FROM (${body}) AS q__)`,
    )
    return `WITH ${texts.join(', ')} `
  }

  async #over(sql: string): Promise<string> {
    if (!this.any) return sql
    const node = parseOne(sql)
    return (await this.#replaceIn(node, 0)) ? deparse(node) : sql
  }

  /** Puts the state after the writes in place of every written table. */
  async #replaceIn(root: Node, depth: number): Promise<boolean> {
    let replaced = false
    for (const { relation, replace } of relationUses(root)) {
      const item = await this.#stateOf(relation, depth)
      if (item === undefined) continue
      if (replace === undefined)
        throw new PreviewUnsupported(`${relation.relname} is read in a way that is not rewritten`)
      const alias = relation.alias ?? { aliasname: relation.relname ?? '' }
      replace({ RangeSubselect: { subquery: item, alias } })
      replaced = true
    }
    return replaced
  }

  async #stateOf(relation: RangeVar, depth: number): Promise<Node | undefined> {
    if (relation.schemaname === MARKER) return parseOne(this.#rowsOf(relation.relname ?? '', true))
    // One of the names of a preview's own.
    if (relation.schemaname === 'drytrace rows') return undefined
    const table = await this.#options.lookup(relationKey(relation))
    if (this.#written(table.oid)) return parseOne(this.#rowsOf(table.oid, false))
    const parts = this.#writes.some(
      (write) =>
        write.table.leaves?.some(({ oid }) => oid === table.oid) ||
        table.leaves?.some(({ oid }) => oid === write.table.oid),
    )
    if (parts) throw new PreviewUnsupported(`${table.name} is written under another name by the same statement`)
    if (table.kind !== 'v' || table.view === null || /^(pg_catalog|information_schema)$/.test(table.schema))
      return undefined
    if (depth >= MAX_VIEWS) throw new PreviewUnsupported('too many views over views')
    const view = parseOne(table.view)
    return (await this.#replaceIn(view, depth + 1)) ? view : undefined
  }

  /** The rows of a table after the writes so far. */
  #rowsOf(oid: string, addressed: boolean): string {
    const { table } = this.#writes.find((write) => write.table.oid === oid) as Write
    const columns = table.columns ?? []
    const parts = this.#writes.flatMap((write, index) => (write.table.oid === oid ? [index] : []))
    const gone = (address: string, from: readonly number[]) =>
      from.map((part) => `NOT EXISTS (SELECT 1 FROM w${part}__ g__ WHERE g__.id__ = ${address})`)
    const where = (conditions: readonly string[]) =>
      conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
    const source = this.#options.source?.(table, 'r__') ?? `${quoteName(table.schema)}.${quoteName(table.name)} AS r__`
    const real = columns.map(({ name }) => `r__.${quoteName(name)}`)
    if (addressed) real.unshift('r__.tableoid', 'r__.ctid')
    const address = `CAST(r__.tableoid AS text) || ':' || CAST(r__.ctid AS text)`
    const texts = [`SELECT ${real.join(', ')} FROM ${source}${where(gone(address, parts))}`]
    for (const [at, part] of parts.entries()) {
      const tid = `'(' || v__.n__ || ',${part + FIRST_PART})'`
      const own = columns.map(
        ({ name, type }, index) => `CAST(v__.new__[${index + 1}] AS ${type}) AS ${quoteName(name)}`,
      )
      if (addressed) own.unshift('CAST(0 AS oid) AS tableoid', `CAST(${tid} AS tid) AS ctid`)
      const conditions = ['v__.new__ IS NOT NULL', ...gone(`'0:' || ${tid}`, parts.slice(at + 1))]
      texts.push(`SELECT ${own.join(', ')} FROM w${part}__ v__${where(conditions)}`)
    }
    return texts.join(' UNION ALL ')
  }
}
