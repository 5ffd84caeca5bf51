import type { Caller, Prepared } from './caller.js'
import type { Executor } from './executor.js'
import { cstring, message, Reader } from './wire.js'
import type { Answers } from './wire-query.js'

const ROW = 0x44
const COMPLETE = 0x43
const ERROR = 0x45

/** One execution of a prepared statement, in one go or, for a cursor, in portions. */
export class Portal implements Answers {
  readonly #front: Answers
  readonly #executor: Executor
  readonly #caller: Caller
  readonly #statement: Prepared
  readonly #values: readonly (string | null)[]
  #running: Promise<void> | undefined
  #rows: Buffer[] = []
  /** What ends the answer: a command tag or an error. */
  #end: Buffer | undefined
  #portion = 0
  #closed = false
  #wake: (() => void) | undefined

  constructor(
    front: Answers,
    executor: Executor,
    caller: Caller,
    statement: Prepared,
    values: readonly (string | null)[],
  ) {
    this.#front = front
    this.#executor = executor
    this.#caller = caller
    this.#statement = statement
    this.#values = values
  }

  /** @param limit rows of a portion; 0 for all. @returns true when it failed */
  async execute(limit: number): Promise<boolean> {
    if (limit === 0 && this.#running === undefined) return (await this.#run(this.#front)).error !== undefined
    this.#portion = Math.max(limit, 1)
    this.#running ??= this.#run(this).then(() => {
      this.#end ??= message('I')
      this.#wake?.()
    })
    while (this.#rows.length < this.#portion && this.#end === undefined) {
      this.#executor.resume()
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const given = this.#rows.splice(0, this.#portion)
    for (const row of given) this.#front.push(row)
    if (given.length === this.#portion) {
      this.#front.push(message('s'))
      return false
    }
    const end = this.#end as Buffer
    this.#front.push(ofPortion(end, given.length))
    this.#executor.resume()
    await this.#running
    return end[0] === ERROR
  }

  /** Rows nobody asks for any more are read off the connection and dropped. */
  async close(): Promise<void> {
    this.#closed = true
    this.#rows = []
    this.#executor.resume()
    await this.#running
  }

  push(bytes: Buffer): boolean {
    if (bytes[0] !== ROW) this.#end = bytes
    else if (!this.#closed) this.#rows.push(bytes)
    this.#wake?.()
    return this.#closed || this.#rows.length < 2 * this.#portion
  }

  #run(answers: Answers) {
    const { text, types } = this.#statement
    return this.#executor.run({ text, types, values: this.#values, simple: false }, this.#caller, answers)
  }
}

/** The tag says how many rows the last portion had. */
function ofPortion(end: Buffer, rows: number): Buffer {
  return end[0] === COMPLETE ? message('C', cstring(new Reader(end).string().replace(/\d+$/, String(rows)))) : end
}
