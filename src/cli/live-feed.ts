import { styleFor } from '../audit/render/style.js'
import { count, padEnd, safe, shorten } from '../audit/render/text.js'
import { isFenceRefusal } from '../audit/run-facts.js'
import { messageOf } from '../errors.js'
import { JournalReader, listJournalFiles } from '../journal/reader.js'
import type { EffectRecord } from '../journal/record.js'

/** How often the journal is looked at, in milliseconds. */
const INTERVAL = 100

/**
 * Shows each write on stderr as it is recorded, by following a journal
 * directory while a program writes to it. Files that were there before are
 * left alone.
 */
export class LiveFeed {
  readonly #directory: string
  readonly #before: ReadonlySet<string>
  readonly #reader: JournalReader
  readonly #stream = process.stderr
  readonly #style = styleFor(process.stderr)
  #timer: NodeJS.Timeout | undefined
  #broken = false

  constructor(directory: string) {
    this.#directory = directory
    this.#before = this.#writers()
    this.#reader = new JournalReader(directory, { skip: this.#before })
  }

  start(): void {
    this.#timer = setInterval(() => this.#poll(), INTERVAL)
  }

  /** Shows what is left. */
  stop(): void {
    clearInterval(this.#timer)
    this.#poll()
  }

  /** The writers that turned up since the feed was made. */
  processes(): ReadonlySet<string> {
    return new Set([...this.#writers()].filter((name) => !this.#before.has(name)))
  }

  #writers(): Set<string> {
    return new Set(listJournalFiles(this.#directory).map((file) => file.process))
  }

  #poll(): void {
    if (this.#broken) return
    try {
      for (const item of this.#reader.poll()) {
        if (!('record' in item) || item.record.type !== 'effect') continue
        const { record } = item
        if (record.effect !== 'read' || record.outcome !== 'allowed') this.#stream.write(`${this.#line(record)}\n`)
      }
    } catch (error) {
      // The program runs on, and the report reads the journal afresh.
      this.#broken = true
      this.#stream.write(`drytrace: no longer showing writes as they happen: ${messageOf(error)}\n`)
    }
  }

  #line(record: EffectRecord): string {
    const { red, yellow, green } = this.#style
    const [word, paint] = isFenceRefusal(record)
      ? (['refused', yellow] as const)
      : record.outcome === 'blocked'
        ? (['blocked', green] as const)
        : record.outcome === 'failed' || record.outcome === 'unblocked'
          ? ([record.outcome === 'failed' ? 'GUARD FAILED' : 'NOT BLOCKED', red] as const)
          : ([record.outcome, yellow] as const)
    const rows =
      record.preview === null || record.preview.method === 'none' ? '' : `  ${count(record.preview.rows, 'row')}`
    const padded = padEnd(word, 9)
    const room = (this.#stream.columns ?? 120) - padded.length - 1 - rows.length
    return `${paint(padded)} ${shorten(safe(record.summary), Math.max(room, 20))}${rows}`
  }
}
