import { parseFunction } from './grammar.js'
import { Lru } from './lru.js'

/** A function does what no preview follows; the message says what. */
export class NotFollowed extends Error {
  override readonly name = 'NotFollowed'
}

/** A node of the PL/pgSQL parser: one tag with its fields. Fields that are zero are left out. */
export type Statement = Readonly<Record<string, Fields>>
export type Fields = Readonly<Record<string, unknown>>

/** A variable of a function, by its number. */
export interface Variable {
  readonly name: string
  readonly kind: 'scalar' | 'record' | 'field'
  /** As declared; null for records. */
  readonly type: string | null
  readonly initial: string | null
}

export interface FunctionBody {
  readonly variables: readonly Variable[]
  readonly statements: readonly Statement[]
}

const bodies = new Lru<FunctionBody | NotFollowed>(500, 4 * 1024 * 1024)

/** The body of a trigger function, given its definition. @throws NotFollowed */
export function functionBody(definition: string): FunctionBody {
  let body = bodies.get(definition)
  if (body === undefined) {
    try {
      body = read(definition)
    } catch (error) {
      body = error instanceof NotFollowed ? error : new NotFollowed('its text was not understood')
    }
    bodies.set(definition, body)
  }
  if (body instanceof NotFollowed) throw body
  return body
}

function read(definition: string): FunctionBody {
  // Decides between a variable and a column of one name, and the parser does not say so.
  if (/#\s*variable_conflict/i.test(definition)) throw new NotFollowed('it sets variable_conflict')
  const parsed = parseFunction(definition) as { plpgsql_funcs?: { PLpgSQL_function?: Fields }[] }
  const [only] = parsed.plpgsql_funcs ?? []
  const fields = only?.PLpgSQL_function
  const block = statementOf(fields?.['action'])
  if (fields === undefined || block?.tag !== 'stmt_block') throw new NotFollowed('its text was not understood')
  const begins = Number(block.fields['lineno'] ?? 0)
  const variables = ((fields['datums'] ?? []) as Statement[]).map((datum) => variableOf(datum, begins))
  const names = variables.filter(({ kind }) => kind !== 'field').map(({ name }) => name)
  if (new Set(names).size !== names.length) throw new NotFollowed('two variables have one name')
  return { variables, statements: blockOf(block.fields) }
}

function variableOf(datum: Statement, begins: number): Variable {
  const [[tag, fields] = ['', {} as Fields]] = Object.entries(datum)
  const name = String(fields['refname'] ?? fields['fieldname'] ?? '')
  if (tag === 'PLpgSQL_recfield') {
    return { name, kind: 'field', type: null, initial: null }
  }
  // What several variables are assigned at once.
  if (tag === 'PLpgSQL_row') return { name: '', kind: 'field', type: null, initial: null }
  const type = typeOf(fields)
  const initial = fields['default_val'] === undefined ? null : queryOf(fields['default_val'])
  if (Number(fields['lineno'] ?? 0) > begins && initial !== null) throw new NotFollowed('a block within declares')
  if (tag === 'PLpgSQL_rec' || (type !== null && /%rowtype$/i.test(type))) {
    if (initial !== null) throw new NotFollowed(`record ${name} has a value from the start`)
    return { name, kind: 'record', type: null, initial: null }
  }
  if (tag !== 'PLpgSQL_var') throw new NotFollowed(`${name} is declared as something unknown`)
  if (fields['notnull'] !== undefined) throw new NotFollowed(`${name} is declared NOT NULL`)
  return { name, kind: 'scalar', type, initial }
}

function typeOf(fields: Fields): string | null {
  const { PLpgSQL_type: type } = (fields['datatype'] ?? {}) as { PLpgSQL_type?: { typname?: string } }
  return type?.typname?.trim() ?? null
}

/** The tag of a statement without its prefix, and its fields. */
export function statementOf(node: unknown): { tag: string; fields: Fields } | undefined {
  if (typeof node !== 'object' || node === null) return undefined
  const [entry] = Object.entries(node as Statement)
  if (entry === undefined) return undefined
  return { tag: entry[0].replace(/^PLpgSQL_/, ''), fields: entry[1] }
}

/** The statements of a block. @throws NotFollowed when it handles exceptions or has a label. */
export function blockOf(fields: Fields): readonly Statement[] {
  if (fields['exceptions'] !== undefined) throw new NotFollowed('it handles exceptions')
  if (fields['label'] !== undefined) throw new NotFollowed('a block has a label')
  return (fields['body'] ?? []) as Statement[]
}

/** The text of an expression. */
export function queryOf(expression: unknown): string {
  const { PLpgSQL_expr: found } = (expression ?? {}) as { PLpgSQL_expr?: { query?: string } }
  if (found?.query === undefined) throw new NotFollowed('an expression is missing')
  return found.query
}
