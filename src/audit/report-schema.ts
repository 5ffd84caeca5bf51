import { z } from 'zod'
import { REPORT_SCHEMA, type Report } from './report.js'

const text = z.string()
const count = z.int().min(0)
const moment = z.iso.datetime({ precision: 3 })
const outcome = z.enum(['blocked', 'allowed', 'forwarded', 'failed', 'unblocked'])

const change = z.strictObject({
  target: text,
  key: text.nullable(),
  field: text,
  before: z.unknown().optional(),
  after: z.unknown().optional(),
})

const effect = z.strictObject({
  seq: z.int().min(1),
  at: moment,
  traceId: text,
  spanId: text,
  service: text,
  system: text,
  action: z
    .enum([
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
    ])
    .nullable(),
  effect: z.enum(['read', 'write', 'unknown']),
  outcome,
  target: text,
  summary: text,
  rule: text,
  reason: text,
  preview: z.strictObject({
    method: z.enum(['select', 'rollback', 'synthesized', 'none']),
    rows: count,
    diff: z.array(change),
  }),
  payload: z
    .strictObject({ digest: text, size: count, contentType: text.optional(), excerpt: z.unknown().optional() })
    .optional(),
  error: z.strictObject({ code: text.nullable(), message: text }).optional(),
  notes: z.array(text).optional(),
  syntheticIds: z.array(text).optional(),
  syntheticUsed: z.boolean().optional(),
  attempts: z.int().min(2).optional(),
  attemptSpanIds: z.array(text).optional(),
  overlaidBy: z.array(z.strictObject({ summary: text, spanId: text })).optional(),
})

const decision = z.strictObject({
  at: moment,
  traceId: text,
  kind: z.enum(['llm', 'tool']),
  name: text,
  model: text.nullable(),
  promptName: text.nullable(),
  promptVersion: text.nullable(),
  input: z.unknown().optional(),
  output: z.unknown().optional(),
})

/** The document `drytrace report --json` prints, for validation and for `z.toJSONSchema`. */
export const reportSchema = z.strictObject({
  schema: z.literal(REPORT_SCHEMA),
  run: z.strictObject({
    id: text,
    traceIds: z.array(text),
    entry: text,
    service: z.array(text),
    startedAt: moment,
    endedAt: moment.nullable(),
    verdict: z.enum(['clean', 'unblocked', 'guard_failed', 'incomplete']),
  }),
  totals: z.strictObject({
    blocked: count,
    forwarded: count,
    allowedWrites: count,
    unblocked: count,
    failed: count,
    reads: count,
  }),
  effects: z.array(effect),
  decisions: z.array(decision),
  problems: z.array(
    z.strictObject({
      kind: z.enum(['unblocked', 'guard_failed', 'flag_lost', 'synthetic_used', 'gap', 'run_error']),
      message: text,
      spanId: text.nullable(),
    }),
  ),
  attestation: z.strictObject({ hooks: z.array(text), gaps: z.array(text), policyHash: text.nullable() }),
}) satisfies z.ZodType<Report>
