import type { RequestBody } from './request-facts.js'

/** Makes up ids that are recognised when they show up again. */
export interface SyntheticIds {
  /** `dry_…` */
  string(): string
  uuid(): string
  /** Digits: between 2,000,000,000 and the end of int4. */
  integer(): string
}

/** A blocked request, as a responder function of the policy gets to see it. */
export interface RespondRequest {
  readonly method: string
  readonly url: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  /** The body; null when it is larger than 1 MiB or in an encoding that is not read. */
  readonly text: string | null
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
}

/** What a responder function answers with. `status` is 200 when left out; `json` and `text` exclude each other. */
export interface RespondAnswer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  readonly text?: string
}

/**
 * `respond` of a rule in a policy module. Runs inside the dry run: what it
 * reads is read, what it writes is blocked. It has five seconds.
 */
export type RespondFunction = (request: RespondRequest, ids: SyntheticIds) => RespondAnswer | Promise<RespondAnswer>

/** A request that an answer is worked out for. */
export interface AnswerableCall {
  readonly method: string
  /** Path without the query. */
  readonly path: string
  readonly body: RequestBody
}

export interface OpenApiAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** What the answer does not live up to, for the report. */
  readonly note?: string
}

/** Answers by an OpenAPI document. */
export interface OpenApiAnswers {
  /** A reason, in words, when the document has no answer to this call. */
  answer(call: AnswerableCall, ids: SyntheticIds): OpenApiAnswer | { readonly none: string }
}

/** How a blocked call is answered when a policy rule says so. */
export interface Respond {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  readonly text?: string
  /** The content of `file`, read when the policy was loaded. */
  readonly content?: { readonly bytes: Uint8Array; readonly contentType: string }
  /** Of `openapi`. */
  readonly document?: OpenApiAnswers
  readonly compute?: RespondFunction
}

/** Headers that say how the body travels: they are worked out from it, and a wrong one breaks the connection. */
const FRAMING: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Why a header cannot stand in an answer; undefined when it can. RFC 9110, 5.1 and 5.5. */
export function headerProblem(name: string, value: string): string | undefined {
  if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/i.test(name)) return 'not a header name'
  if (FRAMING.has(name.toLowerCase())) return 'worked out from the body; remove it'
  if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) return 'a header value has no line breaks and no characters past Latin-1'
  return undefined
}

/** Statuses that end a request. What comes before (1xx) would leave the caller waiting. */
export function isFinalStatus(status: unknown): status is number {
  return Number.isInteger(status) && (status as number) >= 200 && (status as number) <= 599
}
