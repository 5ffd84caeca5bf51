import { headerProblem, isFinalStatus, type RespondAnswer } from './respond.js'

/** A responder's answer as it goes over the wire. */
export interface WireAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

/** Characters of a body: an answer is held in memory. */
const MAX_TEXT = 8 * 1024 * 1024
const FIELDS: ReadonlySet<string> = new Set(['status', 'headers', 'json', 'text'])

/**
 * Checks what a responder function has returned.
 * @throws Error in words, when it is no answer.
 */
export function wireAnswer(answer: unknown): WireAnswer {
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) {
    throw new Error(`returned ${shown(answer)}; return {status, headers, json} or {status, headers, text}`)
  }
  const unknown = Object.keys(answer).find((field) => !FIELDS.has(field))
  if (unknown !== undefined) throw new Error(`returned an unknown field ${JSON.stringify(unknown)}`)
  const { status = 200, headers = {}, json, text } = answer as RespondAnswer
  if (!isFinalStatus(status)) throw new Error(`returned status ${shown(status)}; a number from 200 to 599 is one`)
  if (json !== undefined && text !== undefined) throw new Error('returned json and text; they exclude each other')
  if (text !== undefined && typeof text !== 'string') throw new Error(`returned text that is ${shown(text)}`)
  if (typeof headers !== 'object' || headers === null) throw new Error(`returned headers that are ${shown(headers)}`)
  for (const [name, value] of Object.entries(headers)) {
    const problem = typeof value === 'string' ? headerProblem(name, value) : 'not a string'
    if (problem !== undefined) throw new Error(`returned the header ${JSON.stringify(name)}: ${problem}`)
  }
  const body = json === undefined ? text : stringify(json)
  if (body !== undefined && body.length > MAX_TEXT) throw new Error(`returned a body of ${body.length} characters`)
  const type = json !== undefined ? 'application/json' : text !== undefined ? 'text/plain; charset=utf-8' : undefined
  return {
    status,
    headers: { ...(type === undefined ? {} : { 'content-type': type }), ...lowerCased(headers) },
    ...(body === undefined ? {} : { body }),
  }
}

function stringify(value: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    throw new Error(`returned json that cannot be written as JSON: ${(cause as Error).message}`)
  }
  if (text === undefined) throw new Error(`returned json that is ${shown(value)}`)
  return text
}

export function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function shown(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return JSON.stringify(value)
  return value === null
    ? 'null'
    : Array.isArray(value)
      ? 'an array'
      : typeof value === 'object'
        ? 'an object'
        : typeof value
}
