import { z } from 'zod'
import type { Action } from '../journal/record.js'
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
const REQUEST_FIELDS = ['header', 'query', 'body', 'graphql', 'jsonrpc', 'aws'] as const

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
  })
  .refine((value) => Object.keys(value).length > 0, 'match needs at least one field')

const respond = z.strictObject({
  status: z.int().min(100).max(599).optional(),
  headers: z.record(z.string(), z.string()).optional(),
  json: z.unknown().optional(),
  text: z.string().optional(),
})

const rule = z
  .strictObject({
    name: NAME,
    match,
    effect: z.enum(['read', 'write', 'unknown']).optional().describe('Corrects what the call was classified as.'),
    action: z.enum(ACTIONS).optional().describe('Corrects what the report says the call does.'),
    verdict: z.enum(['allow', 'block', 'forward', 'shadow', 'loopback']).optional(),
    respond: respond.optional(),
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
      value.respond === undefined &&
      value.onBlocked === undefined
    ) {
      say('a rule needs one of verdict, effect, respond, onBlocked, action')
    }
    if (
      value.match.host === undefined &&
      reachesHttp(value.match, value.effect === 'read' || value.verdict === 'allow')
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
    // Nowhere else is there a handler to run, and the report would say "forwarded" of a call that was only blocked.
    if (value.verdict === 'loopback' && value.match.system !== 'pg-boss') {
      say('loopback is for queues: match {system: pg-boss}', ['verdict'])
    }
    if (value.verdict === 'allow' && value.respond !== undefined)
      say('allow and respond exclude each other', ['respond'])
    if (value.respond?.json !== undefined && value.respond.text !== undefined) {
      say('json and text exclude each other', ['respond', 'text'])
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
      preview: z.enum(['select', 'rollback', 'none']).optional(),
      maxCost: z.number().positive().optional().describe('Planner cost above which a write is not previewed.'),
      maxRows: z.int().positive().optional().describe('Rows above which a write is not previewed.'),
      maxMilliseconds: z.int().positive().optional().describe('Time one query of a preview may take.'),
    })
    .refine((value) => value.preview !== 'rollback', {
      path: ['preview'],
      error: 'rollback is not available in this version; use select or none',
    })
    .optional(),
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
