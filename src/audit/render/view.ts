import type { FieldChange, Preview } from '../../journal/record.js'
import type { Report, ReportEffect } from '../report.js'
import { isFenceRefusal } from '../run-facts.js'
import { bytes, count, offset, safe } from './text.js'
import { type ChangeLine, changeLines, formatValue } from './values.js'

/** What people are shown of an effect, the same in every renderer. */
export interface EffectView {
  /** From 1 among the writes; repeats count. */
  readonly number: number
  readonly repeats: number
  readonly offset: string
  readonly action: string
  readonly object: string
  /** What stands after the object: the key of the only row, a row count, the service. */
  readonly tags: readonly string[]
  /** Set when the effect was not simply blocked. */
  readonly mark: string | undefined
  readonly rows: readonly RowView[]
  /** What was left off the rows. */
  readonly more: string | undefined
  readonly payload: PayloadView | undefined
  readonly notes: readonly string[]
  /** The call uses an id that an earlier simulated result made up. */
  readonly madeUp: boolean
}

/** Beside an effect that uses such an id. */
export const MADE_UP = 'uses a made-up id'

export interface RowView {
  /** Undefined when the header line names the row already. */
  readonly title: string | undefined
  readonly changes: readonly ChangeLine[]
}

export interface PayloadView {
  readonly title: string
  readonly fields: readonly { readonly name: string | undefined; readonly value: string }[]
  readonly more: string | undefined
}

const MAX_ROWS = 20
const MAX_PAYLOAD_FIELDS = 16
const MAIL_FIELDS = ['from', 'to', 'cc', 'bcc', 'recipients', 'subject']

/** First words of a summary that say no more than the action beside it. */
const SAME_AS_ACTION: Readonly<Record<string, RegExp>> = {
  create: /^(create|INSERT INTO|INSERT) /i,
  upsert: /^(upsert|INSERT INTO|INSERT|MERGE INTO|MERGE) /i,
  update: /^UPDATE /i,
  delete: /^(DELETE FROM|DELETE) /i,
  send: /^send /i,
  publish: /^publish (to )?/i,
  enqueue: /^(enqueue|send job) (to |on )?/i,
  schedule: /^schedule (on )?/i,
  execute: /^(execute|EXEC) /i,
}

const MARKS: Readonly<Record<string, string | undefined>> = {
  blocked: undefined,
  allowed: 'LET THROUGH',
  forwarded: 'FORWARDED',
  failed: 'GUARD FAILED',
  unblocked: 'NOT BLOCKED',
}

/** True for what a person is shown one by one: everything but a read that was let through. */
export function isShown(effect: ReportEffect): boolean {
  return effect.effect !== 'read' || effect.outcome !== 'allowed'
}

/** Equal for effects that differ only in when and where they happened, and in the ids made up for them. */
export function identityOf(effect: ReportEffect): string {
  const {
    seq: _seq,
    at: _at,
    spanId: _span,
    traceId: _trace,
    syntheticIds: _ids,
    attemptSpanIds: _spans,
    ...rest
  } = effect
  return JSON.stringify(rest)
}

export function effectView(effect: ReportEffect, number: number, report: Report): Omit<EffectView, 'repeats'> {
  const all = rowsOf(effect.preview.diff)
  const only = all.length === 1 && effect.preview.rows <= 1 ? all[0]![0]! : undefined
  const tags: string[] = []
  if (only !== undefined && only.target === effect.target && only.key !== null) tags.push(safe(only.key))
  const rows = rowCount(effect.preview)
  if (rows !== undefined && effect.preview.rows !== 1) tags.push(rows)
  if (effect.attempts !== undefined) tags.push(`${effect.attempts} attempts`)
  if (report.run.service.length > 1) tags.push(`(${safe(effect.service)})`)
  const { action, object } = actionAndObject(effect)
  return {
    number,
    offset: offset(Math.max(0, Date.parse(effect.at) - Date.parse(report.run.startedAt))),
    action,
    object,
    tags,
    mark: isFenceRefusal(effect) && effect.outcome === 'blocked' ? 'REFUSED' : MARKS[effect.outcome],
    rows: all.slice(0, MAX_ROWS).map((changes) => rowView(changes, effect, only !== undefined)),
    more: moreRows(effect, all.length),
    payload: all.length === 0 ? payloadView(effect) : undefined,
    notes: notesOf(effect),
    madeUp: effect.syntheticUsed === true,
  }
}

/** `2 rows`, where rows were looked at; a call that is not about rows has none. */
export function rowCount({ method, rows, diff }: Preview): string | undefined {
  return method === 'select' || method === 'rollback' || diff.length > 0 ? count(rows, 'row') : undefined
}

/** `update  public.customers`, `create  POST crm.example/v1/contacts`: the verb is not said twice, and the target always. */
export function actionAndObject(effect: Pick<ReportEffect, 'system' | 'action' | 'effect' | 'summary' | 'target'>): {
  readonly action: string
  readonly object: string
} {
  const action = effect.action ?? effect.effect
  const target = safe(effect.target)
  const summary = safe(effect.summary)
  // A method says more than the action does: DELETE stays before an URL.
  const verb = effect.system === 'http' ? undefined : SAME_AS_ACTION[action]
  const object = verb === undefined ? summary : summary.replace(verb, '')
  return { action, object: object.includes(target) ? object : `${object}  ${target}` }
}

/** The changes of each row together. Rows with no key (inserts) are told apart by their fields coming round again. */
function rowsOf(diff: readonly FieldChange[]): FieldChange[][] {
  const rows: FieldChange[][] = []
  const open = new Map<string, { readonly changes: FieldChange[]; readonly fields: Set<string> }>()
  for (const change of diff) {
    const name = `${change.target}\n${change.key}`
    let row = open.get(name)
    if (row === undefined || row.fields.has(change.field)) {
      row = { changes: [], fields: new Set() }
      open.set(name, row)
      rows.push(row.changes)
    }
    row.changes.push(change)
    row.fields.add(change.field)
  }
  return rows
}

function rowView(changes: readonly FieldChange[], effect: ReportEffect, only: boolean): RowView {
  const { target, key } = changes[0]!
  const lines = changes.flatMap(changeLines)
  const elsewhere = target === effect.target ? '' : safe(target)
  if (only && elsewhere === '') return { title: undefined, changes: lines }
  const title = [elsewhere, key === null ? '' : safe(key)].filter((part) => part !== '').join('  ')
  return { title: title === '' ? 'row' : title, changes: lines }
}

function moreRows(effect: ReportEffect, groups: number): string | undefined {
  if (groups === 0) return undefined
  const left = Math.max(effect.preview.rows, groups) - Math.min(groups, MAX_ROWS)
  return left > 0 ? `and ${count(left, 'more row')}` : undefined
}

function payloadView({ payload, system }: ReportEffect): PayloadView | undefined {
  if (payload === undefined) return undefined
  const title = [payload.contentType, bytes(payload.size)].filter((part) => part !== undefined).join(', ')
  const { excerpt } = payload
  if (excerpt === undefined || excerpt === null) return { title: safe(title), fields: [], more: undefined }
  if (typeof excerpt !== 'object' || Array.isArray(excerpt)) {
    return { title: safe(title), fields: [{ name: undefined, value: formatValue(excerpt) }], more: undefined }
  }
  const entries = Object.entries(excerpt).filter(([, value]) => !isEmpty(value))
  if (system === 'smtp') entries.sort(([a], [b]) => mailOrder(a) - mailOrder(b))
  const left = entries.length - MAX_PAYLOAD_FIELDS
  return {
    title: safe(title),
    fields: entries
      .slice(0, MAX_PAYLOAD_FIELDS)
      .map(([name, value]) => ({ name: safe(name), value: payloadValue(value, system) })),
    more: left > 0 ? `and ${count(left, 'more field')}` : undefined,
  }
}

/** Recipients are read as a list of addresses, anything else as JSON. */
function payloadValue(value: unknown, system: string): string {
  if (system === 'smtp' && Array.isArray(value) && value.every((item) => typeof item === 'string')) {
    return safe(value.join(', '))
  }
  return formatValue(value)
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0)
}

function mailOrder(name: string): number {
  const index = MAIL_FIELDS.indexOf(name.toLowerCase())
  return index === -1 ? MAIL_FIELDS.length : index
}

function notesOf(effect: ReportEffect): string[] {
  const notes = (effect.notes ?? []).map(safe)
  if (isFenceRefusal(effect)) {
    notes.unshift('refused by the fence: no integration knows this client, so what it would have done is not known')
  } else if (effect.outcome === 'unblocked') {
    notes.unshift(`nobody decided on this: ${safe(effect.reason)}`)
  } else {
    const rule = ruleNote(effect)
    if (rule !== undefined) notes.unshift(rule)
  }
  if (effect.error !== undefined) {
    const code = effect.error.code === null ? '' : `${effect.error.code}: `
    notes.push(safe(`${code}${effect.error.message}`))
  }
  return notes
}

/** Reasons the policy gives where its owner gave none. */
const STOCK_REASON =
  /^(writes are blocked|what cannot be told apart from a write is blocked|reads pass|a read by rule|(allow|block|loopback) by rule)$/

/** Which rule decided: nothing where that only repeats that the effect was blocked. */
function ruleNote({ outcome, rule, reason }: ReportEffect): string | undefined {
  if (!STOCK_REASON.test(reason)) return `rule ${safe(rule)}: ${safe(reason)}`
  if (outcome === 'blocked' || outcome === 'failed') return undefined
  return `rule ${safe(rule)}${reason === 'loopback by rule' ? ': handed to its own handler inside this run' : ''}`
}
