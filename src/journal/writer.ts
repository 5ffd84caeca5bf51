import { hash } from 'node:crypto'
import { closeSync, existsSync, fdatasyncSync, mkdirSync, openSync, writeSync } from 'node:fs'
import path from 'node:path'
import { threadId } from 'node:worker_threads'
import { DryTraceError, messageOf } from '../errors.js'
import { VERSION } from '../version.js'
import { JOURNAL_SCHEMA, type JournalEntry } from './record.js'

/**
 * - `none`: handed to the kernel; survives kill -9 of the process, not a power cut.
 * - `batch`: and on disk after every 64 records.
 * - `each`: and on disk before the caller goes on (about 0.2 ms each).
 */
export type JournalSync = 'none' | 'batch' | 'each'

export interface JournalOptions {
  /** Made if it does not exist. */
  readonly directory: string
  readonly service: string
  readonly sync?: JournalSync
  /** Bytes after which a new file is begun; 64 MiB when left out. */
  readonly rotateAt?: number
}

export interface Journal {
  /** The file records go to now; undefined until the first. */
  readonly file: string | undefined
  /**
   * Appends one record, synchronously.
   * @throws DryTraceError `DRY_JOURNAL` when it cannot be written whole.
   */
  append(entry: JournalEntry): void
  /** Puts on disk what the kernel still holds. */
  flush(): void
  close(): void
}

const MIB = 1024 * 1024
const BATCH = 64

/** Opens lazily: a process that never sees a dry run makes no file. */
export function createJournal(options: JournalOptions): Journal {
  const { directory, service, sync = 'none', rotateAt = 64 * MIB } = options
  const base = `${process.pid}${threadId === 0 ? '' : `t${threadId}`}-${Date.now()}`
  let fd: number | undefined
  let file: string | undefined
  let part = 0
  let seq = 0
  let size = 0
  let pending = 0
  let chain = sha256('')

  function open(): number {
    makeDirectory(directory)
    file = path.join(directory, part === 0 ? `${base}.jsonl` : `${base}.${part}.jsonl`)
    fd = openSync(file, 'a')
    size = 0
    return fd
  }

  function write(entry: JournalEntry): void {
    const target = fd ?? open()
    const line = JSON.stringify({ seq: seq + 1, at: new Date().toISOString(), chain, ...entry })
    const bytes = Buffer.from(`${line}\n`)
    let written = 0
    // A short write happens when the disk fills up half-way through a record.
    while (written < bytes.length) written += writeSync(target, bytes, written)
    seq += 1
    chain = sha256(line)
    size += bytes.length
    pending += 1
    if (sync === 'each' || (sync === 'batch' && pending >= BATCH)) flush()
    if (size >= rotateAt) rotate()
  }

  function rotate(): void {
    flush()
    if (fd !== undefined) closeSync(fd)
    fd = undefined
    part += 1
  }

  function flush(): void {
    if (fd !== undefined && pending > 0) fdatasyncSync(fd)
    pending = 0
  }

  return {
    get file() {
      return file
    },
    append(entry) {
      try {
        if (seq === 0) {
          write({
            type: 'process',
            schema: JOURNAL_SCHEMA,
            pid: process.pid,
            service,
            node: process.version,
            drytrace: VERSION,
            argv: process.argv.slice(1),
          })
        }
        write(entry)
      } catch (cause) {
        throw new DryTraceError(
          'DRY_JOURNAL',
          `the journal in ${directory} cannot be written (${messageOf(cause)}): the effect is blocked and its result withheld`,
          { cause, details: { directory } },
        )
      }
    },
    flush,
    close() {
      flush()
      if (fd !== undefined) closeSync(fd)
      fd = undefined
    },
  }
}

/** Not `recursive: true`: where the kernel answers ENOENT for good (below /proc), Node's own recursion never ends. */
function makeDirectory(directory: string): void {
  if (existsSync(directory)) return
  const parent = path.dirname(directory)
  if (parent !== directory) makeDirectory(parent)
  try {
    mkdirSync(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function sha256(text: string): string {
  return hash('sha256', text)
}
