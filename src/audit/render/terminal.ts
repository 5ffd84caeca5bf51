import type { Report } from '../report.js'
import { problemViews } from './problems.js'
import { PLAIN, type Style } from './style.js'
import {
  applicationFailure,
  capped,
  decisionViews,
  headline,
  letThrough,
  policyName,
  readCounts,
  runFacts,
} from './summary.js'
import { count, padEnd, padStart, safe, shorten, width, wrap } from './text.js'
import { type TraceHeading, traceGroups } from './trace-groups.js'
import { type ChangeLine, cutValue, skipShared } from './values.js'
import { type EffectView, MADE_UP, type PayloadView } from './view.js'

export interface TerminalOptions {
  /** Columns. */
  readonly width: number
  readonly style?: Style
  /** How many effects to show; 500 when left out. The numbers always cover all. */
  readonly limit?: number
}

const MAX_OBJECTS = 10

/** The report for people: the verdict first, then each write with what it would have changed, then what else there is to know. */
export function renderTerminal(report: Report, options: TerminalOptions): string {
  const page = new Page(options)
  page.headline(report)
  page.facts(report)
  page.effects(report)
  page.letThrough(report)
  page.problems(report)
  page.decisions(report)
  page.reads(report)
  page.attestation(report)
  return page.toString()
}

class Page {
  readonly #lines: string[] = []
  readonly #width: number
  readonly #style: Style
  readonly #limit: number

  constructor({ width: columns, style = PLAIN, limit = 500 }: TerminalOptions) {
    this.#width = columns
    this.#style = style
    this.#limit = limit
  }

  headline(report: Report): void {
    const { word, text, meaning } = headline(report)
    const { bold, green, yellow, red } = this.#style
    const failure = applicationFailure(report)
    const clean = failure === undefined ? green : yellow
    const paint = { clean, incomplete: yellow, guard_failed: red, unblocked: red }[report.run.verdict]
    const failed = failure === undefined ? '' : `; ${failure.text}: ${failure.message}`
    for (const line of wrap(`${word}: ${text}${failed}`, this.#width)) this.#add(bold(paint(line)))
    if (meaning !== undefined) for (const line of wrap(meaning, this.#width)) this.#add(line)
  }

  facts(report: Report): void {
    this.#add('')
    this.#named(runFacts(report))
  }

  effects(report: Report): void {
    const { groups, left } = traceGroups(report, this.#limit)
    const shown = groups.flatMap(({ views }) => views)
    const numbers = Math.max(...shown.map((view) => numberOf(view).length), 2)
    const offsets = Math.max(...shown.map((view) => view.offset.length))
    const actions = Math.max(...shown.map((view) => view.action.length))
    for (const { heading, views } of groups) {
      if (heading !== undefined) this.#trace(heading)
      for (const view of views) {
        this.#add('')
        this.#effect(view, numbers, offsets, actions)
      }
    }
    if (left > 0) {
      this.#add('')
      this.#add(`… and ${count(left, 'more write')}: --json has them all`)
    }
  }

  #trace({ traceId, writes, systems, decision }: TraceHeading): void {
    this.#section(`${traceId === undefined ? 'No trace recorded' : `Trace ${traceId}`}  ${writes}`)
    this.#paragraph(decision === undefined ? systems : `${systems}; decided by ${decision}`, '  ', this.#style.dim)
  }

  #effect(view: EffectView, numbers: number, offsets: number, actions: number): void {
    const { bold, dim, red, yellow } = this.#style
    const start = `${padStart(numberOf(view), numbers)}  ${padStart(view.offset, offsets)}  ${padEnd(view.action, actions)}  `
    const tags = [...view.tags, ...(view.repeats > 1 ? [`x${view.repeats}`] : [])]
    const mark = view.mark === undefined ? '' : `  ${view.mark}`
    const room = this.#width - width(start) - width(mark)
    // What follows the object gives way first, but for a few columns it goes altogether.
    const spare = room - 24
    const after = spare < 8 ? '' : shorten(tags.map((tag) => `  ${tag}`).join(''), spare)
    const object = shorten(view.object, Math.max(room - width(after), 8))
    const paint = view.mark === 'NOT BLOCKED' || view.mark === 'GUARD FAILED' ? red : yellow
    const beside = view.madeUp && width(object) + width(after) + MADE_UP.length + 2 <= room
    this.#add(
      `${dim(padStart(numberOf(view), numbers))}  ${dim(padStart(view.offset, offsets))}  ` +
        `${padEnd(view.action, actions)}  ${bold(object)}${after}${beside ? `  ${dim(MADE_UP)}` : ''}${mark === '' ? '' : bold(paint(mark))}`,
    )
    const indent = ' '.repeat(numbers + 2)
    if (view.madeUp && !beside) this.#add(`${indent}${dim(MADE_UP)}`)
    for (const { title, changes } of view.rows) {
      if (title !== undefined) this.#add(`${indent}${shorten(title, this.#width - indent.length)}`)
      for (const change of changes) this.#change(change, title === undefined ? indent : `${indent}  `)
    }
    if (view.more !== undefined) this.#add(`${indent}${dim(`… ${view.more}`)}`)
    if (view.payload !== undefined) this.#payload(view.payload, indent)
    for (const note of view.notes) this.#paragraph(note, indent, note.startsWith('rule ') ? dim : undefined)
  }

  #change({ sign, field, before, after }: ChangeLine, indent: string): void {
    const { green, red, yellow } = this.#style
    const name = shorten(field, Math.max(Math.floor(this.#width / 3), 16))
    const start = `${indent}${sign} ${name}: `
    const room = Math.max(this.#width - width(start), 20)
    if (before === undefined || after === undefined) {
      const paint = sign === '+' ? green : red
      this.#add(`${indent}${paint(sign)} ${name}: ${cutValue(before ?? after ?? '', room)}`)
      return
    }
    const head = `${indent}${yellow(sign)} ${name}: `
    if (width(before) + width(after) + 4 <= room) {
      this.#add(`${head}${before} -> ${after}`)
      return
    }
    const values = skipShared(before, after, room)
    this.#add(`${head}${cutValue(values.before, room)}`)
    const arrow = `${indent}  ${' '.repeat(Math.max(width(name) - 1, 0))}-> `
    this.#add(`${arrow}${cutValue(values.after, Math.max(this.#width - width(arrow), 20))}`)
  }

  #payload({ title, fields, more }: PayloadView, indent: string): void {
    const { dim } = this.#style
    this.#add(`${indent}${dim(title)}`)
    for (const { name, value } of fields) {
      const start = name === undefined ? '' : `${shorten(name, Math.floor(this.#width / 3))}: `
      this.#add(`${indent}  ${start}${cutValue(value, Math.max(this.#width - indent.length - 2 - width(start), 20))}`)
    }
    if (more !== undefined) this.#add(`${indent}  ${dim(`… ${more}`)}`)
  }

  letThrough(report: Report): void {
    const rules = letThrough(report)
    if (rules.length === 0) return
    this.#section('Let through by policy')
    for (const { rule, times, objects } of rules) {
      const more = objects.length > MAX_OBJECTS ? `, and ${objects.length - MAX_OBJECTS} more` : ''
      this.#paragraph(rule, '  ')
      this.#paragraph(`${count(times, 'write')}: ${objects.slice(0, MAX_OBJECTS).join(', ')}${more}`, '    ')
    }
  }

  problems(report: Report): void {
    const { shown: problems, left } = capped(problemViews(report))
    if (problems.length === 0) return
    this.#section('Problems')
    const { red, yellow } = this.#style
    const names = Math.max(...problems.map(({ kind }) => kind.length))
    for (const { kind, message, times, urgent } of problems) {
      const text = times > 1 ? `${message} (x${times})` : message
      const [first = '', ...rest] = wrap(text, Math.max(this.#width - names - 4, 20))
      this.#add(`  ${(urgent ? red : yellow)(padEnd(kind, names))}  ${first}`)
      for (const line of rest) this.#add(`${' '.repeat(names + 4)}${line}`)
    }
    if (left > 0) this.#add(`  … and ${left} more: --json has them all`)
  }

  decisions(report: Report): void {
    const { shown: decisions, left } = capped(decisionViews(report))
    if (decisions.length === 0) return
    this.#section('Decisions')
    for (const { offset, text, repeats } of decisions) {
      const times = repeats > 1 ? `  x${repeats}` : ''
      this.#add(
        `  ${this.#style.dim(offset)}  ${shorten(text, this.#width - offset.length - 4 - times.length)}${times}`,
      )
    }
    if (left > 0) this.#add(`  … and ${left} more: --json has them all`)
  }

  reads(report: Report): void {
    const { total, byTarget } = readCounts(report)
    if (total === 0) return
    this.#add('')
    const start = `${this.#style.bold('Reads')}  `
    const prefix = `${total}: `
    let text = prefix
    for (const [index, entry] of byTarget.entries()) {
      const next = index === 0 ? text + entry : `${text}, ${entry}`
      const left = byTarget.length - index
      const room = this.#width - 'Reads  '.length - (left > 1 ? ` and ${left} more`.length + 1 : 0)
      if (width(next) > room && index > 0) {
        text += `, and ${left} more`
        break
      }
      text = next
    }
    this.#add(start + shorten(text, this.#width - 'Reads  '.length))
  }

  attestation(report: Report): void {
    const { hooks, gaps } = report.attestation
    this.#section('Guarded by')
    this.#named(
      [
        { name: 'hooks', value: hooks.length === 0 ? 'none' : safe(hooks.join(', ')) },
        { name: 'gaps', value: gaps.length === 0 ? 'none' : safe(gaps.join(', ')) },
        { name: 'policy', value: policyName(report, 16) },
      ],
      '  ',
    )
  }

  #section(title: string): void {
    this.#add('')
    this.#add(this.#style.bold(title))
  }

  /** `name   value` lines, values aligned and wrapped. */
  #named(entries: readonly { readonly name: string; readonly value: string }[], indent = ''): void {
    const names = Math.max(...entries.map(({ name }) => name.length))
    for (const { name, value } of entries) {
      const [first = '', ...rest] = wrap(value, Math.max(this.#width - indent.length - names - 2, 20))
      this.#add(`${indent}${this.#style.dim(padEnd(name, names))}  ${first}`)
      for (const line of rest) this.#add(`${indent}${' '.repeat(names + 2)}${line}`)
    }
  }

  #paragraph(text: string, indent: string, paint = (line: string) => line): void {
    for (const line of wrap(text, Math.max(this.#width - indent.length, 20))) this.#add(`${indent}${paint(line)}`)
  }

  #add(line: string): void {
    this.#lines.push(line)
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`
  }
}

/** `3`, or `3-14` for repeats. */
function numberOf({ number, repeats }: EffectView): string {
  return repeats === 1 ? String(number) : `${number}-${number + repeats - 1}`
}
