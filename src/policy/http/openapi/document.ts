import { createRequire } from 'node:module'
import type { ValidateFunction } from 'ajv'
import { LineCounter, parseDocument } from 'yaml'
import { messageOf } from '../../../errors.js'
import { lineOf, type Path } from '../../yaml-lines.js'
import type { OpenApiAnswers } from '../respond.js'
import { createAnswers } from './answers.js'
import { atPointer, isNode, type Node, stepsOf } from './nodes.js'

export interface DocumentProblems {
  readonly problems: readonly { readonly line: number; readonly message: string }[]
}

/** Complaints about one document that are shown. */
const MAX_PROBLEMS = 5

/** Reads and checks an OpenAPI 3.0 or 3.1 document, YAML or JSON. */
export function readOpenApi(text: string): OpenApiAnswers | DocumentProblems {
  const lines = new LineCounter()
  const yaml = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  if (yaml.errors.length > 0) {
    return {
      problems: yaml.errors
        .slice(0, MAX_PROBLEMS)
        .map(({ pos, message }) => ({ line: lines.linePos(pos[0]).line, message: `not valid YAML: ${message}` })),
    }
  }
  const at = (path: Path, message: string) => ({
    line: lineOf(yaml, lines, path),
    message: path.length === 0 ? message : `${path.join('.')}: ${message}`,
  })
  let document: unknown
  try {
    document = yaml.toJS()
  } catch (error) {
    return { problems: [at([], `not valid YAML: ${messageOf(error)}`)] }
  }
  if (!isNode(document)) return { problems: [at([], 'not an OpenAPI document')] }
  const version = /^3\.([01])\.\d+/.exec(String(document['openapi'] ?? ''))?.[1]
  if (version === undefined) {
    const found = document['openapi'] ?? document['swagger']
    const what = found === undefined ? 'no version is named' : `it is ${JSON.stringify(found)}`
    return { problems: [at(['openapi'], `OpenAPI 3.0 or 3.1 is needed, ${what}`)] }
  }
  const wrong = schemaErrors(document, `3.${version}`)
  const problems = wrong.length > 0 ? wrong : badReferences(document)
  if (problems.length > 0)
    return { problems: problems.slice(0, MAX_PROBLEMS).map(([path, message]) => at(path, message)) }
  return createAnswers(document)
}

type Problem = readonly [path: Path, message: string]

function schemaErrors(document: Node, version: string): Problem[] {
  const { Validator } = createRequire(import.meta.url)('@seriousme/openapi-schema-validator') as {
    Validator: new () => { getAjvValidator(version: string): ValidateFunction }
  }
  const validate = new Validator().getAjvValidator(version)
  if (validate(document)) return []
  const errors = (validate.errors ?? []).map(({ instancePath, message = 'invalid', params, keyword }) => {
    const unknown = params['additionalProperty'] ?? params['unevaluatedProperty']
    const path = [...stepsOf(instancePath), ...(unknown === undefined ? [] : [String(unknown)])]
    // Of a choice between a thing and a reference to it, the reference is not what was meant.
    const noise = params['missingProperty'] === '$ref' || ['oneOf', 'anyOf', 'if', '$ref'].includes(keyword)
    return { path, message: unknown === undefined ? message : 'unknown field', noise }
  })
  const telling = errors.some(({ noise }) => !noise) ? errors.filter(({ noise }) => !noise) : errors
  const deepest = Math.max(...telling.map(({ path }) => path.length))
  const found = new Map(
    telling
      .filter(({ path }) => path.length === deepest)
      .map((each) => [JSON.stringify([each.path, each.message]), each]),
  )
  return [...found.values()].map(({ path, message }) => [path, message])
}

/** Keys whose values are data, not parts of the document. */
const DATA: ReadonlySet<string> = new Set(['example', 'default', 'enum', 'const', 'value'])

function badReferences(document: Node): Problem[] {
  const problems: Problem[] = []
  const seen = new WeakSet<object>()
  const visit = (value: unknown, path: string[]): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    for (const [key, each] of Object.entries(value)) {
      if (DATA.has(key) && path.at(-1) !== 'properties') continue
      if (key === '$ref' && typeof each === 'string' && path.at(-1) !== 'properties') {
        if (!each.startsWith('#')) {
          problems.push([[...path, key], `${each} is outside of this document: bundle it into one file`])
        } else if (atPointer(document, each) === undefined) problems.push([[...path, key], `${each} leads nowhere`])
      } else visit(each, [...path, key])
    }
  }
  visit(document, [])
  return problems
}
