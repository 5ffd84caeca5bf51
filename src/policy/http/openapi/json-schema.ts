import { atPointer, isNode, type Node, resolve } from './nodes.js'

const SCHEMAS = [
  'items',
  'additionalProperties',
  'additionalItems',
  'contains',
  'not',
  'if',
  'then',
  'else',
  'propertyNames',
  'unevaluatedItems',
  'unevaluatedProperties',
] as const
const LISTS = ['allOf', 'anyOf', 'oneOf', 'prefixItems'] as const
const MAPS = ['properties', 'patternProperties', 'dependentSchemas'] as const
const PLAIN = [
  'const',
  'enum',
  'exclusiveMaximum',
  'exclusiveMinimum',
  'format',
  'maxContains',
  'maxItems',
  'maxLength',
  'maxProperties',
  'maximum',
  'minContains',
  'minItems',
  'minLength',
  'minProperties',
  'minimum',
  'multipleOf',
  'pattern',
  'required',
  'type',
  'uniqueItems',
  'dependentRequired',
] as const

/**
 * A schema of an OpenAPI document as JSON Schema 2020-12, for a response:
 * what is `writeOnly` is not required. References lead into `$defs`, so that
 * circles stay circles.
 */
export function toJsonSchema(document: Node, schema: unknown): object {
  const names = new Map<string, string>()
  const definitions: Record<string, unknown> = {}
  const old = String(document['openapi']).startsWith('3.0')
  const converted = convert(schema)
  return { ...(typeof converted === 'boolean' ? { allOf: [converted] } : converted), $defs: definitions }

  function convert(given: unknown): Record<string, unknown> | boolean {
    if (typeof given === 'boolean') return given
    if (!isNode(given)) return {}
    const pointer = given['$ref']
    if (typeof pointer === 'string') {
      const reference = { $ref: `#/$defs/${nameOf(pointer)}` }
      // Beside a reference 3.0 ignores everything.
      const { $ref: _, ...beside } = given
      return old ? reference : { ...(convert(beside) as object), ...reference }
    }
    const made: Record<string, unknown> = {}
    for (const key of PLAIN) if (given[key] !== undefined) made[key] = given[key]
    for (const key of SCHEMAS) if (given[key] !== undefined) made[key] = convert(given[key])
    for (const key of LISTS) if (Array.isArray(given[key])) made[key] = given[key].map(convert)
    for (const key of MAPS) {
      const map = given[key]
      if (isNode(map)) made[key] = Object.fromEntries(Object.entries(map).map(([name, each]) => [name, convert(each)]))
    }
    if (Array.isArray(given['required'])) {
      const { properties } = given
      made['required'] = given['required'].filter(
        (name) => !isNode(properties) || resolve(document, properties[String(name)])['writeOnly'] !== true,
      )
    }
    if (old) modernise(given, made)
    return made
  }

  function nameOf(pointer: string): string {
    const known = names.get(pointer)
    if (known !== undefined) return known
    const name = `s${names.size}`
    names.set(pointer, name)
    definitions[name] = convert(atPointer(document, pointer))
    return name
  }
}

/** What 3.0 says in the words of an older draft. */
function modernise(given: Node, made: Record<string, unknown>): void {
  if (given['nullable'] === true && typeof given['type'] === 'string') {
    made['type'] = [given['type'], 'null']
    if (Array.isArray(given['enum'])) made['enum'] = [...given['enum'], null]
  }
  for (const [exclusive, bound] of [
    ['exclusiveMinimum', 'minimum'],
    ['exclusiveMaximum', 'maximum'],
  ] as const) {
    if (typeof given[exclusive] !== 'boolean') continue
    delete made[exclusive]
    if (given[exclusive] === true && given[bound] !== undefined) {
      made[exclusive] = given[bound]
      delete made[bound]
    }
  }
}
