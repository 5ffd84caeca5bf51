import { cstring, message, Reader } from './wire.js'

/** The fields of an ErrorResponse, under the names node-postgres gives them. */
const FIELDS: Readonly<Record<string, string>> = {
  V: 'severity',
  C: 'code',
  M: 'message',
  D: 'detail',
  H: 'hint',
  P: 'position',
  p: 'internalPosition',
  q: 'internalQuery',
  W: 'where',
  s: 'schema',
  t: 'table',
  c: 'column',
  d: 'dataType',
  n: 'constraint',
  F: 'file',
  L: 'line',
  R: 'routine',
}

/** An error of the server, or one it would have raised. */
export class ServerError extends Error {
  declare readonly code?: string
  declare readonly severity?: string

  constructor(text: string, _length?: number, name = 'error') {
    super(text)
    this.name = name
  }
}

export function readError(response: Buffer): ServerError {
  const reader = new Reader(response)
  const fields: Record<string, string> = {}
  while (!reader.done) {
    const key = reader.character()
    if (key === '\0') break
    const name = FIELDS[key]
    const value = reader.string()
    if (name !== undefined) fields[name] = value
  }
  const { message: text = 'unknown error', ...rest } = fields
  return Object.assign(new ServerError(text), { severity: 'ERROR' }, rest)
}

/** Errors of ours on their way through the library, which makes errors of its own out of what it reads. */
const underway = new Map<string, Error>()
const MAX_UNDERWAY = 1_000
let count = 0

/** The ErrorResponse that says `error`. */
export function writeError(error: Error): Buffer {
  const fields = error as unknown as Record<string, unknown>
  const parts: Buffer[] = []
  const put = (key: string, value: unknown): void => {
    if (value === undefined || value === null) return
    parts.push(Buffer.from(key), cstring(String(value).replaceAll('\0', ' ')))
  }
  if (error instanceof ServerError) {
    put('S', error.severity ?? 'ERROR')
    for (const [key, name] of Object.entries(FIELDS)) put(key, fields[name])
  } else {
    const id = `drytrace:${count++}`
    if (underway.size >= MAX_UNDERWAY) underway.delete(underway.keys().next().value as string)
    underway.set(id, error)
    for (const key of ['S', 'V']) put(key, 'ERROR')
    put('C', fields['code'] ?? 'XX000')
    put('M', error.message)
    put('R', id)
  }
  return message('E', ...parts, Buffer.from([0]))
}

/** The error of ours that the library's error stands for, or the library's error. */
export function originalOf(error: unknown): unknown {
  const routine = (error as { routine?: unknown } | null)?.routine
  if (typeof routine !== 'string') return error
  const found = underway.get(routine)
  if (found === undefined) return error
  underway.delete(routine)
  return found
}
