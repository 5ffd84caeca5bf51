import { z } from 'zod'

const NAME = z.string().regex(/^[a-z0-9][a-z0-9._-]*$/i, 'letters, digits, dot, dash and underscore only')
const PATTERN = z.string().min(1)

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
    effect: z.enum(['read', 'write']).optional().describe('Corrects what the call was classified as.'),
    verdict: z.enum(['allow', 'block', 'forward', 'shadow', 'loopback']).optional(),
    respond: respond.optional(),
    onBlocked: z.enum(['simulate', 'throw']).optional(),
    owner: z.string().min(1).optional(),
    reason: z.string().min(1).optional(),
    expires: z
      .union([z.string().regex(/^\d{4}-\d{2}-\d{2}$/, 'a date, yyyy-mm-dd'), z.date()])
      .transform((value) => (typeof value === 'string' ? value : value.toISOString().slice(0, 10)))
      .optional(),
  })
  .superRefine((value, issue) => {
    const say = (message: string, path: string[] = []) => issue.addIssue({ code: 'custom', message, path })
    if (
      value.verdict === undefined &&
      value.effect === undefined &&
      value.respond === undefined &&
      value.onBlocked === undefined
    ) {
      say('a rule needs one of verdict, effect, respond, onBlocked')
    }
    if (value.match.system === 'http' && value.match.host === undefined) {
      say('host is required for http rules', ['match', 'host'])
    }
    if (value.verdict === 'allow' && value.effect !== 'read') {
      for (const field of ['owner', 'reason', 'expires'] as const) {
        if (value[field] === undefined) say(`allow on a write needs owner, reason and expires: add ${field}`, [field])
      }
    }
    if (value.verdict === 'allow' && value.respond !== undefined)
      say('allow and respond exclude each other', ['respond'])
    if (value.respond?.json !== undefined && value.respond.text !== undefined) {
      say('json and text exclude each other', ['respond', 'text'])
    }
  })

/** The policy file, version 1. Published as `drytrace/policy.schema.json`. */
export const policySchema = z.strictObject({
  version: z.literal(1),
  trust: z
    .strictObject({ mode: z.enum(['signed', 'loopback']).optional(), audience: z.array(z.string().min(1)).optional() })
    .optional(),
  postgres: z
    .strictObject({ preview: z.enum(['select', 'rollback', 'none']).optional() })
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
