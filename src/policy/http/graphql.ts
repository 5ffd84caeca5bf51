import { createRequire } from 'node:module'
import type { RequestFacts } from './request-facts.js'

/** `unknown` is what cannot be told: a batch, a persisted query, a document that does not parse. */
export type GraphqlOperation = 'query' | 'mutation' | 'subscription' | 'unknown'

interface Definition {
  readonly kind: string
  readonly operation?: GraphqlOperation
  readonly name?: { readonly value: string }
}

type Parse = (source: string, options: object) => { readonly definitions: readonly Definition[] }

/** Tokens of a document that are looked at: parsing is paid by the caller's event loop. */
const MAX_TOKENS = 20_000

/**
 * The operation that a GraphQL request asks for; undefined when it is no
 * GraphQL request at all. Servers differ in which of several sources they
 * obey, so whatever offers a second one is unknown.
 */
export function graphqlOperation(facts: RequestFacts): GraphqlOperation | undefined {
  const { body, query } = facts
  if (query.has('extensions') || query.has('documentId') || query.has('doc_id')) return 'unknown'
  const inUrl = query.get('query') ?? undefined
  if (body === undefined || body === null || body.text === '') {
    return inUrl === undefined ? undefined : operationOf(inUrl, query.get('operationName') ?? undefined)
  }
  if (inUrl !== undefined) return 'unknown'
  if (/^application\/graphql\b(?!-)/i.test(body.contentType)) return operationOf(body.text, undefined)
  const request = body.json()
  if (typeof request !== 'object' || request === null || Array.isArray(request)) return 'unknown'
  const { query: source, operationName, id, documentId, doc_id, extensions } = request as Record<string, unknown>
  const persisted = (extensions as { persistedQuery?: unknown } | null | undefined)?.persistedQuery
  if ([id, documentId, doc_id, persisted].some((value) => value !== undefined && value !== null)) return 'unknown'
  if (typeof source !== 'string') return 'unknown'
  if (operationName !== undefined && operationName !== null && typeof operationName !== 'string') return 'unknown'
  return operationOf(source, operationName || undefined)
}

function operationOf(source: string, name: string | undefined): GraphqlOperation {
  const parse = loadParser()
  if (parse === undefined) return 'unknown'
  try {
    const operations = parse(source, { noLocation: true, maxTokens: MAX_TOKENS }).definitions.filter(
      ({ kind }) => kind === 'OperationDefinition',
    )
    // A server that ignores the name would run another one.
    const chosen = name === undefined ? operations : operations.filter((each) => each.name?.value === name)
    const kinds = new Set(operations.map(({ operation }) => operation))
    if (chosen.length !== 1 || kinds.size !== 1) return 'unknown'
    return chosen[0]?.operation ?? 'unknown'
  } catch {
    return 'unknown'
  }
}

let parser: { parse: Parse | undefined } | undefined

/** Loaded with the first GraphQL request of a dry run: a service without any does not pay for it. */
function loadParser(): Parse | undefined {
  if (parser === undefined) {
    try {
      parser = { parse: (createRequire(import.meta.url)('graphql') as { parse: Parse }).parse }
    } catch {
      parser = { parse: undefined }
    }
  }
  return parser.parse
}
