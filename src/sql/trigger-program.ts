import type { Node } from '@pgsql/types'
import type { Column, Table } from './catalog.js'
import { classify } from './classify.js'
import { conditionCode } from './conditions.js'
import { deparse, parseOne } from './grammar.js'
import { blockOf, type Fields, functionBody, NotFollowed, queryOf, type Statement, statementOf } from './plpgsql.js'
import { castTo } from './preview-parts.js'
import { quoteText, tagOf } from './tree.js'
import type { Effect, Layers } from './trigger-layers.js'
import { bound, boundNode, type Call, emptyRow, foretold, type Row, type Value } from './trigger-scope.js'

/** The preview of a statement within a function: a SELECT of the leading columns and what it returns. */
export interface Inner {
  readonly operation: Effect['operation']
  readonly table: Table
  readonly returning: number | null
  readonly sql: string
  /** What triggers of that table write, as queries in the same place. */
  readonly effects: readonly { operation: Effect['operation']; table: Table; sql: string }[]
}

/** What a program needs from outside. */
export interface Machine {
  readonly layers: Layers
  /** Columns of NEW that decide what happens, by this function or one before. */
  readonly used: Set<string>
  /** Works out a write within the function. @throws PreviewUnsupported */
  preview(node: Node): Promise<Inner>
  /** SQL for a new value of a sequence, another one for each row. @throws NotFollowed where there is no such thing */
  neutralised(node: Node): Node
  /** Told of every expression and query. */
  reads(node: Node): void
}

/** The row a function is called for: NEW and OLD, and where it is called at all. */
export interface Acting {
  readonly fresh: Row | null
  readonly old: Row | null
  readonly live: string
}

/** What a call came to. All of it is SQL over the row. */
export interface Outcome {
  readonly fresh: Row
  /** The function returned NULL: the row is left out. */
  readonly skipped: string
  /** The label of the error it raised, or NULL; undefined when it raises none. */
  readonly raised: string | undefined
}

interface State {
  fresh: Map<string, string>
  old: Map<string, string>
  variables: Map<string, Value>
  found: string
  count: string
  /** Whether execution gets here; `false` after RETURN and RAISE. */
  live: string
  /** Of a DELETE: NEW has been assigned; undefined where it depends on the row. */
  filled: boolean | undefined
}

const copyState = (state: State): State => ({
  ...state,
  fresh: new Map(state.fresh),
  old: new Map(state.old),
  variables: new Map(state.variables),
})

const and = (left: string, right: string) =>
  left === 'false' || right === 'false'
    ? 'false'
    : left === 'true'
      ? right
      : right === 'true'
        ? left
        : `(${left} AND ${right})`
const either = (left: string, right: string) =>
  left === 'true' || right === 'true'
    ? 'true'
    : left === 'false'
      ? right
      : right === 'false'
        ? left
        : `(${left} OR ${right})`
const when = (condition: string, then: string, otherwise: string) =>
  condition === 'true' || then === otherwise
    ? then
    : condition === 'false'
      ? otherwise
      : `CASE WHEN ${condition} THEN ${then} ELSE ${otherwise} END`

const ERROR_LEVEL = 21
const MAX_ROUNDS = 20
/** As the parser numbers the options of RAISE. */
const OPTIONS = ['errcode', 'message', 'detail', 'hint', 'column', 'constraint', 'datatype', 'table', 'schema']

/** Follows a trigger function for one row, for those rows where `live` holds. @throws NotFollowed */
export async function runProgram(call: Call, row: Acting, machine: Machine): Promise<Outcome> {
  const { body } = call.trigger
  if (body === null) throw new NotFollowed(`${call.trigger.calls} is not in PL/pgSQL`)
  const { variables, statements } = functionBody(body)
  const columns = call.table.columns ?? []
  const program = new Program(call, machine, columns)
  const state: State = {
    fresh: new Map(row.fresh ?? emptyRow(columns)),
    old: new Map(row.old ?? emptyRow(columns)),
    variables: new Map(),
    found: 'false',
    count: '0',
    live: row.live,
    filled: false,
  }
  for (const variable of variables) {
    if (variable.kind !== 'scalar' || /^tg_|^found$/.test(variable.name)) continue
    program.declare(variable.name, variable.type)
    const type = program.typeOf(variable.name)
    const initial = variable.initial === null ? 'NULL' : program.expression(variable.initial, state)
    const value = type === undefined ? initial : `CAST(${initial} AS ${type})`
    state.variables.set(variable.name, { sql: machine.layers.value(when(row.live, value, 'NULL')) })
  }
  for (const { name, kind } of variables) if (kind === 'record') program.records.add(name)
  await program.run(statements, state)
  // Control reached the end.
  if (state.live !== 'false') {
    program.raise('2F005', { message: quoteText('control reached end of trigger procedure without RETURN') }, state)
  }
  return program.outcome(row.fresh, row.old)
}

class Program {
  readonly records = new Set<string>()
  readonly #types = new Map<string, string>()
  readonly #call: Call
  readonly #machine: Machine
  readonly #columns: readonly Column[]
  readonly #returns: { live: string; row: Row | null }[] = []
  readonly #raises: string[] = []
  /** What is looked at is for a message only. */
  #telling = false

  constructor(call: Call, machine: Machine, columns: readonly Column[]) {
    this.#call = call
    this.#machine = machine
    this.#columns = columns
  }

  declare(name: string, declared: string | null): void {
    // The type of what a CASE looks at is found out only when it runs.
    if (declared === null || name.startsWith('__Case__')) return
    const own = /^(?:(\w+)\.)?(\w+)\.(\w+)%type$/i.exec(declared)
    if (own !== null) {
      const [, schema, table, column] = own.map((part) => part?.toLowerCase())
      const known = this.#columns.find(({ name: each }) => each === column)
      const here = table === this.#call.table.name && (schema === undefined || schema === this.#call.table.schema)
      if (!here || known === undefined) throw new NotFollowed(`the type ${declared} is that of another table`)
      this.#types.set(name, known.type)
      return
    }
    // An assignment would complain of what a cast cuts off.
    if (/%|\b(varchar|char|character|varying|bit)\b.*\(/i.test(declared)) {
      throw new NotFollowed(`${name} has the type ${declared}`)
    }
    this.#types.set(name, declared)
  }

  typeOf(name: string): string | undefined {
    return this.#types.get(name)
  }

  expression(query: string, state: State): string {
    const node = this.#machine.neutralised(bound(query, this.#scope(state, query)))
    this.#machine.reads(node)
    return `(${deparse(node)})`
  }

  #scope(state: State, query: string) {
    // An assignment within an expression, or an aggregate of the statement, is nothing an expression may hold.
    if (query.trim() === '') throw new NotFollowed('an expression is missing')
    return {
      call: this.#call,
      fresh: state.fresh,
      old: state.old,
      variable: (name: string): Value | undefined => {
        if (name === 'found') return { sql: state.found }
        const value = state.variables.get(name)
        if (value === undefined && this.records.has(name)) throw new NotFollowed(`record ${name} is not assigned`)
        return value
      },
      uses: (name: string): void => {
        if (!this.#telling) this.#machine.used.add(name)
      },
    }
  }

  async run(statements: readonly Statement[], state: State): Promise<void> {
    for (const statement of statements) {
      if (state.live === 'false') return
      await this.#step(statement, state)
    }
  }

  async #step(node: Statement, state: State): Promise<void> {
    const { tag, fields } = statementOf(node) ?? { tag: '', fields: {} }
    switch (tag) {
      case 'stmt_block':
        return await this.run(blockOf(fields), state)
      case 'stmt_assign':
        return this.#assign(fields, state)
      case 'stmt_if':
        return await this.#branch(branchesOf(fields), 0, (fields['else_body'] ?? []) as Statement[], state)
      case 'stmt_case':
        return await this.#case(fields, state)
      case 'stmt_fori':
        return await this.#loop(fields, state)
      case 'stmt_return':
        return this.#return(fields, state)
      case 'stmt_raise':
        return this.#raised(fields, state)
      case 'stmt_perform':
        return this.#perform(queryOf(fields['expr']), state)
      case 'stmt_execsql':
        return await this.#execute(fields, state)
      case 'stmt_getdiag':
        return this.#diagnostics(fields, state)
      default:
        throw new NotFollowed(`it has ${tag.replace(/^stmt_/, '').toUpperCase() || 'an unknown statement'}`)
    }
  }

  #assign(fields: Fields, state: State): void {
    const query = queryOf(fields['expr'])
    const match = /^\s*(?:(\w+|"[^"]+")\s*\.\s*)?(\w+|"[^"]+")\s*:?=(?!=)([\s\S]*)$/.exec(query)
    if (match === null) throw new NotFollowed('a part of a variable is assigned')
    const [, row, name = '', expression = ''] = match
    if (row === undefined && this.#assignRow(unquoted(name), expression, state)) return
    const value = this.expression(expression, state)
    this.#set(row === undefined ? undefined : unquoted(row), unquoted(name), value, state)
  }

  /** `NEW := OLD` */
  #assignRow(name: string, expression: string, state: State): boolean {
    if (name !== 'new' && name !== 'old') return false
    const source = expression.trim().toLowerCase()
    if (source !== 'new' && source !== 'old') throw new NotFollowed(`${name} is assigned as a whole`)
    if (name === 'new') this.#fill(state)
    const from = source === 'new' ? state.fresh : state.old
    const to = name === 'new' ? state.fresh : state.old
    for (const { name: column } of this.#columns) this.#put(to, column, from.get(column) ?? 'NULL', state)
    return true
  }

  #set(row: string | undefined, name: string, value: string, state: State): void {
    if (row === 'new' || row === 'old') {
      const column = this.#columns.find((each) => each.name === name)
      if (column === undefined) throw new NotFollowed(`${row} has no field ${name}`)
      if (row === 'new') this.#fill(state)
      this.#put(row === 'new' ? state.fresh : state.old, name, castTo(column, value), state)
      return
    }
    if (row !== undefined) throw new NotFollowed('a part of a variable is assigned')
    const known = state.variables.get(name)
    if (known === undefined || !('sql' in known)) throw new NotFollowed(`${name} is assigned`)
    const type = this.#types.get(name)
    const sql = type === undefined ? value : `CAST(${value} AS ${type})`
    state.variables.set(name, { sql: this.#machine.layers.value(when(state.live, sql, known.sql)) })
  }

  /** A DELETE has no NEW until a field of it is assigned. */
  #fill(state: State): void {
    if (this.#call.event === 'DELETE') state.filled = true
  }

  #put(row: Map<string, string>, name: string, value: string, state: State): void {
    row.set(name, this.#machine.layers.value(when(state.live, value, row.get(name) ?? 'NULL')))
  }

  async #branch(
    branches: readonly { readonly condition: string; readonly body: readonly Statement[] }[],
    at: number,
    otherwise: readonly Statement[],
    state: State,
  ): Promise<void> {
    const branch = branches[at]
    if (branch === undefined) return await this.run(otherwise, state)
    const certain = foretold(branch.condition, this.#call)
    if (certain === true) return await this.run(branch.body, state)
    if (certain === false) return await this.#branch(branches, at + 1, otherwise, state)
    const { layers } = this.#machine
    const condition = this.expression(branch.condition, state)
    const met = layers.value(`coalesce(${when(state.live, condition, 'false')}, false)`)
    const yes = { ...copyState(state), live: met }
    const no = { ...copyState(state), live: layers.value(and(state.live, `NOT ${met}`)) }
    const before = state.live
    const untouched = no.live
    await this.run(branch.body, yes)
    await this.#branch(branches, at + 1, otherwise, no)
    this.#merge(met, yes, no, state)
    state.live = yes.live === met && no.live === untouched ? before : layers.value(either(yes.live, no.live))
  }

  #merge(met: string, yes: State, no: State, state: State): void {
    const { layers } = this.#machine
    const one = (left: string, right: string): string => {
      if (left === right || no.live === 'false') return left
      return yes.live === 'false' ? right : layers.value(when(met, left, right))
    }
    for (const row of ['fresh', 'old'] as const) {
      for (const [name, value] of yes[row]) state[row].set(name, one(value, no[row].get(name) ?? 'NULL'))
    }
    for (const name of new Set([...yes.variables.keys(), ...no.variables.keys()])) {
      const left = yes.variables.get(name)
      const right = no.variables.get(name)
      const same = left !== undefined && right !== undefined
      if (same && 'sql' in left && 'sql' in right) {
        state.variables.set(name, { sql: one(left.sql, right.sql) })
      } else if (same && 'record' in left && 'record' in right && left.record === right.record) {
        state.variables.set(name, left)
      } else if (no.live === 'false' && left !== undefined) state.variables.set(name, left)
      else if (yes.live === 'false' && right !== undefined) state.variables.set(name, right)
      // A record with other fields on either way is not to be used any more.
      else state.variables.delete(name)
    }
    if (no.live === 'false') state.filled = yes.filled
    else state.filled = yes.live === 'false' || yes.filled === no.filled ? no.filled : undefined
    state.found = one(yes.found, no.found)
    state.count = one(yes.count, no.count)
  }

  async #case(fields: Fields, state: State): Promise<void> {
    const variable = fields['t_varno'] === undefined ? undefined : fields['t_expr']
    if (variable !== undefined) {
      const list = (fields['case_when_list'] ?? []) as Statement[]
      const [name] = /__Case__Variable_\d+__/.exec(JSON.stringify(list)) ?? []
      if (name === undefined) throw new NotFollowed('a CASE was not understood')
      const value = this.expression(queryOf(variable), state)
      state.variables.set(name, { sql: this.#machine.layers.value(when(state.live, value, 'NULL')) })
    }
    const branches = ((fields['case_when_list'] ?? []) as Statement[]).map((item) => {
      const found = statementOf(item)?.fields ?? {}
      return { condition: queryOf(found['expr']), body: (found['stmts'] ?? []) as Statement[] }
    })
    const otherwise: readonly Statement[] =
      fields['have_else'] === true
        ? ((fields['else_stmts'] ?? []) as Statement[])
        : [
            {
              PLpgSQL_stmt_raise: { elog_level: ERROR_LEVEL, condname: '20000', message: 'case not found', params: [] },
            },
          ]
    await this.#branch(branches, 0, otherwise, state)
  }

  /** A loop over numbers that are the same for every row. */
  async #loop(fields: Fields, state: State): Promise<void> {
    const name = (statementOf(fields['var'])?.fields['refname'] ?? '') as string
    const lower = this.#number(queryOf(fields['lower']))
    const upper = this.#number(queryOf(fields['upper']))
    const plain = fields['step'] === undefined && fields['reverse'] === undefined && fields['label'] === undefined
    if (!plain || name === '' || lower === undefined || upper === undefined || upper - lower >= MAX_ROUNDS) {
      throw new NotFollowed('it has a loop')
    }
    for (let at = lower; at <= upper; at++) {
      state.variables.set(name, { sql: `CAST(${at} AS integer)` })
      await this.run((fields['body'] ?? []) as Statement[], state)
    }
  }

  #number(query: string): number | undefined {
    const text = query
      .trim()
      .toLowerCase()
      .replace(/^tg_nargs\b/, String(this.#call.arguments.length))
    const match = /^(\d+)\s*(?:([-+])\s*(\d+))?$/.exec(text)
    if (match === null) return undefined
    const change = Number(match[3] ?? 0)
    return Number(match[1]) + (match[2] === '-' ? -change : change)
  }

  #return(fields: Fields, state: State): void {
    this.#returns.push({ live: state.live, row: this.#returned(fields, state) })
    state.live = 'false'
  }

  #returned(fields: Fields, state: State): Row | null {
    const none = this.#call.level === 'STATEMENT' || (this.#call.event === 'DELETE' && state.filled === false)
    const fresh = none ? null : new Map(state.fresh)
    const old = this.#call.event === 'INSERT' || this.#call.level === 'STATEMENT' ? null : new Map(state.old)
    const text = fields['expr'] === undefined ? undefined : queryOf(fields['expr']).trim().toLowerCase()
    const isNew = (text === undefined && fields['retvarno'] === 0) || text === 'new'
    if (isNew && state.filled === undefined) throw new NotFollowed('it may return NEW of a DELETE')
    if (isNew) return fresh
    if (text === undefined && fields['retvarno'] === 1) return old
    if (text === 'null') return null
    if (text === 'old') return old
    const first = /^coalesce\s*\(\s*(new|old)\s*,\s*(new|old)\s*\)$/.exec(text ?? '')
    if (first !== null && this.#call.event !== 'DELETE') return first[1] === 'new' ? (fresh ?? old) : (old ?? fresh)
    if (first !== null && state.filled === false) return old
    throw new NotFollowed('it returns something else than NEW, OLD or NULL')
  }

  #raised(fields: Fields, state: State): void {
    const params = ((fields['params'] ?? []) as unknown[]).map((item) => queryOf(item))
    if (Number(fields['elog_level']) < ERROR_LEVEL) {
      // Shown to nobody, but it would fail or do what it fails of or does.
      for (const query of params) this.#harmless(query, state)
      return
    }
    this.#telling = true
    const given: Record<string, string> = {}
    for (const item of (fields['options'] ?? []) as Statement[]) {
      const option = statementOf(item)?.fields ?? {}
      const name = OPTIONS[Number(option['opt_type'] ?? 0)] ?? ''
      given[name] = name === 'errcode' ? queryOf(option['expr']) : this.expression(queryOf(option['expr']), state)
    }
    const literal = /^\s*'(\w+)'\s*$/.exec(given['errcode'] ?? '')?.[1]
    if (given['errcode'] !== undefined && literal === undefined) throw new NotFollowed('its SQLSTATE is worked out')
    const named = (fields['condname'] as string | undefined) ?? literal
    const code = conditionCode(named ?? 'P0001')
    if (code === undefined) throw new NotFollowed(`the condition ${named} is not known`)
    if (fields['message'] === undefined && named === undefined && given['message'] === undefined) {
      throw new NotFollowed('it raises an error again')
    }
    const { errcode: _, hint: __, datatype: ___, ...rest } = given
    const template = fields['message'] === undefined ? (named ?? code) : String(fields['message'])
    const message = rest['message'] ?? this.#message(template, params, state)
    this.#telling = false
    this.raise(code, { ...rest, message }, state)
  }

  /** `%` stands for the next parameter, as its type writes it. */
  #message(template: string, params: readonly string[], state: State): string {
    const pieces = template.split(/(%%|%)/)
    let used = 0
    const parts = pieces.flatMap((piece) => {
      if (piece === '') return []
      if (piece === '%%') return [quoteText('%')]
      if (piece !== '%') return [quoteText(piece)]
      const query = params[used++]
      if (query === undefined) throw new NotFollowed('it raises an error with too few parameters')
      const value = this.expression(query, state)
      return [`CASE WHEN ${value} IS NOT DISTINCT FROM NULL THEN '<NULL>' ELSE format('%s', ${value}) END`]
    })
    return parts.length === 0 ? "''" : `(${parts.join(' || ')})`
  }

  raise(code: string, fields: Readonly<Record<string, string>>, state: State): void {
    const pairs = Object.entries(fields).flatMap(([name, value]) => [quoteText(name), `CAST(${value} AS text)`])
    const mark = this.#call.timing === 'BEFORE' || this.#call.timing === 'INSTEAD OF' ? '!' : '~'
    const used = quoteText(JSON.stringify([...this.#machine.used]))
    const content = `'columns', CAST(${used} AS json), ${pairs.join(', ')}`
    const label = `${quoteText(code + mark)} || CAST(json_build_object(${content}) AS text)`
    const { layers } = this.#machine
    const raised = layers.value(when(state.live, label, 'CAST(NULL AS text)'))
    const message = /^\(?'([^']*)'\)?$/.exec(fields['message'] ?? '')?.[1]
    if (state.live === 'true' && message !== undefined) layers.error(raised, code, message)
    this.#raises.push(raised)
    state.live = 'false'
  }

  #perform(query: string, state: State): void {
    const node = this.#query(query, state)
    const text = deparse(node)
    if (!isHarmless(text)) throw new NotFollowed('it calls a function that may do something')
    const { layers } = this.#machine
    state.found = layers.value(when(state.live, `EXISTS (${text})`, state.found))
    state.count = layers.value(when(state.live, `(SELECT count(*) FROM (${text}) q__)`, state.count))
  }

  #harmless(query: string, state: State): void {
    if (!isHarmless(`SELECT ${this.expression(query, state)}`)) {
      throw new NotFollowed('it calls a function that may do something')
    }
  }

  #query(query: string, state: State): Node {
    const node = this.#machine.neutralised(boundNode(parseOne(query), this.#scope(state, query)))
    this.#machine.reads(node)
    return node
  }

  async #execute(fields: Fields, state: State): Promise<void> {
    const query = queryOf(fields['sqlstmt'])
    const node = parseOne(query)
    const into = fields['into'] === true
    if ('SelectStmt' in node) {
      if (!into) throw new NotFollowed('a query has nowhere to go')
      return this.#select(query, fields, state)
    }
    if (!/^(Insert|Update|Delete)Stmt$/.test(tagOf(node))) throw new NotFollowed(`it executes ${tagOf(node)}`)
    const { layers } = this.#machine
    const { operation, table, returning, sql, effects } = await this.#machine.preview(
      boundNode(node, this.#scope(state, query)),
    )
    const columns = Array.from({ length: returning ?? 0 }, (_, index) => `r${index}`)
    const names = ['op__', 'old__', 'new__', 'viol__', 'id__', ...columns]
    const cells = 'op__, CAST(old__ AS text), CAST(new__ AS text), CAST(viol__ AS text), id__'
    const list = [
      'count(*) AS count__',
      `json_agg(json_build_array(${cells})) AS rows__`,
      ...columns.map((name) => `(array_agg(${name}))[1] AS ${name}`),
    ]
    const guard = state.live === 'true' ? '' : ` WHERE ${state.live}`
    const layer = layers.row(`SELECT ${list.join(', ')} FROM (${sql}) q__(${names.join(', ')})${guard}`)
    layers.effects.push({ operation, table, rows: `${layer}.rows__` })
    for (const effect of effects) {
      const rows = `json_agg(json_build_array(${['a', 'b', 'c', 'd', 'e'].map((name) => `q__.${name}`).join(', ')}))`
      const more = layers.row(`SELECT ${rows} AS rows__ FROM (${effect.sql}) q__(a, b, c, d, e)${guard}`)
      layers.effects.push({ operation: effect.operation, table: effect.table, rows: `${more}.rows__` })
    }
    state.found = layers.value(when(state.live, `${layer}.count__ > 0`, state.found))
    state.count = layers.value(when(state.live, `${layer}.count__`, state.count))
    if (!into) return
    if (fields['strict'] === true) this.#strict(`${layer}.count__`, state)
    this.#into(
      fields,
      columns.map((name) => `${layer}.${name}`),
      layer,
      state,
    )
  }

  #select(query: string, fields: Fields, state: State): void {
    const node = this.#query(query, state)
    const text = deparse(node)
    if (!isHarmless(text)) throw new NotFollowed('it reads by a function that may do something')
    const { layers } = this.#machine
    const record = statementOf(fields['target'])?.tag === 'rec'
    const list = 'SelectStmt' in node ? node.SelectStmt.targetList : undefined
    const known = list !== undefined && !JSON.stringify(list).includes('"A_Star"')
    if (!record && !known) throw new NotFollowed('a query has an unknown number of columns')
    const names = record ? [] : (list ?? []).map((_, index) => `r${index}`)
    const guard = state.live === 'true' ? '' : ` WHERE ${state.live}`
    const aliases = names.length === 0 ? '' : `(${names.join(', ')})`
    const layer = layers.row(`SELECT q__.*, true AS found__ FROM (${text}) q__${aliases}${guard} LIMIT 1`)
    const found = `(${layer}.found__ IS NOT NULL)`
    if (fields['strict'] === true) {
      this.#strict(layers.value(when(state.live, `(SELECT count(*) FROM (${text}) q__)`, '1')), state)
    }
    state.found = layers.value(when(state.live, found, state.found))
    state.count = layers.value(when(state.live, `CASE WHEN ${found} THEN 1 ELSE 0 END`, state.count))
    this.#into(
      fields,
      names.map((name) => `${layer}.${name}`),
      layer,
      state,
    )
  }

  /** INTO STRICT wants exactly one row. */
  #strict(count: string, state: State): void {
    const after = (condition: string) => this.#machine.layers.value(and(state.live, condition))
    const none = { ...state, live: after(`${count} = 0`) }
    const many = { ...state, live: after(`${count} > 1`) }
    const one = after(`${count} = 1`)
    this.raise('P0002', { message: "'query returned no rows'" }, none)
    this.raise('P0003', { message: "'query returned more than one row'" }, many)
    state.live = one
  }

  #into(fields: Fields, values: readonly string[], layer: string, state: State): void {
    const target = statementOf(fields['target'])
    if (target?.tag === 'rec' || target?.tag === 'var') {
      const name = String(target.fields['refname'] ?? '')
      if (!this.records.has(name)) throw new NotFollowed(`${name} is filled by a query as a whole`)
      state.variables.set(name, { record: layer })
      return
    }
    if (target?.tag !== 'row') throw new NotFollowed('a query fills something unknown')
    const places = (target.fields['fields'] ?? []) as { name?: string }[]
    for (const [index, { name = '' }] of places.entries()) {
      const [row, column] = name.includes('.') ? name.split('.') : [undefined, name]
      this.#set(row, column ?? '', values[index] ?? 'NULL', state)
    }
  }

  #diagnostics(fields: Fields, state: State): void {
    for (const item of (fields['diag_items'] ?? []) as Statement[]) {
      const { kind, target } = statementOf(item)?.fields ?? {}
      const name = functionBody(this.#call.trigger.body ?? '').variables[Number(target ?? -1)]?.name
      if (kind !== 'ROW_COUNT' || !name) throw new NotFollowed(`it asks for ${String(kind)}`)
      this.#set(undefined, name, `CAST(${state.count} AS bigint)`, state)
    }
  }

  outcome(fresh: Row | null, old: Row | null): Outcome {
    const { layers } = this.#machine
    const skipped = this.#returns.filter(({ row }) => row === null).map(({ live }) => live)
    const kept = this.#returns.filter(({ row }) => row !== null)
    const values = new Map<string, string>()
    for (const { name } of this.#columns) {
      const before = fresh?.get(name) ?? old?.get(name) ?? 'NULL'
      const cases = kept.map(({ live, row }) => ({ live, value: row?.get(name) ?? before }))
      // The last RETURN needs no condition when there are no others: rows that do not get there count for nothing.
      const [only] = cases
      const value =
        cases.every((each) => each.value === only?.value) && only !== undefined
          ? only.value
          : cases.reduceRight((rest, each) => when(each.live, each.value, rest), before)
      values.set(name, layers.value(value))
    }
    return {
      fresh: values,
      skipped: layers.value(skipped.reduce(either, 'false')),
      raised: this.#raises.length > 1 ? `coalesce(${this.#raises.join(', ')})` : this.#raises[0],
    }
  }
}

function branchesOf(fields: Fields): { condition: string; body: readonly Statement[] }[] {
  const more = ((fields['elsif_list'] ?? []) as Statement[]).map((item) => statementOf(item)?.fields ?? {})
  return [
    { condition: queryOf(fields['cond']), body: (fields['then_body'] ?? []) as Statement[] },
    ...more.map((each) => ({ condition: queryOf(each['cond']), body: (each['stmts'] ?? []) as Statement[] })),
  ]
}

function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1) : name.toLowerCase()
}

/** Known to read only, function by function. */
function isHarmless(query: string): boolean {
  const statements = classify(query)
  return statements.length === 1 && statements[0]?.kind === 'read'
}
