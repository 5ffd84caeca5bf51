import { styleFor, widthFor } from '../audit/render/style.js'
import { padEnd, safe, shorten } from '../audit/render/text.js'
import { rowCount } from '../audit/render/view.js'
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
    const { word, colour } = wordOf(record)
    const padded = padEnd(word, 9)
    const counted = record.preview === null ? undefined : rowCount(record.preview)
    const rows = counted === undefined ? '' : `  ${counted}`
    const room = widthFor(this.#stream, process.env) - padded.length - 1 - rows.length
    return `${this.#style[colour](padded)} ${shorten(safe(record.summary), Math.max(room, 20))}${rows}`
  }
}

function wordOf(record: EffectRecord): { readonly word: string; readonly colour: 'green' | 'yellow' | 'red' } {
  if (isFenceRefusal(record)) return { word: 'refused', colour: 'yellow' }
  switch (record.outcome) {
    case 'blocked':
      return { word: 'blocked', colour: 'green' }
    case 'allowed':
    case 'forwarded':
      return { word: record.outcome, colour: 'yellow' }
    case 'failed':
      return { word: 'GUARD FAILED', colour: 'red' }
    default:
      return { word: 'NOT BLOCKED', colour: 'red' }
  }
}
