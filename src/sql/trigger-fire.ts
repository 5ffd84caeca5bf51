import type { Node } from '@pgsql/types'
import { type Column, MAX_LEAVES, type Table } from './catalog.js'
import { functionKind } from './functions.js'
import { deparse } from './grammar.js'
import { neutralise } from './neutralise.js'
import { NotFollowed } from './plpgsql.js'
import {
  type EffectPart,
  type PreviewOptions,
  PreviewUnsupported,
  RaisedByTrigger,
  type Target,
} from './preview-parts.js'
import type { RewriteResult } from './rewrite-result.js'
import { contains, copyOf, nameParts, quoteName, quoteText, walk } from './tree.js'
import type { FollowedTrigger } from './trigger.js'
import { builtIn } from './trigger-built-in.js'
import { both, type Effect, Layers, orElse } from './trigger-layers.js'
import { type Acting, type Inner, type Outcome, runProgram } from './trigger-program.js'
import { bound, type Call, declared, type Event, type Row, type Timing } from './trigger-scope.js'

/** Bits of `pg_trigger.tgtype`. */
const FOR_ROW = 1
const BEFORE = 2
const INSTEAD_OF = 64
const EVENTS: Readonly<Record<Event, number>> = { INSERT: 4, DELETE: 8, UPDATE: 16 }
/** Triggers that fire triggers. */
const MAX_DEPTH = 3

/** Rows that triggers are fired for: a query with the columns of the table by name, and hidden ones. */
export interface Rows {
  readonly event: Event
  readonly query: string
  /** Its hidden columns; with `ord__`, a number that is another one for each row, where there is one. */
  readonly hidden: readonly string[]
  /** The column of the query with the old value. */
  old?(column: Column): string
  /** Columns that the statement assigns. */
  readonly changed?: ReadonlySet<string>
  /** A condition over the hidden columns for the rows the event happens to; all by default. */
  readonly where?: string
  /** A hidden column that turns false where a trigger leaves the row out; by default the query leaves it out. */
  readonly verdict?: string
  /** Rows that triggers leave out are dropped at once, along with what triggers write for them. */
  readonly dropped?: boolean
  /** There is at most one row. */
  readonly single?: boolean
}

/** A number of a row that is there, by its address: `(7,2)`. */
export function ordinal(address: string): string {
  const at = `CAST(CAST(${address} AS text) AS point)`
  return `CAST((${at})[0] * 300 + (${at})[1] AS bigint) AS ord__`
}

/** The old row as hidden columns of a query: their names, and the list that gives them. */
export function oldColumns(columns: readonly Column[], old: (column: Column) => string) {
  const names = columns.map((_, index) => `q${index}__`)
  return {
    names,
    list: columns.map((column, index) => `${old(column)} AS ${names[index]}`),
    of: (column: Column) => names[columns.indexOf(column)] ?? 'NULL',
  }
}

/** What happened to rows in one go: the query with the columns, the hidden columns and what was added to these. */
interface Fired {
  readonly query: string
  readonly hidden: readonly string[]
}

/** Fires the triggers of one written table within one statement, by putting what they do into its query. */
export class TriggerFiring {
  readonly #target: Target
  readonly #options: PreviewOptions
  readonly #notes = new Set<string>()
  readonly #syntheticIds: string[] = []
  readonly #effects: (Effect & { readonly column: string })[] = []
  readonly #raised: string[] = []
  /** Columns that tell rows which triggers leave out, but write something for. */
  readonly #skips: string[] = []
  /** Triggers that do something the preview does not know. */
  readonly #unknown = new Set<string>()

  constructor(target: Target, options: PreviewOptions) {
    this.#target = target
    this.#options = options
  }

  /** True when there is anything to fire for a row. */
  firesRows(...events: readonly Event[]): boolean {
    return events.some((event) => this.#all(event).some(({ type }) => (type & FOR_ROW) !== 0))
  }

  /**
   * Fires BEFORE and AFTER triggers for whole statements.
   * @throws PreviewUnsupported with the SQLSTATE a BEFORE trigger is bound to raise
   */
  async statement(...events: readonly Event[]): Promise<void> {
    if (this.#table.fires === undefined) this.#unasked(events)
    for (const event of events) {
      for (const trigger of this.#table.fires?.own ?? []) {
        if ((trigger.type & FOR_ROW) !== 0 || (trigger.type & EVENTS[event]) === 0) continue
        await this.#attempt(trigger, async () => {
          const timing = (trigger.type & BEFORE) !== 0 ? 'BEFORE' : 'AFTER'
          const { transitions, arguments: given, condition } = declared(trigger)
          if (transitions.length > 0) throw new NotFollowed('it reads all rows')
          if (condition !== undefined) throw new NotFollowed('it has a condition')
          const layers = this.#layers()
          const call: Call = {
            trigger,
            event,
            timing,
            level: 'STATEMENT',
            table: this.#table,
            firing: undefined,
            arguments: given,
          }
          const { raised } = await this.#run(call, { fresh: null, old: null, live: 'true' }, layers, undefined)
          if (layers.effects.length > 0) throw new NotFollowed('it writes')
          if (raised !== undefined) refuseRaised(raised, timing, layers)
        })
      }
    }
  }

  /** The catalog was not asked for what the triggers are. */
  #unasked(events: readonly Event[]): void {
    for (const { name, type } of this.#table.triggerTypes ?? []) {
      if (!events.some((event) => (type & EVENTS[event]) !== 0)) continue
      if (this.#table.kind === 'v') throw new PreviewUnsupported(`trigger ${name} of ${this.#table.name} acts instead`)
      this.#unknown.add(name)
    }
  }

  /** BEFORE triggers, or those INSTEAD OF the write to a view. */
  async before(rows: Rows): Promise<Fired> {
    const timing: Timing = this.#table.kind === 'v' ? 'INSTEAD OF' : 'BEFORE'
    if (!this.#fires(timing, rows)) return asGiven(rows)
    try {
      return await this.#fire(timing, rows)
    } catch (error) {
      if (!isNotFollowed(error)) throw error
      const found = this.#all(rows.event)
      if (timing === 'INSTEAD OF') {
        const [first] = found.filter(({ type }) => (type & INSTEAD_OF) !== 0)
        throw new PreviewUnsupported(`trigger ${first?.name} of ${this.#table.name} acts instead: ${error.message}`)
      }
      for (const { name, type } of found) if ((type & FOR_ROW) !== 0) this.#unknown.add(name)
      return asGiven(rows)
    }
  }

  /** AFTER triggers; they find the rows as they were written. */
  async after(rows: Rows): Promise<Fired> {
    if (this.#table.kind === 'v' || !this.#fires('AFTER', rows)) return asGiven(rows)
    try {
      return await this.#fire('AFTER', rows)
    } catch (error) {
      if (!isNotFollowed(error)) throw error
      for (const { name, type } of this.#all(rows.event))
        if ((type & (FOR_ROW | BEFORE)) === FOR_ROW) this.#unknown.add(name)
      return asGiven(rows)
    }
  }

  /** The triggers of these events are not followed. */
  blind(...events: readonly Event[]): void {
    for (const event of events) for (const { name } of this.#all(event)) this.#unknown.add(name)
  }

  /** Which rows `alias` are written at all; undefined for all. */
  kept(alias: string): string | undefined {
    if (this.#skips.length === 0) return undefined
    return this.#skips.map((column) => `NOT ${alias}.${column}`).join(' AND ')
  }

  /** What triggers raise for the row `alias`, for the column of violations. */
  raised(alias: string): readonly string[] {
    return this.#raised.map((column) => `${alias}.${column}`)
  }

  /** What is to be said of the statement; `select` gives its query with another list of columns. */
  result(
    alias: string,
    select: (list: string) => string,
  ): Pick<RewriteResult, 'table' | 'notes' | 'effects'> & { ids: readonly string[] } {
    const effects = this.#effects.map(
      ({ operation, table, column }): EffectPart => ({
        operation,
        table,
        sql:
          `SELECT ${[0, 1, 2, 3, 4].map((index) => `e__.value ->> ${index}`).join(', ')} ` +
          `FROM (${select(`${alias}.${column} AS w__`)}) x__, json_array_elements(x__.w__) e__(value)`,
      }),
    )
    return { table: this.#accounted(), notes: [...this.#notes], effects, ids: this.#syntheticIds }
  }

  get #table(): Table {
    return this.#target.table
  }

  /** The table without the triggers that are no blind spot. */
  #accounted(): Table {
    const table = this.#table
    const known = new Set((table.fires?.elsewhere ?? []).map(({ name }) => name))
    const unchecked = (table.unchecked ?? []).filter((name) => !known.has(name) || this.#unknown.has(name))
    const own = (table.triggers ?? []).filter((name) => this.#unknown.has(name))
    return { ...table, triggers: own.length === 0 ? null : own, unchecked: unchecked.length === 0 ? null : unchecked }
  }

  /** In the order in which they fire; rows of a partitioned table fire those of the leaf. */
  #all(event: Event): readonly FollowedTrigger[] {
    const { kind, oid, fires } = this.#table
    const leaves = (fires?.elsewhere ?? []).filter(({ type }) => (type & FOR_ROW) !== 0)
    // Tables that inherit from this one have triggers of their own only.
    const own = (fires?.own ?? []).map((trigger) =>
      kind === 'r' && fires?.elsewhere && (trigger.type & FOR_ROW) !== 0 ? { ...trigger, leaf: oid } : trigger,
    )
    const all = [...own, ...leaves].filter(({ type }) => (type & EVENTS[event]) !== 0)
    return all.sort((left, right) => Buffer.compare(Buffer.from(left.name), Buffer.from(right.name)))
  }

  #rowTriggers(timing: Timing, event: Event, changed: ReadonlySet<string> | undefined): readonly FollowedTrigger[] {
    return this.#all(event).filter((trigger) => {
      if ((trigger.type & FOR_ROW) === 0) return false
      const at = (trigger.type & INSTEAD_OF) !== 0 ? 'INSTEAD OF' : (trigger.type & BEFORE) !== 0 ? 'BEFORE' : 'AFTER'
      if (at !== timing) return false
      const { columns } = declared(trigger)
      if (event !== 'UPDATE' || columns === undefined || changed === undefined) return true
      return columns.some((name) => changed.has(name) || this.#depends(name, changed))
    })
  }

  /** A generated column counts as assigned along with what it is made of. */
  #depends(name: string, changed: ReadonlySet<string>): boolean {
    const column = this.#table.columns?.find((each) => each.name === name)
    return Boolean(column?.generated) && [...changed].some((each) => column?.default?.includes(each))
  }

  #fires(timing: Timing, { event, changed }: Rows): boolean {
    const moves = this.#table.kind === 'p' && event === 'UPDATE'
    const events: Event[] = moves ? ['UPDATE', 'DELETE', 'INSERT'] : [event]
    return events.some((each) => this.#rowTriggers(timing, each, changed).length > 0)
  }

  #layers(): Layers {
    const { names = { taken: 0 } } = this.#options
    names.taken++
    return new Layers(`t${names.taken}_`)
  }

  async #fire(timing: Timing, rows: Rows): Promise<Fired> {
    const table = this.#table
    const columns = table.columns ?? []
    const layers = this.#layers()
    const base = `${layers.prefix}_`
    const at = (name: string) => `${base}.${quoteName(name)}`
    const before = timing !== 'AFTER'
    const fresh = new Map(
      columns.map((column) => [
        column.name,
        before && column.generated ? `CAST(NULL AS ${column.type})` : at(column.name),
      ]),
    )
    const old =
      rows.old === undefined ? null : new Map(columns.map((column) => [column.name, `${base}.${rows.old?.(column)}`]))
    const conditions = [rows.where?.replaceAll('$', () => `${base}.`), before ? undefined : this.kept(base)]
    const live = conditions.reduce<string>(
      (all, each) => (each === undefined ? all : layers.value(both(all, each))),
      'true',
    )
    const ord = rows.hidden.includes('ord__') ? `${base}.ord__` : undefined
    const scene: Scene = { timing, layers, changed: rows.changed, ord, single: rows.single === true }
    const own = `CAST(${table.oid} AS oid)`
    let firing = own
    if (rows.event !== 'INSERT' && rows.hidden.includes('to__')) {
      // Rows that the run has written itself are in no table yet.
      const home = table.kind === 'p' && old !== null ? this.#leaf(layers, old) : own
      firing = layers.value(`coalesce(nullif(${base}.to__, 0), ${home})`)
    }
    const partitioned = table.kind === 'p'
    let done: Chain
    if (!partitioned) {
      const row = { fresh: rows.event === 'DELETE' ? null : fresh, old, live }
      done = await this.#chain(scene, rows.event, row, firing)
    } else if (rows.event === 'INSERT') {
      const leaf = this.#leaf(layers, fresh)
      done = await this.#chain(scene, 'INSERT', { fresh, old, live }, leaf)
      if (before) {
        // The row finds its partition before any trigger sees it.
        const lost = `CASE WHEN ${both(live, `${leaf} IS NULL`)} THEN CAST(${quoteText(`23514r${table.name}`)} AS text) END`
        done = { ...done, raised: [lost, ...done.raised] }
      }
    } else if (rows.event === 'DELETE') {
      done = await this.#chain(scene, 'DELETE', { fresh: null, old, live }, firing)
    } else done = await this.#moving(scene, { fresh, old, live }, firing)
    if (timing === 'BEFORE' && rows.event !== 'INSERT' && rows.hidden.includes('ctid__')) {
      const id = `CAST(${base}.to__ AS text) || ':' || CAST(${base}.ctid__ AS text)`
      done = { ...done, raised: [...done.raised, ...this.#overtaken(layers, rows.event, id, done)] }
    }
    const raise = `raise${this.#raised.length}__`
    const hidden = [...rows.hidden]
    const skips = before && done.skipped !== 'false'
    const list = rows.hidden.map((name) =>
      skips && name === rows.verdict
        ? `${base}.${name} AND (${done.skipped}) IS NOT TRUE AS ${name}`
        : `${base}.${name}`,
    )
    for (const column of columns) {
      list.push(`${(before && done.fresh.get(column.name)) || at(column.name)} AS ${quoteName(column.name)}`)
    }
    if (done.raised.length > 0) {
      list.push(`coalesce(${done.raised.join(', ')}) AS ${raise}`)
      hidden.push(raise)
      this.#raised.push(raise)
    }
    for (const effect of layers.effects) {
      const column = `w${this.#effects.length}__`
      list.push(`${effect.rows} AS ${column}`)
      hidden.push(column)
      this.#effects.push({ ...effect, column })
    }
    let where = ''
    if (skips && rows.verdict === undefined) {
      if (layers.effects.length === 0 || rows.dropped) where = ` WHERE (${done.skipped}) IS NOT TRUE`
      else {
        const skip = `skip${this.#skips.length}__`
        list.push(`(${done.skipped}) IS TRUE AS ${skip}`)
        hidden.push(skip)
        this.#skips.push(skip)
      }
    }
    if (skips && rows.dropped && layers.effects.length > 0) {
      this.#notes.add(`what triggers of ${table.name} write for rows they leave out was not worked out`)
    }
    return { query: `SELECT ${list.join(', ')} FROM (${rows.query}) ${base}${layers.text}${where}`, hidden }
  }

  /** A BEFORE trigger must not write the row itself that the statement is about to write. */
  #overtaken(layers: Layers, event: Event, id: string, { live, skipped }: Chain): string[] {
    const own = layers.effects.filter(({ table, operation }) => table.oid === this.#table.oid && operation !== 'INSERT')
    const done = event === 'UPDATE' ? 'updated' : 'deleted'
    const label = quoteText(
      `27000!${JSON.stringify({ message: `tuple to be ${done} was already modified by an operation triggered by the current command` })}`,
    )
    return own.map(({ rows }) => {
      const hit = `EXISTS (SELECT FROM json_array_elements(${rows}) e__(value) WHERE e__.value ->> 4 = ${id})`
      return `CASE WHEN ${both(live, `(${skipped}) IS NOT TRUE AND ${hit}`)} THEN CAST(${label} AS text) END`
    })
  }

  /** An UPDATE that moves a row to another partition ends as DELETE there and INSERT here. */
  async #moving(scene: Scene, row: Acting, from: string): Promise<Chain> {
    const { layers } = scene
    const moves = (fresh: Row) => layers.value(`coalesce(${this.#leaf(layers, fresh)} <> ${from}, false)`)
    if (scene.timing === 'AFTER') {
      const moved = moves(row.fresh ?? new Map())
      const stays = await this.#chain(
        scene,
        'UPDATE',
        { ...row, live: layers.value(both(row.live, `NOT ${moved}`)) },
        from,
      )
      const live = layers.value(both(row.live, moved))
      const gone = await this.#chain(scene, 'DELETE', { ...row, fresh: null, live }, from)
      const come = await this.#chain(
        scene,
        'INSERT',
        { ...row, old: null, live },
        this.#leaf(layers, row.fresh ?? new Map()),
      )
      return { ...stays, raised: [...stays.raised, ...gone.raised, ...come.raised] }
    }
    const updated = await this.#chain(scene, 'UPDATE', row, from)
    const moved = layers.value(both(updated.live, moves(updated.fresh)))
    const deleted = await this.#chain(scene, 'DELETE', { fresh: null, old: row.old, live: moved }, from)
    const live = layers.value(both(deleted.live, moved))
    const into = this.#leaf(layers, updated.fresh)
    const inserted = await this.#chain(scene, 'INSERT', { fresh: updated.fresh, old: null, live }, into)
    return {
      fresh: inserted.fresh,
      live: inserted.live,
      skipped: [updated, deleted, inserted].map(({ skipped }) => skipped).reduce(orElse),
      raised: [updated, deleted, inserted].flatMap(({ raised }) => raised),
    }
  }

  /** The leaf a row of a partitioned table goes to. @throws NotFollowed */
  #leaf(layers: Layers, fresh: Row): string {
    const leaves = this.#table.leaves ?? []
    if (leaves.length === 0 || leaves.length > MAX_LEAVES) throw new NotFollowed('the partitions are not known')
    const cases = leaves.map(({ oid, bound: condition }) => `WHEN ${condition ?? 'true'} THEN ${quoteText(oid)}`)
    const columns = [...fresh].map(([name, value]) => `${value} AS ${quoteName(name)}`)
    return layers.value(`(SELECT CAST(CASE ${cases.join(' ')} END AS oid) FROM (SELECT ${columns.join(', ')}) n__)`)
  }

  /** Fires the triggers of one event in turn; each finds the row as the last one left it. */
  async #chain(scene: Scene, event: Event, row: Acting, firing: string): Promise<Chain> {
    const { timing, layers } = scene
    const table = this.#table
    let { fresh, live } = row
    let skipped = 'false'
    const raised: string[] = []
    const used = new Set<string>()
    const single = table.fires?.elsewhere?.find(({ name }) => table.fires?.own.some((each) => each.name === name))
    if (single !== undefined && table.kind === 'p') throw new NotFollowed(`${single.name} differs between partitions`)
    for (const trigger of this.#rowTriggers(timing, event, scene.changed)) {
      const fire = async (): Promise<void> => {
        if (trigger.deferred) throw new NotFollowed('it fires at the end of the transaction')
        const { condition, arguments: given, transitions } = declared(trigger)
        if (transitions.length > 0) throw new NotFollowed('it reads all rows')
        const call: Call = { trigger, event, timing, level: 'ROW', table, firing, arguments: given }
        let on = live
        if (trigger.leaf !== undefined) on = layers.value(both(on, `${firing} = ${trigger.leaf}`))
        if (condition !== undefined) {
          const empty: Row = new Map()
          const scope = {
            call,
            fresh: fresh ?? empty,
            old: row.old ?? empty,
            variable: () => undefined,
            uses: (name: string) => used.add(name),
          }
          const text = deparse(bound(condition.replace(/\bpg_trigger_depth\(\)/g, '0'), scope))
          on = layers.value(both(on, `coalesce((${text}), false)`))
        }
        const outcome = await this.#run(call, { fresh, old: row.old, live: on }, layers, scene, used)
        if (timing === 'AFTER') {
          if (outcome.raised !== undefined) raised.push(outcome.raised)
          return
        }
        if (outcome.raised !== undefined) {
          const text = layers.value(outcome.raised)
          raised.push(text)
          live = layers.value(both(live, `${text} IS NULL`))
        }
        skipped = orElse(skipped, outcome.skipped)
        if (outcome.skipped !== 'false') live = layers.value(both(live, `NOT ${outcome.skipped}`))
        if (fresh !== null) {
          const last = fresh
          const next = [...outcome.fresh].map(([name, value]) => {
            const known = last.get(name) ?? 'NULL'
            return [
              name,
              on === 'true' || value === known
                ? value
                : layers.value(`CASE WHEN ${on} THEN ${value} ELSE ${known} END`),
            ] as const
          })
          fresh = new Map(next)
          const stayed = this.#stays(trigger, event, fresh, last, firing, layers, on)
          if (stayed !== undefined) {
            raised.push(stayed)
            live = layers.value(both(live, `${stayed} IS NULL`))
          }
        }
      }
      if (timing === 'AFTER') await this.#attempt(trigger, fire, layers)
      else await fire()
    }
    return { fresh: fresh ?? new Map(), live, skipped, raised }
  }

  /** A trigger that comes from the partitioned table must leave a new row in its partition. */
  #stays(trigger: FollowedTrigger, event: Event, fresh: Row, last: Row, firing: string, layers: Layers, on: string) {
    const table = this.#table
    const routed = table.kind === 'p' || (trigger.clone && table.partitionBound !== null)
    if (event !== 'INSERT' || !routed || [...fresh].every(([name, value]) => last.get(name) === value)) return undefined
    const message = 'moving row to another partition during a BEFORE FOR EACH ROW trigger is not supported'
    const own = trigger.leaf !== undefined && !trigger.clone
    const label = own ? `23514p${table.name}` : `0A000!${JSON.stringify({ message })}`
    let elsewhere: string
    if (table.kind === 'p') elsewhere = `${this.#leaf(layers, fresh)} IS DISTINCT FROM ${firing}`
    else {
      const columns = [...fresh].map(([name, value]) => `${value} AS ${quoteName(name)}`)
      elsewhere = `(SELECT (${table.partitionBound}) IS FALSE FROM (SELECT ${columns.join(', ')}) n__)`
    }
    return layers.value(`CASE WHEN ${both(on, elsewhere)} THEN CAST(${quoteText(label)} AS text) END`)
  }

  async #run(
    call: Call,
    row: Acting,
    layers: Layers,
    scene: Scene | undefined,
    used = new Set<string>(),
  ): Promise<Outcome> {
    const { trigger } = call
    const { triggers } = this.#options
    const { timing, single } = scene ?? {}
    if (triggers?.ignored === 'all') throw new NotFollowed('its text does not hold as a query')
    if (triggers !== undefined) triggers.followed = true
    const built = builtIn(call, row, layers, scene?.changed)
    if (built !== undefined) return built
    if (triggers?.ignored === 'what they do besides' && timing === 'AFTER')
      throw new NotFollowed('it could not be read')
    if (trigger.settings?.some((setting) => !/^search_path=/i.test(setting))) {
      throw new NotFollowed('it runs with settings of its own')
    }
    const written = layers.effects.length
    let reads = ''
    const outcome = await runProgram(call, row, {
      layers,
      used,
      preview: async (node) => {
        refuseApart(node, trigger)
        return await this.#preview(node, trigger, scene)
      },
      neutralised: (node) => {
        const { notes, syntheticIds } = neutralise(node, () => this.#id(scene))
        if (syntheticIds.length > 0 && scene?.ord === undefined) throw new NotFollowed('it draws on a sequence')
        for (const note of notes) this.#notes.add(note)
        return node
      },
      reads: (node) => {
        refuseApart(node, trigger)
        if (contains(node, 'RangeVar')) reads += JSON.stringify(node)
      },
    })
    const own = reads.includes(JSON.stringify(call.table.name))
    if (timing === 'AFTER' && reads !== '') {
      if (outcome.raised !== undefined) throw new NotFollowed('it raises an error by what it reads')
      if (layers.effects.length > written) this.#notes.add(`trigger ${trigger.name} reads what was written only then`)
    } else if (own && !single) this.#notes.add(`trigger ${trigger.name} reads ${call.table.name}, row after row`)
    return outcome
  }

  /** An id that is another one for each row. */
  #id(scene: Scene | undefined): string {
    const [id = 'NULL'] = this.#options.syntheticIds(1)
    this.#syntheticIds.push(id)
    return scene?.ord === undefined ? id : spread(id, scene.ord)
  }

  async #preview(node: Node, trigger: FollowedTrigger, scene: Scene | undefined): Promise<Inner> {
    const { rewrite, triggers, depth = 0 } = this.#options
    if (triggers?.ignored !== undefined) throw new NotFollowed('what it writes could not be read')
    if (rewrite === undefined || scene === undefined || depth >= MAX_DEPTH) throw new NotFollowed('it writes')
    const options: PreviewOptions = {
      ...this.#options,
      depth: depth + 1,
      // Rules of the statement are none of this one's, and a cursor cannot be asked for from here.
      rules: undefined,
      withoutRules: undefined,
      cursorRow: undefined,
      countRows: undefined,
      syntheticIds: (count, column) => {
        const ids = this.#options.syntheticIds(count, column)
        this.#syntheticIds.push(...ids)
        const { ord } = scene
        if (ord === undefined) throw new NotFollowed('it draws on a sequence')
        return column?.baseType === 'smallint' ? ids : ids.map((id) => spread(id, ord))
      },
    }
    const { operation, table, returning, sql, notes = [], effects = [] } = await rewrite(copyOf(node), options)
    if (operation === 'MERGE') throw new NotFollowed('it merges')
    for (const note of notes) this.#notes.add(note)
    // New rows elsewhere that are made of this row alone are what they are; others may depend on each other.
    const alone = 'InsertStmt' in node && !node.InsertStmt.onConflictClause && !contains(node, 'RangeVar')
    // What goes to a table that inherits from this one would show in this one.
    const here = table.oid === this.#table.oid || (this.#table.kind === 'r' && this.#table.heirs)
    if (!alone || here) {
      this.#notes.add(`what trigger ${trigger.name} writes to ${table.name} was worked out from the data as it is`)
    }
    return { operation, table, returning, sql, effects }
  }

  /** A trigger that is not followed is a blind spot, and no more. */
  async #attempt(trigger: FollowedTrigger, fire: () => Promise<void>, layers?: Layers): Promise<void> {
    const mark = layers?.mark()
    try {
      await fire()
    } catch (error) {
      if (!isNotFollowed(error)) throw error
      if (mark !== undefined) layers?.reset(mark)
      this.#unknown.add(trigger.name)
    }
  }
}

function asGiven({ query, hidden }: Rows): Fired {
  return { query, hidden }
}

interface Scene {
  readonly timing: Timing
  readonly layers: Layers
  readonly changed: ReadonlySet<string> | undefined
  readonly ord: string | undefined
  readonly single: boolean
}

interface Chain {
  readonly fresh: Row
  readonly live: string
  readonly skipped: string
  readonly raised: readonly string[]
}

function isNotFollowed(error: unknown): error is Error {
  return error instanceof NotFollowed || (error instanceof PreviewUnsupported && error.sqlState === undefined)
}

/** Names and rights within a function may be others than ours. @throws NotFollowed */
function refuseApart(node: Node, { settings, owner }: FollowedTrigger): void {
  if (!owner && settings === null) return
  walk({ node }, (tag, value: { schemaname?: string; relname?: string; funcname?: Node[]; op?: string }) => {
    if (tag === 'RangeVar' && (owner || !value.schemaname))
      throw new NotFollowed('it runs with rights or a path of its own')
    if (tag === 'SQLValueFunction' && owner && /USER|ROLE/.test(value.op ?? ''))
      throw new NotFollowed('it asks who runs it')
    const path = tag === 'FuncCall' ? nameParts(value.funcname) : []
    if (path.length > 0 && functionKind(path) === 'unknown' && (owner || path.length === 1)) {
      throw new NotFollowed('it calls a function with rights or a path of its own')
    }
  })
}

/** A made-up id for each row. The steps are wide, so that they do not meet the ids that are made up next. */
function spread(id: string, ord: string): string {
  return `(2000000000 + (CAST(${id} AS bigint) - 2000000000 + (${ord} - 1) * 86525977) % 140000000)`
}

/** An error that a BEFORE trigger raises whatever happens is that of the statement. */
function refuseRaised(raised: string, timing: Timing, layers: Layers): void {
  const constant = layers.constant(raised)
  if (timing !== 'BEFORE' || constant === undefined) throw new NotFollowed('it raises an error')
  throw new RaisedByTrigger(constant.message, constant.code)
}
