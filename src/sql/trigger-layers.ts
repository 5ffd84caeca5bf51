import type { Table } from './catalog.js'

/** FROM items added to a query one after the other, each in sight of those before. */
export class Layers {
  readonly prefix: string
  #items: string[] = []
  effects: Effect[] = []
  readonly #errors = new Map<string, { readonly code: string; readonly message: string }>()

  constructor(prefix: string) {
    this.prefix = prefix
  }

  /** A place to go back to. */
  mark(): { readonly items: number; readonly effects: number } {
    return { items: this.#items.length, effects: this.effects.length }
  }

  reset({ items, effects }: { readonly items: number; readonly effects: number }): void {
    this.#items = this.#items.slice(0, items)
    this.effects = this.effects.slice(0, effects)
  }

  /** An error that is the same for every row, by the column that holds its label. */
  constant(raised: string): { readonly code: string; readonly message: string } | undefined {
    return this.#errors.get(raised)
  }

  error(raised: string, code: string, message: string): void {
    this.#errors.set(raised, { code, message })
  }

  /** A value worked out once for each row. */
  value(expression: string): string {
    // A constant or a column is as good by itself.
    if (/^(true|false|\w+__\.(\w+|"[^"]+"))$/.test(expression)) return expression
    const name = this.#name()
    // OFFSET 0 keeps the planner from copying the expression to where it is used.
    this.#items.push(` CROSS JOIN LATERAL (SELECT ${expression} AS v OFFSET 0) ${name}`)
    return `${name}.v`
  }

  /** A query of at most one row; NULLs where there is none. */
  row(query: string): string {
    const name = this.#name()
    this.#items.push(` LEFT JOIN LATERAL (${query}) ${name} ON true`)
    return name
  }

  get text(): string {
    return this.#items.join('')
  }

  #name(): string {
    return `${this.prefix}${this.#items.length}__`
  }
}

/** What a function would write besides: rows for each row of the statement, as JSON in a column. */
export interface Effect {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE'
  readonly table: Table
  /** A JSON array of arrays with the leading columns of a preview, as texts. */
  readonly rows: string
}

/** Conditions as SQL; `true` and `false` are known for what they are. */
export function both(left: string, right: string): string {
  if (left === 'false' || right === 'false') return 'false'
  return left === 'true' ? `(${right})` : `(${left} AND ${right})`
}

export function orElse(left: string, right: string): string {
  if (left === 'true' || right === 'true') return 'true'
  return left === 'false' ? right : right === 'false' ? left : `(${left} OR ${right})`
}
