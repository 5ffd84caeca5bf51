import { hash } from 'node:crypto'
import { closeSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { messageOf } from '../errors.js'
import { parseRecord } from './parse-record.js'
import type { JournalRecord } from './record.js'

/**
 * What is wrong with a file.
 *
 * - `torn`: the last line is incomplete; the process died, or still is, writing it.
 * - `gap`: records are missing, repeated or out of order.
 * - `chain`: a line was changed after it was written.
 * - `malformed`: a line is not a record of this version.
 * - `unreadable`: the file cannot be opened or read.
 */
export type IntegrityKind = 'torn' | 'gap' | 'chain' | 'malformed' | 'unreadable'

/** Something that makes the journal less than the whole truth about the runs in `file`. */
export interface IntegrityProblem {
  readonly kind: IntegrityKind
  /** Name of the file within the journal directory. */
  readonly file: string
  /** From 1; 0 when the problem is the file itself. */
  readonly line: number
  readonly message: string
}

/** One step of a reading: a record, or a problem met on the way to the next one. `process` names the writer, see {@link JournalFile}. */
export type JournalItem =
  | { readonly process: string; readonly file: string; readonly record: JournalRecord }
  | { readonly process: string; readonly file: string; readonly problem: IntegrityProblem }

/** A journal file, by its name. */
export interface JournalFile {
  readonly name: string
  /** `<pid>-<startMs>`, or `<pid>t<thread>-<startMs>` for a worker thread: the same for all files of one writer. */
  readonly process: string
  /** Epoch milliseconds. */
  readonly startMs: number
  /** 0, then 1, 2, … for the files the writer rotated to. */
  readonly part: number
}

const FILE_NAME = /^(\d+(?:t\d+)?-(\d+))(?:\.(\d+))?\.jsonl$/
// Shared by all readers: what is in it has become text before anything else runs.
const CHUNK = Buffer.allocUnsafe(1 << 20)
// A record is capped well below this by the writer; a longer line is not ours and must not fill the memory.
const MAX_LINE_CHARS = 16 << 20
const FIRST_CHAIN = sha256('')

/**
 * The journal files of a directory, oldest process first, the parts of each
 * process in order. A directory that does not exist has none.
 */
export function listJournalFiles(directory: string): JournalFile[] {
  let names: string[]
  try {
    names = readdirSync(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const files: JournalFile[] = []
  for (const name of names) {
    const match = FILE_NAME.exec(name)
    if (match === null) continue
    const [, process = '', startMs, part = '0'] = match
    files.push({ name, process, startMs: Number(startMs), part: Number(part) })
  }
  return files.sort((a, b) => a.startMs - b.startMs || compare(a.process, b.process) || a.part - b.part)
}

/**
 * Every record of a journal directory with the problems found on the way, one
 * process after the other. Memory is bounded by the longest line, not by the
 * size of the journal.
 *
 * The chain finds a line that was changed, removed, added or moved. It cannot
 * find a change to the very last line, or lines cut off the end: nothing
 * follows that would contradict them.
 */
export function* readJournal(directory: string): Generator<JournalItem> {
  const reader = new JournalReader(directory)
  yield* reader.poll()
  yield* reader.finish()
}

/** Reads a journal directory while it is being written. */
export class JournalReader {
  readonly #directory: string
  readonly #skip: ReadonlySet<string>
  readonly #processes = new Map<string, ProcessReader>()

  /** @param options.skip writers whose files are not to be read. */
  constructor(directory: string, options: { readonly skip?: ReadonlySet<string> } = {}) {
    this.#directory = directory
    this.#skip = options.skip ?? new Set()
  }

  /** What was appended since the last call, in files known and new. */
  *poll(): Generator<JournalItem> {
    const parts = Map.groupBy(listJournalFiles(this.#directory), (file) => file.process)
    for (const [process, files] of parts) {
      if (this.#skip.has(process)) continue
      let reader = this.#processes.get(process)
      if (reader === undefined) {
        reader = new ProcessReader(this.#directory, process)
        this.#processes.set(process, reader)
      }
      yield* reader.read(files)
    }
  }

  /** Call once nothing more will be appended: an unfinished last line is a problem now. */
  *finish(): Generator<JournalItem> {
    for (const reader of this.#processes.values()) yield* reader.finish()
  }
}

/** The files of one process, read in order as one sequence of lines. */
class ProcessReader {
  readonly #directory: string
  readonly #process: string
  #file: JournalFile | undefined
  #offset = 0
  #line = 0
  #rest = ''
  #decoder = new StringDecoder('utf8')
  #unreadable = false
  #nextSeq = 1
  /** Undefined after a line that is no record: what followed it cannot be told from the chain. */
  #nextChain: string | undefined = FIRST_CHAIN

  constructor(directory: string, process: string) {
    this.#directory = directory
    this.#process = process
  }

  *read(files: readonly JournalFile[]): Generator<JournalItem> {
    for (const file of files) {
      if (this.#file !== undefined && file.part < this.#file.part) continue
      if (file.part !== this.#file?.part) {
        const expected: number = this.#file === undefined ? 0 : this.#file.part + 1
        // A rotated-to file exists, so nothing more comes to its predecessor.
        yield* this.finish()
        this.#open(file)
        if (file.part > expected) {
          const names = missingParts(this.#process, expected, file.part)
          yield this.#problem('gap', `${names} missing: the records before this file cannot be read`)
          this.#nextChain = undefined
        }
      }
      yield* this.#readAppended(file)
    }
  }

  *finish(): Generator<JournalItem> {
    if (this.#rest === '') return
    this.#line += 1
    this.#rest = ''
    yield this.#problem('torn', `line ${this.#line} is incomplete: the process ended while writing it`)
    this.#nextChain = undefined
  }

  #open(file: JournalFile): void {
    this.#file = file
    this.#offset = 0
    this.#line = 0
    this.#unreadable = false
    this.#decoder = new StringDecoder('utf8')
  }

  *#readAppended(file: JournalFile): Generator<JournalItem> {
    if (this.#unreadable) return
    let descriptor: number | undefined
    try {
      for (;;) {
        let bytes: number
        try {
          descriptor ??= openSync(join(this.#directory, file.name), 'r')
          bytes = readSync(descriptor, CHUNK, 0, CHUNK.length, this.#offset)
        } catch (error) {
          this.#unreadable = true
          yield this.#problem('unreadable', messageOf(error))
          return
        }
        if (bytes === 0) return
        this.#offset += bytes
        yield* this.#lines(this.#decoder.write(CHUNK.subarray(0, bytes)))
      }
    } finally {
      if (descriptor !== undefined) closeSync(descriptor)
    }
  }

  *#lines(text: string): Generator<JournalItem> {
    let start = 0
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      const line = this.#rest + text.slice(start, end)
      this.#rest = ''
      start = end + 1
      this.#line += 1
      yield* this.#check(line)
    }
    if (this.#rest.length <= MAX_LINE_CHARS) this.#rest += text.slice(start)
  }

  *#check(text: string): Generator<JournalItem> {
    let line = text
    let record = line.length > MAX_LINE_CHARS ? 'longer than any record' : parseRecord(line)
    if (typeof record === 'string') {
      // A write that failed half-way (full disk) leaves its head before the next whole record. A quote inside a
      // record is always escaped, so the last `{"seq":` can only be the beginning of one.
      const start = line.lastIndexOf('{"seq":')
      const salvaged = start > 0 ? parseRecord(line.slice(start)) : undefined
      if (typeof salvaged === 'object' && salvaged.seq === this.#nextSeq && salvaged.chain === this.#nextChain) {
        yield this.#problem('torn', `line ${this.#line} begins with a record that was not written whole`)
        line = line.slice(start)
        record = salvaged
      }
    }
    if (typeof record === 'string') {
      yield this.#problem('malformed', `line ${this.#line} is not a journal record: ${record}`)
      this.#nextChain = undefined
      return
    }
    if (this.#nextChain !== undefined) {
      // A missing line breaks the chain too: that is one defect, told once, in the words that say more.
      const gap = this.#gap(record.seq)
      if (gap !== undefined) yield this.#problem('gap', gap)
      else if (record.chain !== this.#nextChain) {
        const what =
          this.#line === 1 && this.#nextSeq === 1 ? 'does not begin a chain' : 'does not follow from the one before'
        yield this.#problem('chain', `line ${this.#line} ${what}: the journal was changed after it was written`)
      }
    }
    this.#nextSeq = record.seq + 1
    this.#nextChain = sha256(line)
    yield { process: this.#process, file: this.#file!.name, record }
  }

  #gap(seq: number): string | undefined {
    const expected = this.#nextSeq
    if (seq === expected) return undefined
    if (seq < expected) return `line ${this.#line} has seq ${seq} where ${expected} was due: repeated or out of order`
    const missing = seq - expected
    return missing === 1
      ? `record ${expected} is missing before line ${this.#line}`
      : `records ${expected} to ${seq - 1} (${missing}) are missing before line ${this.#line}`
  }

  #problem(kind: IntegrityKind, message: string): JournalItem {
    const file = this.#file!.name
    const line = kind === 'unreadable' ? 0 : this.#line
    return { process: this.#process, file, problem: { kind, file, line, message: `${file}: ${message}` } }
  }
}

function missingParts(process: string, from: number, to: number): string {
  const nameOf = (part: number) => (part === 0 ? `${process}.jsonl` : `${process}.${part}.jsonl`)
  return to - from === 1 ? `${nameOf(from)} is` : `${nameOf(from)} to ${nameOf(to - 1)} are`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function sha256(text: string): string {
  return hash('sha256', text, 'hex')
}
