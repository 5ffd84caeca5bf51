import { z } from 'zod'
import type { Action } from '../journal/record.js'
import { headerProblem } from './http/respond.js'
import { unknownPlaceholders } from './http/template.js'
import { VALIDATIONS } from './http/validation.js'
import { compilePattern } from './pattern.js'

const NAME = z.string().regex(/^[a-z0-9][a-z0-9._-]*$/i, 'letters, digits, dot, dash and underscore only')
const PATTERN = z.string().min(1)

const ACTIONS = [
  'create',
  'update',
  'upsert',
  'delete',
  'send',
  'publish',
  'enqueue',
  'schedule',
  'charge',
  'execute',
  'ddl',
  'settle',
] as const satisfies readonly Action[]

/** Fields that look into an HTTP request. */
const REQUEST_FIELDS = ['header', 'query', 'body', 'graphql', 'jsonrpc', 'aws', 'soap'] as const

const match = z
  .strictObject({
    system: PATTERN.optional().describe('postgresql, http, smtp, pg-boss, net, process, …'),
    action: PATTERN.optional(),
    host: PATTERN.optional().describe('HTTP and SMTP: host, or host:port. `*` stands for any characters but a dot.'),
    method: PATTERN.optional().describe('HTTP method; `|` separates alternatives.'),
    path: PATTERN.optional().describe('HTTP path without the query. `*` stops at a slash, `**` does not.'),
    relation: PATTERN.optional().describe('PostgreSQL: table, or schema.table.'),
    operation: PATTERN.optional().describe('PostgreSQL: INSERT, UPDATE, DELETE, …'),
    destination: PATTERN.optional().describe('Queue, topic or mail domain.'),
    command: PATTERN.optional().describe('Child process: the program.'),
    header: z.record(z.string().min(1), PATTERN).optional().describe('HTTP headers: name to pattern.'),
    query: z.record(z.string().min(1), PATTERN).optional().describe('HTTP query parameters: name to pattern.'),
    body: z
      .record(z.string().min(1), PATTERN)
      .optional()
      .describe('Fields of a JSON or form body: dotted path to pattern; `*` is every item. Bodies up to 1 MiB.'),
    graphql: z
      .string()
      .regex(/^(query|mutation|subscription|unknown)(\|(query|mutation|subscription|unknown))*$/, {
        error: 'query, mutation, subscription or unknown; | separates alternatives',
      })
      .optional()
      .describe('The GraphQL operation asked for; batches, persisted and unparsable queries are unknown.'),
    jsonrpc: PATTERN.optional().describe('JSON-RPC and MCP method; of a batch, every one for a rule that lets pass.'),
    aws: PATTERN.optional().describe(
      'AWS action, from X-Amz-Target or Action=: GetItem, or DynamoDB_20120810.GetItem.',
    ),
    soap: PATTERN.optional().describe(
      'SOAP action, whole or its last part, from SOAPAction, the action of application/soap+xml, WS-Addressing and the first element of the Body; for a rule that lets pass, every one there is.',
    ),
  })
  .refine((value) => Object.keys(value).length > 0, 'match needs at least one field')

/** Where the body of an answer comes from; one of them. */
const BODIES = ['json', 'text', 'file', 'openapi'] as const

const respond = z
  .strictObject({
    status: z.int().min(200).max(599).optional(),
    headers: z.record(z.string(), z.string()).optional(),
    json: z.unknown().optional().describe('Templates in strings: {{syntheticId}}, {{now}}, {{request.<field>}}.'),
    text: z.string().optional().describe('Templates as in json.'),
    file: z.string().min(1).optional().describe('Path of the body, relative to the policy file. No templates.'),
    openapi: z
      .string()
      .min(1)
      .optional()
      .describe('Path of an OpenAPI 3.0 or 3.1 document, relative to the policy file.'),
  })
  .superRefine((value, issue) => {
    const say = (message: string, path: PropertyKey[]) => issue.addIssue({ code: 'custom', message, path })
    const [one, other] = BODIES.filter((body) => value[body] !== undefined)
    if (other !== undefined) say(`${one} and ${other} exclude each other`, [other])
    for (const field of value.openapi === undefined ? [] : (['status', 'headers'] as const)) {
      if (value[field] !== undefined) say(`openapi brings the ${field} of its own; remove this one`, [field])
    }
    for (const [name, text] of Object.entries(value.headers ?? {})) {
      const problem = headerProblem(name, text)
      if (problem !== undefined) say(problem, ['headers', name])
    }
    for (const { path, text } of stringsIn({ json: value.json, text: value.text, headers: value.headers })) {
      for (const name of unknownPlaceholders(text)) {
        say(
          `unknown template {{${name}}}: there are syntheticId, syntheticId.uuid, syntheticId.integer, now and request.<field>`,
          path,
        )
      }
    }
  })

/** Every string of a JSON value, with its place. */
function stringsIn(value: unknown, path: PropertyKey[] = []): { path: PropertyKey[]; text: string }[] {
  if (typeof value === 'string') return [{ path, text: value }]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, item]) =>
    stringsIn(item, [...path, Array.isArray(value) ? Number(key) : key]),
  )
}

const rule = z
  .strictObject({
    name: NAME,
    match,
    effect: z.enum(['read', 'write', 'unknown']).optional().describe('Corrects what the call was classified as.'),
    action: z.enum(ACTIONS).optional().describe('Corrects what the report says the call does.'),
    verdict: z.enum(['allow', 'block', 'forward', 'shadow', 'loopback']).optional(),
    validate: z
      .enum(VALIDATIONS)
      .optional()
      .describe('Sends the write in the provider’s own validation mode, or blocks it when that cannot be ensured.'),
    respond: respond.optional(),
    preview: z
      .enum(['get', 'none'])
      .optional()
      .describe(
        'HTTP: get lets drytrace read the resource once before a blocked change to it, to show the difference.',
      ),
    onBlocked: z.enum(['simulate', 'throw']).optional(),
    owner: z.string().min(1).optional(),
    reason: z.string().min(1).optional(),
    expires: z
      .union([
        z
          .string()
          .regex(/^\d{4}-\d{2}-\d{2}$/, { error: 'a date, yyyy-mm-dd', abort: true })
          .refine(isDay, 'there is no such day'),
        z.date(),
      ])
      .transform((value) => (typeof value === 'string' ? value : value.toISOString().slice(0, 10)))
      .optional(),
  })
  .superRefine((value, issue) => {
    const say = (message: string, path: string[] = []) => issue.addIssue({ code: 'custom', message, path })
    if (
      value.verdict === undefined &&
      value.effect === undefined &&
      value.action === undefined &&
      value.validate === undefined &&
      value.respond === undefined &&
      value.onBlocked === undefined &&
      value.preview === undefined
    ) {
      say('a rule needs one of verdict, effect, respond, onBlocked, action, validate, preview')
    }
    if (
      value.match.host === undefined &&
      reachesHttp(value.match, value.effect === 'read' || value.verdict === 'allow' || value.preview === 'get')
    ) {
      say('host is required for http rules', ['match', 'host'])
    }
    const inside = REQUEST_FIELDS.find((field) => value.match[field] !== undefined)
    if (inside !== undefined && value.match.system !== undefined && value.match.system !== 'http') {
      say(`${inside} looks into HTTP requests: system must be http`, ['match', inside])
    }
    if (value.verdict === 'allow' && value.effect !== 'read') {
      for (const field of ['owner', 'reason', 'expires'] as const) {
        if (value[field] === undefined) say(`allow on a write needs owner, reason and expires: add ${field}`, [field])
      }
    }
    if (value.preview !== undefined && value.match.system !== undefined && value.match.system !== 'http') {
      say('preview is for HTTP rules; PostgreSQL has postgres.preview', ['preview'])
    }
    if (value.preview === 'get' && (value.verdict === 'allow' || value.effect === 'read')) {
      say('preview: get is for what is blocked', ['preview'])
    }
    // Nowhere else is there a handler to run, and the report would say "forwarded" of a call that was only blocked.
    if (value.verdict === 'loopback' && value.match.system !== 'pg-boss') {
      say('loopback is for queues: match {system: pg-boss}', ['verdict'])
    }
    if (value.validate !== undefined) {
      for (const field of ['verdict', 'effect'] as const) {
        if (value[field] !== undefined) say(`validate and ${field} exclude each other`, [field])
      }
      for (const field of ['owner', 'reason'] as const) {
        if (value[field] === undefined)
          say(`validate sends something, so it needs owner and reason: add ${field}`, [field])
      }
      if (value.match.system !== 'http') say('validate is for HTTP requests: match {system: http}', ['validate'])
      // Whoever else answers there would take dryRun=All for a parameter it does not know, and act.
      if (value.validate === 'kubernetes' && value.match.host?.includes('*') === true) {
        say('name the API server: kubernetes is not validated by a host with *', ['match', 'host'])
      }
    }
    if (value.verdict === 'allow' && value.respond !== undefined)
      say('allow and respond exclude each other', ['respond'])
    const source = value.respond?.file !== undefined ? 'file' : value.respond?.openapi !== undefined ? 'openapi' : ''
    if (source !== '' && value.match.system !== undefined && value.match.system !== 'http') {
      say(`${source} answers HTTP requests: system must be http`, ['respond', source])
    }
  })

/** A day that exists: the limit of a rule that ends on the 31st of February would never come. */
function isDay(text: string): boolean {
  const time = Date.parse(`${text}T00:00:00Z`)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text)
}

/** True when a rule is about HTTP calls, or would let them through along with others. */
function reachesHttp(fields: z.output<typeof match>, loosens: boolean): boolean {
  const { system, method, path } = fields
  if (system === 'http' || REQUEST_FIELDS.some((field) => fields[field] !== undefined)) return true
  if (system !== undefined && !compilePattern(system, '\0')('http')) return false
  const elsewhere = fields.relation ?? fields.operation ?? fields.destination ?? fields.command
  return elsewhere === undefined && (loosens || method !== undefined || path !== undefined)
}

/** The policy file, version 1. Published as `drytrace/policy.schema.json`. */
export const policySchema = z.strictObject({
  version: z.literal(1),
  trust: z
    .strictObject({ mode: z.enum(['signed', 'loopback']).optional(), audience: z.array(z.string().min(1)).optional() })
    .optional(),
  postgres: z
    .strictObject({
      preview: z
        .enum(['select', 'rollback', 'none'])
        .optional()
        .describe('How writes are worked out: by reading, by executing and rolling back, or not at all.'),
      rollback: z
        .strictObject({
          lockSeconds: z.number().positive().max(60).optional().describe('Waits this long for a lock; default 1.'),
          statementSeconds: z.number().positive().max(600).optional().describe('Longest statement; default 10.'),
          idleSeconds: z
            .number()
            .positive()
            .max(3600)
            .optional()
            .describe('Longest pause between statements, with the locks held; default 60.'),
        })
        .optional()
        .describe('Limits of preview: rollback.'),
      maxCost: z.number().positive().optional().describe('Planner cost above which a write is not previewed.'),
      maxRows: z.int().positive().optional().describe('Rows above which a write is not previewed.'),
      maxMilliseconds: z.int().positive().optional().describe('Time one query of a preview may take.'),
    })
    .refine((value) => value.rollback === undefined || value.preview === 'rollback', {
      path: ['rollback'],
      error: 'these limits are for preview: rollback',
    })
    .optional(),
  http: z
    .strictObject({ preview: z.enum(['get', 'none']).optional() })
    .optional()
    .describe('preview: get reads a resource once before a blocked change to it; a rule may say otherwise.'),
  onBlocked: z.enum(['simulate', 'throw']).optional(),
  budget: z
    .strictObject({
      writes: z.int().positive().optional().describe('Blocked writes a run may make.'),
      repeats: z.int().positive().optional().describe('Times one and the same effect may be repeated.'),
      seconds: z.int().positive().optional().describe('Wall time of a run.'),
    })
    .optional(),
  redact: z.array(z.string().min(1)).optional().describe('Field names never recorded, beside the built-in ones.'),
  record: z
    .strictObject({ decisions: z.boolean().optional() })
    .optional()
    .describe('decisions: keep model input and output.'),
  disable: z.array(z.string().min(1)).optional().describe('Ids of built-in rules to switch off.'),
  rules: z.array(rule).optional(),
})

export type PolicyDocument = z.output<typeof policySchema>
export type PolicyRule = NonNullable<PolicyDocument['rules']>[number]
