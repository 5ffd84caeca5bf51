import { randomBytes } from 'node:crypto'
import type { PgConnection } from './driver.js'
import type { Step } from './round.js'

/** Each is a plan in the memory of the server process behind the connection. */
const MAX_STATEMENTS = 50

interface Kept {
  readonly name: string
  readonly types: readonly number[]
}

/**
 * Statements of ours that one connection has prepared under a name, so that
 * the server parses and plans them once and not with every use. They stay
 * behind on the connection, where nothing but their names can be seen of them.
 */
export class KeptStatements {
  readonly #kept = new Map<string, Kept>()
  /** Names that the server may or may not know. */
  #doubtful: string[] = []
  #prefix = ''
  #made = 0

  /** The name to bind or describe `step` under. Sends what is needed to prepare it. */
  prepare(connection: PgConnection, { text, types = [] }: Step): string {
    const known = this.#kept.get(text)
    if (known !== undefined && sameTypes(known.types, types)) return known.name
    if (known !== undefined) this.#close(connection, text, known)
    for (const name of this.#doubtful.splice(0)) connection.close({ type: 'S', name })
    const [oldest] = this.#kept
    if (oldest !== undefined && this.#kept.size >= MAX_STATEMENTS) this.#close(connection, ...oldest)
    // Behind a pooler that nobody has told us of, a name of ours must never be that of another connection's statement.
    this.#prefix ||= `drytrace_${randomBytes(6).toString('hex')}`
    this.#made += 1
    const name = `${this.#prefix}_${this.#made}`
    this.#kept.set(text, { name, types })
    connection.parse({ text, name, ...(types.length > 0 ? { types } : {}) })
    return name
  }

  /** A round failed: what it was to prepare may not have been reached, and what was known may be gone. */
  doubt(): void {
    for (const { name } of this.#kept.values()) this.#doubtful.push(name)
    this.#kept.clear()
  }

  /** Hears of a statement of the application's: the server has dropped all names. */
  noteTag(tag: string): void {
    if (tag === 'DISCARD ALL' || tag === 'DEALLOCATE ALL') this.#kept.clear()
  }

  /** The server takes closing a name that it does not know for done. */
  #close(connection: PgConnection, text: string, { name }: Kept): void {
    this.#kept.delete(text)
    connection.close({ type: 'S', name })
  }
}

function sameTypes(left: readonly number[], right: readonly number[]): boolean {
  return left.length === right.length && left.every((type, index) => type === right[index])
}
