import type { ValidateFunction } from 'ajv'
import type { Ajv2020 } from 'ajv/dist/2020.js'
import type { sample as sampleSchema } from 'openapi-sampler'
import { fillIn, type Given } from './fill-in.js'
import { toJsonSchema } from './json-schema.js'
import { explicitExamples, type Node } from './nodes.js'

export interface ExampleMaker {
  /** An example of a media type's schema, filled in from the request; `problem` says what is wrong with it. */
  make(content: Node, given: Given): { readonly value: unknown; readonly problem?: string }
  /** Any example of a schema. */
  sample(schema: unknown): unknown
}

/** Fields that are left out to make an example valid, at most. */
const MAX_PRUNED = 100

/** Loads the two libraries it takes. */
export function createExampleMaker(document: Node, require: NodeJS.Require): ExampleMaker {
  const { sample } = require('openapi-sampler') as { sample: typeof sampleSchema }
  const { Ajv2020: Ajv } = require('ajv/dist/2020.js') as { Ajv2020: typeof Ajv2020 }
  const addFormats = require('ajv-formats') as (ajv: Ajv2020) => void
  const ajv = new Ajv({ strict: false, logger: false, unicodeRegExp: false, allowUnionTypes: true })
  addFormats(ajv)
  const validators = new WeakMap<object, ValidateFunction>()

  function validatorOf(schema: object): ValidateFunction {
    const known = validators.get(schema)
    if (known !== undefined) return known
    const made = ajv.compile(toJsonSchema(document, schema))
    validators.set(schema, made)
    return made
  }

  function samples(schema: unknown): unknown[] {
    return [false, true].flatMap((skipNonRequired) => {
      try {
        return [
          sample(
            schema as Parameters<typeof sampleSchema>[0],
            { skipWriteOnly: true, quiet: true, enablePatterns: true, skipNonRequired },
            document,
          ),
        ]
      } catch {
        // A circle that never ends, for instance.
        return []
      }
    })
  }

  return {
    sample: (schema) => samples(schema)[0],
    make(content, given) {
      const { schema } = content
      const explicit = explicitExamples(document, content)
      if (typeof schema !== 'object' || schema === null) return { value: explicit[0] ?? {} }
      const validate = validatorOf(schema)
      // The document's own objects must not be written to.
      const stated = explicit.map((value) => structuredClone(value))
      const made = samples(schema).map((value) => structuredClone(value))
      const whole =
        stated.find((value) => validate(value)) ?? [...made, ...stated].find((value) => prune(value, validate))
      const value = whole ?? stated[0] ?? made[0] ?? {}
      const filled = fillIn(document, schema, value, given, (root) => whole === undefined || validate(root))
      if (validate(filled)) return { value: filled }
      const { instancePath = '', message = '' } = validate.errors?.[0] ?? {}
      return { value: filled, problem: `${instancePath === '' ? 'it' : instancePath} ${message}` }
    },
  }
}

/** Leaves out what makes a generated example invalid, as far as it may be left out. */
function prune(root: unknown, validate: ValidateFunction): boolean {
  for (let removed = 0; removed < MAX_PRUNED; removed += 1) {
    const valid = validate(root) as boolean
    if (valid) return true
    const { instancePath = '', params = {} } = validate.errors?.[0] ?? {}
    const extra = params['additionalProperty'] ?? params['unevaluatedProperty']
    const steps = instancePath
      .split('/')
      .slice(1)
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    const path = extra === undefined ? steps : [...steps, String(extra)]
    const last = path.pop()
    if (last === undefined) return false
    let parent = root
    for (const step of path) parent = (parent as Record<string, unknown>)[step]
    if (Array.isArray(parent)) parent.splice(Number(last), 1)
    else delete (parent as Record<string, unknown>)[last]
  }
  return false
}
