import { createRequire } from 'node:module'
import { headerProblem, type OpenApiAnswer, type OpenApiAnswers } from '../respond.js'
import { createExampleMaker, type ExampleMaker } from './example.js'
import { explicitExamples, isNode, type Node, nodeOf, resolve } from './nodes.js'
import { createRouter, type MatchedOperation } from './routes.js'

/** Answers worked out from a checked document. Nothing is prepared before the first call is blocked. */
export function createAnswers(document: Node): OpenApiAnswers {
  let router: ReturnType<typeof createRouter> | undefined
  let examples: ExampleMaker | undefined
  return {
    answer(call, ids) {
      router ??= createRouter(document)
      const matched = router(call.method, call.path)
      if (matched === undefined) {
        return { none: `the OpenAPI document has no operation ${call.method} ${call.path}: answered by default` }
      }
      const named = `${call.method} ${matched.template}`
      const chosen = chooseResponse(document, call.method, matched)
      if (chosen === undefined)
        return { none: `the OpenAPI document declares no success of ${named}: answered by default` }
      const { status, response } = chosen
      examples ??= createExampleMaker(document, createRequire(import.meta.url))
      const headers = headersOf(document, response, examples)
      const media = chooseMedia(nodeOf(response['content']))
      if (media === undefined) return { status, headers }
      const { type, content } = media
      const typed = { ...headers, 'content-type': type.includes('*') ? 'application/json' : type }
      if (!isJson(type)) return textAnswer(document, { status, headers: typed }, content, examples, named)
      const { value, problem } = examples.make(content, {
        request: call.body.form() === undefined ? call.body.json() : Object.fromEntries(call.body.form() ?? []),
        parameters: matched.parameters,
        resource: matched.template.endsWith('}') ? [...matched.parameters.values()].at(-1) : undefined,
        ids,
      })
      const note = problem === undefined ? {} : { note: `the answer does not match its OpenAPI schema: ${problem}` }
      return { status, headers: typed, body: JSON.stringify(value), ...note }
    },
  }
}

function textAnswer(
  document: Node,
  head: Pick<OpenApiAnswer, 'status' | 'headers'>,
  content: Node,
  examples: ExampleMaker,
  named: string,
): OpenApiAnswer | { readonly none: string } {
  const { 'content-type': type = '' } = head.headers
  const [explicit] = explicitExamples(document, content)
  const value = explicit ?? (/^text\//i.test(type) ? examples.sample(content['schema']) : undefined)
  if (typeof value === 'string') return { ...head, body: value }
  return { none: `the OpenAPI document answers ${named} with ${type} and has no example: answered by default` }
}

/** What the operation promises when all is well: for a POST that something was made; `default` when nothing else is said. */
function chooseResponse(
  document: Node,
  method: string,
  { operation }: MatchedOperation,
): { status: number; response: Node } | undefined {
  const responses = nodeOf(operation['responses'])
  const first = method.toUpperCase() === 'POST' ? ['201', '200'] : ['200', '201']
  const exact = Object.keys(responses)
    .filter((key) => /^2\d\d$/.test(key))
    .sort()
  const range = Object.keys(responses).filter((key) => /^2XX$/i.test(key))
  const key = [...first, ...exact, ...range, 'default'].find((each) => isNode(responses[each]))
  if (key === undefined) return undefined
  const status = /^\d+$/.test(key) ? Number(key) : 200
  return { status, response: resolve(document, responses[key]) }
}

function chooseMedia(content: Node): { type: string; content: Node } | undefined {
  const types = Object.keys(content)
  const type = types.find(isJson) ?? types.find((each) => /^text\//i.test(each)) ?? types[0]
  return type === undefined ? undefined : { type, content: nodeOf(content[type]) }
}

function isJson(type: string): boolean {
  return /^[^;]*[/+]json\b/i.test(type) || /^(\*|application)\/\*/.test(type)
}

/** Declared headers that have an example or must be there. */
function headersOf(document: Node, response: Node, examples: ExampleMaker): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, given] of Object.entries(nodeOf(response['headers']))) {
    const header = resolve(document, given)
    const [explicit] = explicitExamples(document, header)
    const value =
      explicit ??
      resolve(document, header['schema'])['example'] ??
      (header['required'] === true ? examples.sample(header['schema']) : undefined)
    if (['string', 'number', 'boolean'].includes(typeof value) && name.toLowerCase() !== 'content-type') {
      headers[name.toLowerCase()] = String(value)
    }
  }
  return Object.fromEntries(Object.entries(headers).filter(([name, value]) => headerProblem(name, value) === undefined))
}
