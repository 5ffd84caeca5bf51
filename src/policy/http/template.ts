import type { RequestBody } from './request-facts.js'
import type { SyntheticIds } from './respond.js'

const PLACEHOLDER = /\{\{(.*?)\}\}/gs
const WHOLE = /^\{\{([^{}]*)\}\}$/
const REQUEST_FIELD = /^request(\.[\w$-]+)+$/

const IDS: Readonly<Record<string, (ids: SyntheticIds) => unknown>> = {
  syntheticId: (ids) => ids.string(),
  'syntheticId.uuid': (ids) => ids.uuid(),
  'syntheticId.integer': (ids) => Number(ids.integer()),
}

/** What a template may take its values from. */
export interface TemplateValues {
  readonly ids: SyntheticIds
  readonly body: RequestBody
}

/** Placeholders in a text that stand for nothing we know. */
export function unknownPlaceholders(text: string): string[] {
  return [...text.matchAll(PLACEHOLDER)]
    .map(([, name = '']) => name.trim())
    .filter((name) => !Object.hasOwn(IDS, name) && name !== 'now' && !REQUEST_FIELD.test(name))
}

/**
 * Fills every string of a JSON value. `{{syntheticId}}` (also `.uuid` and
 * `.integer`) is a new id at each place, `{{now}}` the time,
 * `{{request.<field>}}` a field of the JSON or form body, dots lead deeper. A
 * string that is one placeholder takes the value's own type.
 */
export function fillTemplate(value: unknown, values: TemplateValues): unknown {
  if (typeof value === 'string') {
    const whole = WHOLE.exec(value)?.[1]
    if (whole !== undefined) return lookup(whole.trim(), values)
    return value.replace(PLACEHOLDER, (_, name: string) => textOf(lookup(name.trim(), values)))
  }
  if (Array.isArray(value)) return value.map((item) => fillTemplate(item, values))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fillTemplate(item, values)]))
  }
  return value
}

function textOf(value: unknown): string {
  return value === null || value === undefined ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function lookup(name: string, { ids, body }: TemplateValues): unknown {
  if (Object.hasOwn(IDS, name)) return IDS[name]?.(ids)
  if (name === 'now') return new Date().toISOString()
  const path = name.slice('request.'.length)
  const form = body.form()
  if (form !== undefined) return form.get(path)
  let value = body.json()
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return null
    value = (value as Record<string, unknown>)[step]
  }
  return value ?? null
}
