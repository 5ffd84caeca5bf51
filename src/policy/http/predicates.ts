import { compilePattern } from '../pattern.js'
import type { PolicyRule } from '../schema.js'
import { graphqlOperation } from './graphql.js'
import type { RequestBody, RequestFacts } from './request-facts.js'
import { claimsSoap, soapEnvelope, soapHeaderActions, soapNames } from './soap.js'

/** `unknown`: what the test needs has not been seen, or cannot be read. */
export type Match = boolean | 'unknown'

/** What a test asks of one request. */
export type RequestTest = (facts: RequestFacts, readByMethod: boolean) => Match

type Fields = PolicyRule['match']

/** The tests of a rule that look into the request; empty for a rule that has none. */
export function requestTests(match: Fields, passes: boolean): RequestTest[] {
  return [
    ...entries(match.header).map(([name, pattern]) => headerTest(name.toLowerCase(), pattern, passes)),
    ...entries(match.query).map(([name, pattern]): RequestTest => {
      const matches = compilePattern(pattern, '\0')
      return ({ query }) => query.getAll(name).some(matches)
    }),
    ...entries(match.body).map(([path, pattern]) => bodyTest(path, pattern, passes)),
    ...(match.graphql === undefined ? [] : [graphqlTest(match.graphql)]),
    ...(match.jsonrpc === undefined ? [] : [jsonrpcTest(match.jsonrpc, passes)]),
    ...(match.aws === undefined ? [] : [awsTest(match.aws, passes)]),
    ...(match.soap === undefined ? [] : [soapTest(match.soap, passes)]),
  ]
}

function entries(record: Readonly<Record<string, string>> | undefined): [string, string][] {
  return Object.entries(record ?? {})
}

function headerTest(name: string, pattern: string, passes: boolean): RequestTest {
  const matches = compilePattern(pattern, '\0')
  return ({ headers, headersFinal }, readByMethod) => {
    const value = headers[name]
    if (value !== undefined && matches(value)) return true
    // A header that may still be set could only make a call pass that is blocked now, or block one that passes now.
    return !headersFinal && !passes && readByMethod ? 'unknown' : false
  }
}

/** Of several values a rule that lets pass wants all to match, a rule that blocks wants one. */
function quantified(values: readonly string[], matches: (value: string) => boolean, passes: boolean): boolean {
  return values.length > 0 && (passes ? values.every(matches) : values.some(matches))
}

function bodyTest(path: string, pattern: string, passes: boolean): RequestTest {
  const matches = compilePattern(pattern, '\0')
  const steps = path.split('.')
  return ({ body }) => {
    if (body === undefined || body === null) return 'unknown'
    if (body.text === '') return false
    const form = body.form()
    if (form !== undefined) return quantified(form.getAll(path), matches, passes)
    const json = body.json()
    if (json === undefined) return 'unknown'
    return quantified(valuesAt(json, steps), matches, passes)
  }
}

/** Scalars at a dotted path; `*` is every member of an array or object. */
function valuesAt(value: unknown, [step, ...rest]: readonly string[]): string[] {
  if (step === undefined) {
    return value === null || ['string', 'number', 'boolean'].includes(typeof value) ? [String(value)] : []
  }
  if (typeof value !== 'object' || value === null) return []
  if (step === '*') return Object.values(value).flatMap((item) => valuesAt(item, rest))
  return Object.hasOwn(value, step) ? valuesAt((value as Record<string, unknown>)[step], rest) : []
}

function graphqlTest(pattern: string): RequestTest {
  const matches = compilePattern(pattern, '\0')
  return (facts, readByMethod) => {
    // A GET asks by its URL alone.
    if (facts.body === null || (facts.body === undefined && !readByMethod)) return 'unknown'
    const operation = graphqlOperation(facts)
    return operation !== undefined && matches(operation)
  }
}

function jsonrpcTest(pattern: string, passes: boolean): RequestTest {
  const matches = compilePattern(pattern, '\0')
  return ({ body }, readByMethod) => {
    if (body === undefined) return readByMethod ? false : 'unknown'
    if (body === null) return 'unknown'
    const json = body.json()
    const messages = Array.isArray(json) ? json : [json]
    const methods = messages.map((message) => (message as { method?: unknown } | null | undefined)?.method)
    if (!methods.every((method) => typeof method === 'string')) return false
    return quantified(methods, matches, passes)
  }
}

function awsTest(pattern: string, passes: boolean): RequestTest {
  const matches = compilePattern(pattern, '\0')
  return ({ headers, query, body }, readByMethod) => {
    const target = headers['x-amz-target']
    if (target !== undefined) return matches(target) || matches(target.slice(target.lastIndexOf('.') + 1))
    const inUrl = query.getAll('Action')
    if (readByMethod) return quantified(inUrl, matches, passes)
    if (body === undefined || body === null) return 'unknown'
    // Of several actions in one request it is not known which one the service obeys.
    return quantified([...inUrl, ...formActions(body)], matches, passes)
  }
}

function formActions(body: RequestBody): string[] {
  return body.form()?.getAll('Action') ?? []
}

/**
 * A server may go by any of the names a request gives: a rule that lets pass
 * wants all of them, and a body it can read; a rule that blocks wants one.
 */
function soapTest(pattern: string, passes: boolean): RequestTest {
  const one = compilePattern(pattern, '\0')
  const matches = (action: string) => soapNames(action).some(one)
  return (facts, readByMethod) => {
    const named = soapHeaderActions(facts)
    if (!passes && named.some(matches)) return true
    if (passes && !named.every(matches)) return false
    const { body } = facts
    if (body === undefined) return readByMethod ? false : 'unknown'
    if (body === null) return 'unknown'
    const envelope = soapEnvelope(body)
    if (envelope === 'other') return false
    // What cannot be read may be what a rule blocks, and is never what one lets pass.
    if (envelope === 'unreadable') return passes || !claimsSoap(facts) ? false : 'unknown'
    return quantified([...named, ...envelope.actions, ...envelope.operations], matches, passes)
  }
}
