import type { JournalRecord } from './record.js'
import { JOURNAL_SCHEMA } from './record.js'

/** `name type`, with `?` where null and absence are fine: what readers rely on, so that a line edited by hand is a finding and not a crash. */
const BASE = shape('seq number, at string, chain string')
const SHAPES: Readonly<Record<JournalRecord['type'], readonly Field[]>> = {
  process: shape('pid number, service string, node string, drytrace string, argv array'),
  run: shape('runId string, traceId string?, entry string, carriers array, attestation object'),
  run_end: shape('runId string, error string?'),
  effect: shape(
    'runId string, traceId string, spanId string, service string, system string, action string?, effect string, ' +
      'outcome string, target string, summary string, rule string, reason string, preview object?, payload object?, ' +
      'note string?, error object?, overlaidBy array?, attempt object?',
  ),
  problem: shape('runId string?, kind string, message string, spanId string?'),
  decision: shape('runId string, traceId string, spanId string, kind string, name string'),
}
const ATTESTATION = shape('hooks array, gaps array, policyHash string?')
const PREVIEW = shape('method string, rows number, diff array')

interface Field {
  readonly name: string
  readonly type: string
  readonly optional: boolean
}

function shape(text: string): Field[] {
  return text.split(', ').map((field) => {
    const [name = '', type = ''] = field.split(' ')
    return { name, type: type.replace('?', ''), optional: type.endsWith('?') }
  })
}

/** The record on a line of a journal, or what is wrong with the line, as the end of a sentence. */
export function parseRecord(line: string): JournalRecord | string {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return 'not JSON'
  }
  if (typeOf(value) !== 'object') return 'not an object'
  const fields = value as Record<string, unknown>
  const type = fields['type']
  if (typeof type !== 'string' || !Object.hasOwn(SHAPES, type)) return `unknown type ${JSON.stringify(type)}`
  if (type === 'process' && fields['schema'] !== JOURNAL_SCHEMA) {
    return `schema ${JSON.stringify(fields['schema'])}, this version reads ${JOURNAL_SCHEMA}`
  }
  const wrong =
    mismatch(fields, BASE) ??
    mismatch(fields, SHAPES[type as JournalRecord['type']]) ??
    (type === 'run' ? mismatch(fields['attestation'], ATTESTATION) : undefined) ??
    (type === 'effect' && fields['preview'] != null ? mismatch(fields['preview'], PREVIEW) : undefined)
  return wrong ?? (value as JournalRecord)
}

function mismatch(value: unknown, wanted: readonly Field[]): string | undefined {
  const fields = value as Record<string, unknown>
  for (const { name, type, optional } of wanted) {
    const field = fields[name]
    if (optional && field == null) continue
    if (typeOf(field) !== type) return `${JSON.stringify(name)} is ${typeOf(field)}, not ${type}`
  }
  return undefined
}

function typeOf(value: unknown): string {
  return Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value
}
