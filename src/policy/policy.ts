import type { Action, EffectKind } from '../journal/record.js'
import { type Match, type RequestTest, requestTests } from './http/predicates.js'
import type { RequestFacts } from './http/request-facts.js'
import type { Respond } from './http/respond.js'
import type { Validation } from './http/validation.js'
import { builtinRules } from './packs/index.js'
import { compilePattern } from './pattern.js'
import type { PolicyDocument, PolicyRule } from './schema.js'

/** What the preview of one PostgreSQL write may cost the database. */
export interface PreviewBounds {
  /** In the planner's units. */
  readonly cost: number
  readonly rows: number
  readonly milliseconds: number
}

/** What the policy is asked about: the part of an effect it may depend on. */
export interface PolicyQuery {
  readonly system: string
  readonly kind: EffectKind
  readonly action?: Action
  readonly match: Readonly<Record<string, string | undefined>>
  /** HTTP only: what rules that look into the request may see. */
  readonly request?: RequestFacts
}

export interface Ruling {
  readonly kind: EffectKind
  /** What the call does, when a rule knows better. */
  readonly action?: Action
  /** True when a rule that may match looks at what has not been seen yet: block, or ask again with the body. */
  readonly deferred?: boolean
  readonly verdict: 'allow' | 'block' | 'loopback'
  readonly onBlocked: 'simulate' | 'throw'
  readonly rule: string
  readonly reason: string
  /** What a rule says of the extra read before a blocked HTTP request. */
  readonly preview?: PolicyRule['preview']
  readonly respond?: Respond
  /** Set on a block: may be sent in this service's validation mode, by whoever can make sure of it. */
  readonly validate?: Validation
}

export interface Budget {
  readonly writes: number
  readonly repeats: number
  readonly milliseconds: number
}

export interface Policy {
  /** The file it came from; undefined for the default policy. */
  readonly file: string | undefined
  /** SHA-256 (hex) of the file's text, with that of the files its answers come from; of the empty string for the default policy. */
  readonly hash: string
  /** How many rules the file has; the built-in ones are not counted. */
  readonly rules: number
  readonly trust: { readonly mode: 'signed' | 'loopback' | undefined; readonly audience: readonly string[] }
  readonly preview: 'select' | 'rollback' | 'none'
  readonly rollback: {
    readonly lockMilliseconds: number
    readonly statementMilliseconds: number
    readonly idleMilliseconds: number
  }
  /** Whether the resource of a blocked HTTP request may be read first, where no rule says otherwise. */
  readonly httpPreview: 'get' | 'none'
  readonly previewBounds: PreviewBounds
  readonly budget: Budget
  readonly redact: readonly string[]
  readonly recordDecisions: boolean
  /** Host patterns of forward rules: peers that may be told of the run. */
  forwards(host: string): boolean
  /** False for a built-in rule or answer that the policy switches off. */
  enabled(id: string): boolean
  decide(query: PolicyQuery, now?: number): Ruling
}

interface CompiledRule {
  readonly name: string
  readonly rule: PolicyRule
  /** False when the rule is about other systems only. */
  concerns(system: string): boolean
  readonly respond: Respond | undefined
  matches(query: PolicyQuery): Match
}

/** Character a `*` does not cross, by field. */
const SEPARATOR: Readonly<Record<string, string>> = { host: '.', path: '/', relation: '.' }

const MAX_SYSTEMS = 100
/** The rule that reads pass under where the policy says nothing of them. */
export const DEFAULT_READ = 'default.read'

const DEFAULT_BOUNDS: PreviewBounds = { cost: 1_000_000, rows: 100_000, milliseconds: 5_000 }

const DEFAULT_BUDGET: Budget = { writes: 10_000, repeats: 1_000, milliseconds: 60 * 60 * 1000 }

/** @param answers what rules answer with that takes more than the document, by rule name */
export function compilePolicy(
  document: PolicyDocument,
  origin: { file?: string; hash: string },
  answers: ReadonlyMap<string, Respond> = new Map(),
): Policy {
  const disabled = new Set(document.disable ?? [])
  const own = (document.rules ?? []).map((rule) => compileRule(rule, rule.name, answers.get(rule.name)))
  const builtin = builtinRules
    .filter((rule) => !disabled.has(rule.name))
    .map((rule) => compileRule(rule, `builtin.${rule.name}`))
  const rules = [...own, ...builtin]
  const forwardHosts = (document.rules ?? [])
    .filter((rule) => rule.verdict === 'forward' && rule.match.host !== undefined)
    .map((rule) => compilePattern(rule.match.host ?? '', '.'))
  const onBlocked = document.onBlocked ?? 'simulate'
  // Most rules are about HTTP: a query of another system need not try them all.
  const bySystem = new Map<string, readonly CompiledRule[]>()
  const rulesFor = (system: string): readonly CompiledRule[] => {
    const known = bySystem.get(system)
    if (known !== undefined) return known
    const found = rules.filter(({ concerns }) => concerns(system))
    // Names of systems come from the application too, by its own adapters.
    if (bySystem.size < MAX_SYSTEMS) bySystem.set(system, found)
    return found
  }

  return {
    file: origin.file,
    hash: origin.hash,
    rules: own.length,
    trust: { mode: document.trust?.mode, audience: document.trust?.audience ?? [] },
    preview: document.postgres?.preview ?? 'select',
    rollback: {
      lockMilliseconds: Math.round((document.postgres?.rollback?.lockSeconds ?? 1) * 1000),
      statementMilliseconds: Math.round((document.postgres?.rollback?.statementSeconds ?? 10) * 1000),
      idleMilliseconds: Math.round((document.postgres?.rollback?.idleSeconds ?? 60) * 1000),
    },
    httpPreview: document.http?.preview ?? 'none',
    previewBounds: {
      cost: document.postgres?.maxCost ?? DEFAULT_BOUNDS.cost,
      rows: document.postgres?.maxRows ?? DEFAULT_BOUNDS.rows,
      milliseconds: document.postgres?.maxMilliseconds ?? DEFAULT_BOUNDS.milliseconds,
    },
    budget: {
      writes: document.budget?.writes ?? DEFAULT_BUDGET.writes,
      repeats: document.budget?.repeats ?? DEFAULT_BUDGET.repeats,
      milliseconds:
        document.budget?.seconds === undefined ? DEFAULT_BUDGET.milliseconds : document.budget.seconds * 1000,
    },
    redact: document.redact ?? [],
    recordDecisions: document.record?.decisions ?? false,
    enabled: (id) => !disabled.has(id),
    forwards: (host) => forwardHosts.some((matches) => matches(host)),
    decide(query, now = Date.now()) {
      let expired = ''
      let unsure: string | undefined
      for (const { name, rule, respond, matches } of rulesFor(query.system)) {
        // What is a read by its method may be none to a later rule, and is never sent by this one.
        if (rule.validate !== undefined && query.kind === 'read') continue
        const matched = matches(query)
        if (matched === false) continue
        if (rule.expires !== undefined && now > endOfDay(rule.expires)) {
          expired ||= ` (rule ${name} matched but expired on ${rule.expires})`
          continue
        }
        if (matched === 'unknown') {
          if (query.request !== undefined) return undecided(query, name, onBlocked)
          // A client that cannot show its requests: what would let them pass cannot, what would block them may.
          if (!passes(rule)) unsure ??= name
          continue
        }
        return certain(
          { ...ruled(query, name, rule, onBlocked), ...(respond === undefined ? {} : { respond }) },
          unsure,
        )
      }
      return certain(byDefault(query, onBlocked, expired), unsure)

      function certain(ruling: Ruling, unsure: string | undefined): Ruling {
        return unsure === undefined || ruling.verdict !== 'allow' ? ruling : undecided(query, unsure, onBlocked)
      }
    },
  }
}

function byDefault(query: PolicyQuery, onBlocked: 'simulate' | 'throw', expired: string): Ruling {
  if (query.kind === 'read') {
    return { kind: 'read', verdict: 'allow', onBlocked, rule: DEFAULT_READ, reason: 'reads pass' }
  }
  if (query.system === 'net') {
    return {
      kind: query.kind,
      verdict: 'block',
      onBlocked,
      rule: 'fence',
      reason: `no integration knows this client${expired}`,
    }
  }
  const why = query.kind === 'unknown' ? 'what cannot be told apart from a write is blocked' : 'writes are blocked'
  return { kind: query.kind, verdict: 'block', onBlocked, rule: `default.${query.kind}`, reason: why + expired }
}

/** First match wins, so nothing after a rule that may match can be asked. */
function undecided(query: PolicyQuery, rule: string, onBlocked: 'simulate' | 'throw'): Ruling {
  const unreadable = query.request?.body !== undefined
  return {
    kind: 'unknown',
    verdict: 'block',
    onBlocked,
    rule,
    reason: unreadable
      ? 'the rule looks at the body, which cannot be read (larger than 1 MiB, or not in a form the rule can be checked on)'
      : 'the rule looks at the body, which was not seen',
    ...(unreadable || query.request === undefined ? {} : { deferred: true }),
  }
}

function ruled(query: PolicyQuery, name: string, rule: PolicyRule, onBlocked: 'simulate' | 'throw'): Ruling {
  const kind = rule.effect ?? query.kind
  const does = rule.action ?? (rule.validate === 'sendgrid' ? 'send' : undefined)
  const action = does === undefined ? {} : { action: does }
  const base = { kind, ...action, rule: name, onBlocked: rule.onBlocked ?? onBlocked, preview: rule.preview }
  const stated = rule.owner === undefined ? rule.reason : `${rule.reason ?? 'no reason given'} (owner: ${rule.owner})`
  switch (rule.verdict) {
    case 'allow':
    case 'loopback':
    case 'block':
      return { ...base, verdict: rule.verdict, reason: stated ?? `${rule.verdict} by rule` }
    case 'forward':
    case 'shadow':
      if (kind === 'read') return { ...base, verdict: 'allow', reason: stated ?? 'reads pass' }
      // The peer has to prove that it runs dry, and this version cannot ask it yet.
      return { ...base, verdict: 'block', reason: `${rule.verdict} is not available in this version: blocked instead` }
    default:
      if (kind === 'read') return { ...base, verdict: 'allow', reason: stated ?? 'a read by rule' }
      return {
        ...base,
        verdict: 'block',
        reason: stated ?? 'writes are blocked',
        ...(rule.validate === undefined ? {} : { validate: rule.validate }),
      }
  }
}

function compileRule(rule: PolicyRule, name: string, answer?: Respond): CompiledRule {
  const { system, action, header, query: parameters, body, graphql, jsonrpc, aws, soap, ...fields } = rule.match
  const inside = requestTests({ header, query: parameters, body, graphql, jsonrpc, aws, soap }, passes(rule))
  const tests = Object.entries(fields).flatMap(([field, pattern]) => {
    if (pattern === undefined) return []
    const matches = compilePattern(pattern, SEPARATOR[field] ?? '\0')
    return [(query: PolicyQuery) => candidates(field, pattern, query).some(matches)]
  })
  const systemMatches = system === undefined ? undefined : compilePattern(system, '\0')
  const actionMatches = action === undefined ? undefined : compilePattern(action, '\0')
  return {
    name,
    rule,
    concerns: (system) => systemMatches === undefined || systemMatches(system),
    respond: answer ?? rule.respond,
    matches: (query) =>
      (actionMatches === undefined || (query.action !== undefined && actionMatches(query.action))) &&
      tests.every((test) => test(query)) &&
      matchesInside(inside, query),
  }
}

/** A rule that may let a call through that would be blocked without it. */
function passes(rule: PolicyRule): boolean {
  return rule.effect === 'read' || rule.verdict === 'allow' || rule.verdict === 'forward' || rule.validate !== undefined
}

function matchesInside(tests: readonly RequestTest[], query: PolicyQuery): Match {
  if (tests.length === 0) return true
  const { request } = query
  // An HTTP client whose integration cannot show the request.
  if (request === undefined) return query.system === 'http' ? 'unknown' : false
  const found = tests.map((test) => test(request, query.kind === 'read'))
  return found.includes(false) ? false : found.includes('unknown') ? 'unknown' : true
}

/** A host pattern with a port is compared with host:port; an unqualified relation with the bare table name. */
function candidates(field: string, pattern: string, query: PolicyQuery): string[] {
  const value = query.match[field]
  if (value === undefined) return []
  if (field === 'host') {
    const port = query.match['port']
    return /:\d+$/.test(pattern) && port !== undefined ? [`${value}:${port}`] : [value]
  }
  if (field === 'relation' && !pattern.includes('.')) return [value, value.slice(value.lastIndexOf('.') + 1)]
  return [value]
}

function endOfDay(date: string): number {
  return Date.parse(`${date}T23:59:59.999Z`)
}
