import type { CommandComplete, PgConnection, PgQuery, RowDescription } from '../pg/driver.js'
import { type ServerConnection, writeRow, writeRowDescription } from './server-connection.js'
import { writeError } from './server-error.js'
import { cstring, message } from './wire.js'

/** Where the messages of an answer go. */
export interface Answers {
  /** False when no more should come for now. */
  push(bytes: Buffer): boolean
}

/**
 * One Execute or simple Query of the driver, in the shape of node-postgres's
 * Query, answered in wire form. Never sends itself unless it is told to.
 */
export class WireQuery implements PgQuery {
  text: string
  name: string | undefined = undefined
  values: unknown[]
  types: readonly number[] | undefined
  readonly #answers: Answers
  readonly #simple: boolean
  /** The error it was answered with. */
  error: Error | undefined
  constructor(
    answers: Answers,
    {
      text,
      values = [],
      types,
      simple,
    }: { text: string; values?: readonly unknown[]; types?: readonly number[]; simple: boolean },
  ) {
    this.#answers = answers
    this.#simple = simple
    this.text = text
    this.values = [...values]
    this.types = types !== undefined && types.length > 0 ? types : undefined
  }

  /** With the extended protocol several statements in one text are an error. */
  requiresPreparation(): boolean {
    return !this.#simple
  }

  prepare(): void {}

  submit(connection: PgConnection): null {
    connection.parse({ text: this.text, ...(this.types === undefined ? {} : { types: this.types }) })
    connection.bind({ values: this.values })
    connection.describe({ type: 'P' })
    connection.execute({})
    connection.sync()
    return null
  }

  handleRowDescription(description: RowDescription): void {
    // The extended protocol gives it when it is asked for, which has happened by now.
    if (this.#simple) this.#answers.push(writeRowDescription(description))
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    this.#answers.push(writeRow(fields))
  }

  handleCommandComplete({ text }: CommandComplete): void {
    this.#answers.push(message('C', cstring(text)))
  }

  handleEmptyQuery(): void {
    this.#answers.push(message('I'))
  }

  /** COPY TO STDOUT: what the server sends of it is handed on. */
  followCopy(connection: ServerConnection): () => void {
    const relay = (bytes: Buffer): void => {
      this.#answers.push(bytes)
    }
    connection.on('copyOut', relay)
    return () => connection.off('copyOut', relay)
  }

  handleCopyData(bytes: unknown): void {
    this.#answers.push(bytes as Buffer)
  }

  handleCopyInResponse(connection: PgConnection): void {
    connection.sendCopyFail('drytrace: blocked')
  }

  handlePortalSuspended(): void {}

  handleError(error: Error): void {
    if (this.error !== undefined) return
    this.error = error
    this.#answers.push(writeError(error))
  }

  handleReadyForQuery(): void {}
}
