import type { CopyFormat } from './copy-format.js'

export type CopyRow = readonly (string | null)[]

/** The data is not what COPY takes. */
export class CopyDataError extends Error {
  override readonly name = 'CopyDataError'
  /** SQLSTATE. */
  readonly code: string
  readonly line: number
  readonly record: string | undefined

  constructor(message: string, line: number, record?: string, code = '22P04') {
    super(message)
    this.code = code
    this.line = line
    this.record = record
  }
}

/** A record that is longer is not looked into. */
const MAX_RECORD = 16 * 1024 * 1024

interface Reader {
  push(chunk: Buffer): void
  end(): void
}

export interface CopyRowsOptions {
  readonly format: CopyFormat
  /** Names of the columns the data is for. */
  readonly columns: readonly string[]
  /** `\.` on a line of its own ends CSV data too, as before PostgreSQL 18. */
  readonly csvEndMarker: boolean
  /** Undefined fields: only their number is known (binary). */
  onRow(row: CopyRow | undefined): void
}

/** Reads the data of a COPY FROM chunk by chunk, as the server would. @throws CopyDataError from `push` and `end`. */
export function copyReader(options: CopyRowsOptions): Reader {
  return options.format.format === 'binary' ? new BinaryReader(options) : new LineReader(options)
}

class LineReader implements Reader {
  readonly #options: CopyRowsOptions
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  readonly #csv: boolean
  #rest = ''
  /** How far `rest` has been searched for its end. */
  #searched = 0
  #quoted = false
  #escaped = false
  #line = 0
  #eol: '\n' | '\r\n' | undefined
  #ended = false

  constructor(options: CopyRowsOptions) {
    this.#options = options
    this.#csv = options.format.format === 'csv'
  }

  push(chunk: Buffer): void {
    if (this.#ended) return
    this.#rest += this.#decode(chunk)
    this.#records()
  }

  end(): void {
    if (this.#ended) return
    this.#rest += this.#decode(undefined)
    this.#records()
    if (this.#ended || this.#rest === '') return
    if (this.#quoted) throw new CopyDataError('unterminated CSV quoted field', this.#line + 1, this.#rest)
    this.#record(this.#rest)
  }

  #decode(chunk: Buffer | undefined): string {
    try {
      return chunk === undefined ? this.#decoder.decode() : this.#decoder.decode(chunk, { stream: true })
    } catch {
      throw new CopyDataError('invalid byte sequence for encoding "UTF8"', this.#line + 1, undefined, '22021')
    }
  }

  #records(): void {
    let start = 0
    for (;;) {
      const end = this.#csv ? this.#csvEnd() : this.#textEnd(start)
      if (end < 0) break
      this.#record(this.#rest.slice(start, end))
      start = end + 1
      this.#searched = start
      if (this.#ended) return
    }
    this.#rest = this.#rest.slice(start)
    this.#searched -= start
    if (this.#rest.length > MAX_RECORD) throw new RangeError('a record is too long to be looked into')
  }

  /** A newline after a backslash belongs to the data. */
  #textEnd(start: number): number {
    for (;;) {
      const end = this.#rest.indexOf('\n', this.#searched)
      if (end < 0) {
        this.#searched = this.#rest.length
        return -1
      }
      let backslashes = 0
      while (end - 1 - backslashes >= start && this.#rest[end - 1 - backslashes] === '\\') backslashes++
      if (backslashes % 2 === 0) return end
      this.#searched = end + 1
    }
  }

  #csvEnd(): number {
    const { quote, escape: escaping } = this.#options.format
    for (let index = this.#searched; index < this.#rest.length; index++) {
      const char = this.#rest[index]
      if (this.#quoted && char === escaping && escaping !== quote) this.#escaped = !this.#escaped
      else {
        if (char === quote && !this.#escaped) this.#quoted = !this.#quoted
        this.#escaped = false
      }
      if (char === '\n' && !this.#quoted) return index
    }
    this.#searched = this.#rest.length
    return -1
  }

  #record(raw: string): void {
    this.#line++
    const crlf = raw.endsWith('\r')
    this.#eol ??= crlf ? '\r\n' : '\n'
    const record = this.#eol === '\r\n' && crlf ? raw.slice(0, -1) : raw
    if (record === '\\.' && (!this.#csv || this.#options.csvEndMarker)) {
      this.#ended = true
      return
    }
    if (!this.#csv) this.#refuseStrayBreaks(record, crlf)
    if (this.#line === 1 && this.#options.format.header) return
    const fields = this.#csv ? this.#csvFields(record) : this.#textFields(record)
    const { columns } = this.#options
    if (fields.length > columns.length) {
      throw new CopyDataError('extra data after last expected column', this.#line, record)
    }
    if (fields.length < columns.length) {
      throw new CopyDataError(`missing data for column "${columns[fields.length]}"`, this.#line, record)
    }
    this.#options.onRow(fields)
  }

  #refuseStrayBreaks(record: string, crlf: boolean): void {
    if (this.#eol === '\r\n' && !crlf) throw new CopyDataError('literal newline found in data', this.#line)
    if (/(?<!\\)(\\\\)*\r/.test(record)) throw new CopyDataError('literal carriage return found in data', this.#line)
  }

  #textFields(record: string): (string | null)[] {
    const { delimiter, null: nothing } = this.#options.format
    const { columns } = this.#options
    if (columns.length === 0 && record === '') return []
    return splitUnescaped(record, delimiter).map((raw) => (raw === nothing ? null : unescaped(raw)))
  }

  #csvFields(record: string): (string | null)[] {
    const { delimiter, quote, escape: escaping, null: nothing } = this.#options.format
    if (this.#options.columns.length === 0 && record === '') return []
    const fields: (string | null)[] = []
    let field = ''
    let quoted = false
    let sawQuote = false
    const close = (): void => {
      fields.push(!sawQuote && field === nothing ? null : field)
      field = ''
      sawQuote = false
    }
    for (let index = 0; index < record.length; index++) {
      const char = record[index] as string
      const next = record[index + 1]
      if (quoted) {
        if (char === escaping && (next === escaping || next === quote)) {
          field += next
          index++
        } else if (char === quote) quoted = false
        else field += char
      } else if (char === delimiter) close()
      else if (char === quote) {
        sawQuote = true
        quoted = true
      } else if (char === '\r') throw new CopyDataError('unquoted carriage return found in data', this.#line)
      else field += char
    }
    close()
    return fields
  }
}

function splitUnescaped(record: string, delimiter: string): string[] {
  if (!record.includes('\\')) return record.split(delimiter)
  const fields: string[] = []
  let start = 0
  for (let index = 0; index < record.length; index++) {
    if (record[index] === '\\') index++
    else if (record[index] === delimiter) {
      fields.push(record.slice(start, index))
      start = index + 1
    }
  }
  fields.push(record.slice(start))
  return fields
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

function unescaped(field: string): string {
  if (!field.includes('\\')) return field
  return field.replace(/\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|([\s\S]))/g, (_, octal, hex, char) => {
    if (char !== undefined) return ESCAPES[char] ?? char
    const code = octal === undefined ? Number.parseInt(hex, 16) : Number.parseInt(octal, 8) & 0xff
    // Part of a character that is written byte by byte.
    if (code > 0x7f) throw new RangeError('bytes beyond ASCII are escaped')
    return String.fromCharCode(code)
  })
}

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1')

/** Counts rows; their values are in the types' own formats. */
class BinaryReader implements Reader {
  readonly #options: CopyRowsOptions
  #rest: Buffer = Buffer.alloc(0)
  #skip = 0
  #fields = 0
  #row = 0
  #state: 'signature' | 'extension' | 'row' | 'field' | 'end' = 'signature'

  constructor(options: CopyRowsOptions) {
    this.#options = options
  }

  push(chunk: Buffer): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    for (;;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, data.length)
        this.#skip -= skipped
        data = data.subarray(skipped)
        if (this.#skip > 0) break
      }
      const used = this.#step(data)
      if (used === 0) break
      data = data.subarray(used)
    }
    this.#rest = Buffer.from(data)
  }

  /** Bytes used; 0 when more are needed. */
  #step(data: Buffer): number {
    switch (this.#state) {
      case 'signature':
        if (data.length < SIGNATURE.length + 4) return 0
        if (!data.subarray(0, SIGNATURE.length).equals(SIGNATURE)) {
          throw new CopyDataError('COPY file signature not recognized', 1)
        }
        this.#state = 'extension'
        return SIGNATURE.length + 4
      case 'extension':
        if (data.length < 4) return 0
        this.#skip = data.readUInt32BE(0)
        this.#state = 'row'
        return 4
      case 'row': {
        if (data.length < 2) return 0
        const count = data.readInt16BE(0)
        if (count === -1) this.#state = 'end'
        else this.#begin(count)
        return 2
      }
      case 'field': {
        if (data.length < 4) return 0
        const length = data.readInt32BE(0)
        if (length < -1) throw new CopyDataError('invalid field size', this.#row)
        this.#skip = Math.max(length, 0)
        if (--this.#fields === 0) this.#complete()
        return 4
      }
      default:
        return 0
    }
  }

  #begin(count: number): void {
    this.#row++
    const { columns } = this.#options
    if (count !== columns.length) {
      throw new CopyDataError(`row field count is ${count}, expected ${columns.length}`, this.#row)
    }
    this.#fields = count
    if (count === 0) this.#options.onRow(undefined)
    else this.#state = 'field'
  }

  #complete(): void {
    this.#options.onRow(undefined)
    this.#state = 'row'
  }

  end(): void {
    const whole = this.#state === 'row' || this.#state === 'end'
    if (this.#state === 'signature') throw new CopyDataError('COPY file signature not recognized', 1)
    // The trailer may be missing where the client says that the data has ended.
    if (!whole || this.#skip > 0 || (this.#state === 'row' && this.#rest.length > 0)) {
      throw new CopyDataError('unexpected EOF in COPY data', this.#row)
    }
  }
}
