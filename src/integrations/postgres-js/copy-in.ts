import { DryTraceError } from '../../errors.js'
import type { Decision } from '../../guard/guard.js'
import { classify, type Statement } from '../../sql/classify.js'
import { loadGrammar, parseOne } from '../../sql/grammar.js'
import { markStale } from '../pg/overlaid.js'
import { fail, record, type Session } from '../pg/session.js'
import { wouldFail } from '../pg/write.js'
import type { Caller } from './caller.js'
import type { Executor } from './executor.js'
import { writeError } from './server-error.js'
import { cstring, int16, message } from './wire.js'
import { WireQuery } from './wire-query.js'

const NEWLINE = 0x0a

interface Format {
  readonly format: string
  readonly header: boolean
  readonly quote: number
}

/** A COPY FROM STDIN: what the application streams is counted and goes nowhere. */
export class CopyIn {
  /** What tells the library to go ahead. */
  readonly response = message('G', Buffer.from([0]), int16(0))
  readonly #session: Session
  readonly #statement: Statement
  readonly #decision: Decision
  readonly #format: Format
  #lines = 0
  #lineOpen = false
  #quoted = false

  private constructor(session: Session, statement: Statement, decision: Decision, format: Format) {
    this.#session = session
    this.#statement = statement
    this.#decision = decision
    this.#format = format
  }

  /** @returns undefined when the text is anything else; the error when it cannot begin */
  static async begin(executor: Executor, caller: Caller, text: string): Promise<CopyIn | Error | undefined> {
    const copy = await findCopy(text)
    if (copy === undefined || executor.status === 'E') return undefined
    const { statement, format, columns } = copy
    const session = executor.session(new WireQuery({ push: () => true }, { text, simple: true }), caller)
    const decision = session.decide(statement)
    session.current = decision
    try {
      if (decision.error !== undefined) {
        record(session, decision)
        return decision.error
      }
      if (decision.verdict === 'allow' || format.format === 'binary') {
        const what = decision.verdict === 'allow' ? 'a COPY FROM that a rule allows' : 'a binary COPY FROM'
        throw new DryTraceError('DRY_BLOCKED', `dry run: ${what} is not supported with postgres.js`)
      }
      const { error } = await session.reader.describe(columns)
      if (error === undefined) return new CopyIn(session, statement, decision, format)
      record(session, decision, wouldFail(error))
      return error
    } catch (error) {
      return fail(session, decision, error)
    }
  }

  add(chunk: Buffer): void {
    const csv = this.#format.format === 'csv'
    for (const byte of chunk) {
      if (csv && byte === this.#format.quote) this.#quoted = !this.#quoted
      if (byte === NEWLINE && !this.#quoted) {
        this.#lines++
        this.#lineOpen = false
      } else this.#lineOpen = true
    }
  }

  /** The stream has ended. @returns the answer for the library */
  async finish(caller: Caller | undefined): Promise<Buffer> {
    const lines = this.#lines + (this.#lineOpen ? 1 : 0)
    const rows = Math.max(0, lines - (this.#format.header ? 1 : 0))
    try {
      await markStale(this.#session, this.#statement, 'what COPY FROM would add is counted only')
      record(this.#session, this.#decision, {
        preview: { method: 'synthesized', rows, diff: [], notes: ['rows of COPY FROM are counted, not checked'] },
        fidelity: 'plausible',
      })
      return message('C', cstring(`COPY ${rows}`))
    } catch (error) {
      // The library has no way to tell the application of an error once it has said it is done.
      caller?.stream?.destroy(fail(this.#session, this.#decision, error))
      return message('C', cstring('COPY 0'))
    }
  }

  /** The application has given up. @returns the answer for the library */
  cancel(reason: string): Buffer {
    const error = new DryTraceError('DRY_BLOCKED', `dry run: COPY from stdin failed: ${reason}`)
    return writeError(fail(this.#session, this.#decision, error))
  }
}

async function findCopy(text: string): Promise<{ statement: Statement; format: Format; columns: string } | undefined> {
  try {
    await loadGrammar()
    const [statement, ...more] = classify(text)
    if (statement?.node !== 'CopyStmt' || more.length > 0) return undefined
    const node = parseOne(statement.text)
    if (!('CopyStmt' in node)) return undefined
    const { is_from, is_program, filename, relation, attlist = [], options = [] } = node.CopyStmt
    if (is_from !== true || is_program === true || filename !== undefined || relation === undefined) return undefined
    const names = attlist.map((name) => ('String' in name ? quoted(name.String.sval ?? '') : '*'))
    const table = [relation.schemaname, relation.relname].filter((part) => part !== undefined).map(quoted)
    const option = (wanted: string): string | undefined => {
      const found = options.find((each) => 'DefElem' in each && each.DefElem.defname === wanted)
      if (found === undefined || !('DefElem' in found)) return undefined
      const { arg } = found.DefElem
      return arg !== undefined && 'String' in arg ? (arg.String.sval ?? '') : JSON.stringify(arg ?? true)
    }
    const header = option('header')
    return {
      statement,
      columns: `SELECT ${names.length > 0 ? names.join(', ') : '*'} FROM ${table.join('.')}`,
      format: {
        format: option('format') ?? 'text',
        header: header !== undefined && !/false|off|"ival":\{\}/i.test(header),
        quote: (option('quote') ?? '"').charCodeAt(0),
      },
    }
  } catch {
    // What cannot be read here cannot be read by the script either, which says so.
    return undefined
  }
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
