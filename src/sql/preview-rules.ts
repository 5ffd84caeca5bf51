import type { DeleteStmt, InsertStmt, Node, RangeVar, ReturningClause, UpdateStmt } from '@pgsql/types'
import { classify } from './classify.js'
import { EarlierWrites } from './earlier-writes.js'
import { deparse, parseOne } from './grammar.js'
import { neutralise } from './neutralise.js'
import { relationKey } from './overlay-catalog.js'
import { dropSchema, type EffectPart, type PreviewOptions, PreviewUnsupported, rulesFor } from './preview-parts.js'
import { resolveTarget } from './preview-target.js'
import { insteadTrigger } from './preview-view.js'
import { relationUses } from './relations.js'
import type { RewriteResult } from './rewrite-result.js'
import { contextOf, type FiredOn, joinContext } from './rule-context.js'
import { returningThrough } from './rule-returning.js'
import { bindRows, mentions } from './rule-rows.js'
import { type FiringRule, firingRules } from './rules.js'
import { contains, copyOf, tagOf } from './tree.js'

/** A rule that fired. */
export interface FiredRule {
  /** `schema.table` */
  readonly target: string
  readonly name: string
}

/** What a write becomes by the rules of what it writes to. */
export interface Expansion {
  /** In the order in which the server does them; each query sees the writes before. */
  readonly writes: readonly RewriteResult[]
  /** The one whose rows the caller hears of; undefined when there is none. */
  readonly told: RewriteResult | undefined
  readonly operation: RewriteResult['operation']
  readonly fired: readonly FiredRule[]
  readonly notes: readonly string[]
  /** Made up for rows that actions see, besides those of the writes. */
  readonly syntheticIds: readonly string[]
}

/** Works out one write that no rule changes. */
export type PlainRewrite = (node: Node, options: PreviewOptions) => Promise<RewriteResult>

/** Who asked for a write: the statement, a rule in its place, or a rule besides it. */
type Source = 'original' | 'instead' | 'also'

interface Found {
  readonly source: Source
  readonly write: RewriteResult
}

const COMMANDS: Readonly<Record<string, RewriteResult['operation']>> = {
  InsertStmt: 'INSERT',
  UpdateStmt: 'UPDATE',
  DeleteStmt: 'DELETE',
  MergeStmt: 'MERGE',
}
const MAX_WRITES = 50
const MAX_VIEWS = 20

/**
 * Does what the server's rewriter does with INSERT, UPDATE and DELETE: every
 * rule makes writes of its own of a statement, besides it or instead of it, and
 * those meet the rules of what they write to.
 */
export async function expandRules(node: Node, plain: PlainRewrite, options: PreviewOptions): Promise<Expansion> {
  const operation = COMMANDS[tagOf(node)]
  if (operation === undefined) throw new PreviewUnsupported(tagOf(node).replace(/Stmt$/, ''))
  const expansion = new Expanding(plain, options)
  await expansion.expand(node, 'original', options.rules?.applied ?? new Set(), [])
  const { found, fired, notes, syntheticIds } = expansion
  // As in QueryRewrite: the statement itself, or the last of the same command that is done instead of it.
  const told =
    found.find(({ source }) => source === 'original') ??
    found.findLast(({ source, write }) => source === 'instead' && write.operation === operation)
  return {
    writes: found.map(({ write }) => write),
    told: told?.write,
    operation,
    fired,
    notes: [...notes],
    syntheticIds,
  }
}

class Expanding {
  readonly found: Found[] = []
  readonly fired: FiredRule[] = []
  readonly notes = new Set<string>()
  readonly syntheticIds: string[] = []
  readonly #plain: PlainRewrite
  readonly #earlier: EarlierWrites

  constructor(plain: PlainRewrite, options: PreviewOptions) {
    this.#plain = plain
    this.#earlier = new EarlierWrites(options)
  }

  /** `events` are the relations and commands whose rules are being applied, outermost first. */
  async expand(node: Node, source: Source, applied: ReadonlySet<string>, events: readonly string[]): Promise<void> {
    const ruled = await this.#ruled(node, applied)
    if (ruled === undefined) return await this.#write(node, source, { applied, unless: [] })
    const { command, statement, target } = ruled
    const { table } = target
    if (table.rowSecurityActive) throw new PreviewUnsupported(`${table.name} has rules and row security`)
    const rules = firingRules(table, command)
    const owner = `${table.schema}.${table.name}`
    for (const { name } of rules) {
      const told = this.fired.some((rule) => rule.target === owner && rule.name === name)
      if (!told) this.fired.push({ target: owner, name })
    }
    const event = `${table.oid} ${command}`
    const acts = rules.some(({ actions }) => actions.length > 0)
    const replaced = rules.some(({ instead, condition }) => instead && condition === undefined)
    if ((acts || (table.kind === 'v' && !replaced)) && events.includes(event)) {
      throw new PreviewUnsupported(`infinite recursion detected in rules for relation "${table.name}"`, '42P17')
    }
    const unless = replaced ? [] : rules.flatMap(({ instead, condition }) => (instead && condition ? [condition] : []))
    if (unless.length > 0 && table.kind === 'v') throw new PreviewUnsupported(`${table.name} cannot be written`)
    const itself = async () => {
      if (replaced) return
      const passed = new Set([...applied, table.oid])
      // A table has nothing below it; a view has, with rules of its own.
      if (table.kind === 'v') await this.expand(copyOf(node), source, passed, [...events, event])
      else await this.#write(copyOf(node), source, { applied: passed, unless })
    }
    // An INSERT goes before its rules, so that they see its rows; the others after, so that rules see what was there.
    if (command === 'INSERT') await itself()
    for (const rule of rules) {
      for (const action of rule.actions)
        await this.#act(rule, action, { command, statement, target }, [...events, event])
    }
    if (command !== 'INSERT') await itself()
    if (acts) this.#noteRepeatedCalls(node)
  }

  /** The statement with the first relation on its way down through views that has rules for it. */
  async #ruled(node: Node, applied: ReadonlySet<string>): Promise<FiredOn | undefined> {
    const command = COMMANDS[tagOf(node)]
    if (command === undefined || command === 'MERGE') return undefined
    const given = Object.values(node)[0] as InsertStmt & UpdateStmt & DeleteStmt
    if (given.onConflictClause !== undefined || given.relation?.relname === undefined) return undefined
    const { options } = this.#earlier
    if (options.withoutRules !== undefined) return undefined
    let relation: RangeVar = given.relation
    for (let depth = 0; depth < MAX_VIEWS; depth++) {
      const table = await options.lookup(relationKey(relation))
      if (!applied.has(table.oid) && rulesFor(table, command).length > 0) {
        const statement = copyOf(given)
        const rules = { applied, unless: [], stopAt: table.oid }
        const target = await resolveTarget(statement.relation, command, { ...options, rules })
        dropSchema(statement, target.relation)
        return { command, statement, target }
      }
      const below = table.kind === 'v' && !insteadTrigger(table, command) ? soleRelation(table.view) : undefined
      if (below === undefined) return undefined
      relation = below
    }
    return undefined
  }

  async #write(node: Node, source: Source, rules: NonNullable<PreviewOptions['rules']>): Promise<void> {
    if (this.found.length >= MAX_WRITES) throw new PreviewUnsupported(`rules make more than ${MAX_WRITES} writes of it`)
    const text = this.#earlier.any ? deparse(node) : undefined
    const result = await this.#plain(node, { ...this.#earlier.options, rules })
    if (text !== undefined) {
      const unknown = classify(text)[0]?.unknown ?? []
      if (unknown.length > 0) this.notes.add(`${unknown.join(', ')}() would see what rules have written before`)
      if (this.#earlier.cascades) this.notes.add('rules would see what foreign keys have changed before')
    }
    if (this.found.some(({ write }) => write.effects?.length)) {
      this.notes.add('what triggers have written before was not seen by rules')
    }
    const effects: EffectPart[] = []
    for (const effect of result.effects ?? []) {
      effects.push({ ...effect, sql: await this.#earlier.whole(effect.sql) })
    }
    const sql = await this.#earlier.add(result)
    this.found.push({ source, write: { ...result, sql, effects } })
  }

  async #act(rule: FiringRule, given: Node, fired: FiredOn, events: readonly string[]): Promise<void> {
    const tag = tagOf(given)
    const action = copyOf(given)
    if (tag === 'NotifyStmt' && 'NotifyStmt' in action) {
      this.notes.add(`rule ${rule.name} would notify ${action.NotifyStmt.conditionname}`)
      return
    }
    if (!(tag in COMMANDS) || tag === 'MergeStmt')
      throw new PreviewUnsupported(`${tag.replace(/Stmt$/, '')} in rule ${rule.name}`)
    const { command, statement, target } = fired
    const changes = command === 'UPDATE' && (mentions(action, 'new') || mentions(rule.condition, 'new'))
    const needsRows = changes || mentions(action, 'old') || mentions(rule.condition, 'old')
    const context = await contextOf({ ...fired, statement: copyOf(statement) }, needsRows, this.#earlier.options)
    const { item, rows } = context
    const bound = bindRows(action, target, rows)
    const condition = rule.condition === undefined ? undefined : bindRows(rule.condition, target, rows)
    const neutral = neutralise(bound, () => this.#earlier.options.syntheticIds(1)[0] ?? 'NULL')
    for (const note of neutral.notes) this.notes.add(note)
    this.syntheticIds.push(...context.syntheticIds, ...neutral.syntheticIds)
    const write = Object.values(bound)[0] as { returningClause?: ReturningClause | undefined; withClause?: unknown }
    if (contains(write.withClause, 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt')) {
      throw new PreviewUnsupported(`WITH that writes in rule ${rule.name}`)
    }
    const asked = statement.returningClause
    if (asked === undefined || write.returningClause === undefined) delete write.returningClause
    else write.returningClause = returningThrough(asked, write.returningClause, bound, target)
    await this.#refuseRowSecurity({ bound, condition })
    joinContext(bound, item, condition)
    await this.expand(bound, rule.instead ? 'instead' : 'also', new Set(), events)
  }

  /** A rule reads and writes with the rights of its owner, whose policies are others. */
  async #refuseRowSecurity(rule: unknown): Promise<void> {
    for (const { relation } of relationUses(rule)) {
      const table = await this.#earlier.options.lookup(relationKey(relation))
      if (table.rowSecurityActive) throw new PreviewUnsupported(`a rule reaches ${table.name}, which has row security`)
    }
  }

  /** Actions evaluate the statement's expressions wherever they name `new`. */
  #noteRepeatedCalls(node: Node): void {
    const [statement] = classify(deparse(node))
    const calls = (statement?.functions ?? []).filter(
      (name) => statement?.unknown.includes(name) || VOLATILE.test(name),
    )
    if (calls.length > 0)
      this.notes.add(`rules would call ${calls.join(', ')}() again wherever their actions use what it gives`)
  }
}

const VOLATILE = /^(random.*|clock_timestamp|timeofday|gen_random_.*|uuidv[47]|uuid_generate.*|nextval)$/

/** The one relation a view selects from. */
function soleRelation(view: string | null): RangeVar | undefined {
  if (view === null) return undefined
  const node = parseOne(view)
  const from = 'SelectStmt' in node ? node.SelectStmt.fromClause : undefined
  const [only, ...more] = from ?? []
  return only !== undefined && more.length === 0 && 'RangeVar' in only ? only.RangeVar : undefined
}
