import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DIST, ROOT, runNode, scratchDirectory } from './child.js'
import { readEffects } from './journal.js'

/** A real server, and what can be seen of it. */
export interface World {
  /** Handed to the program under test. */
  readonly env: Readonly<Record<string, string>>
  /** Everything a write would change. */
  state(): Promise<unknown>
  stop(): Promise<void>
}

/**
 * One client library, as the contract suite knows it. Bodies are JavaScript
 * source, because they run in child processes as CommonJS and as an ES module:
 * `load(name)` is require or import, `env` the world's environment.
 */
export interface ContractRow {
  readonly name: string
  /** Value of `dry_run.system` on its effects. */
  readonly system: string
  startWorld(): Promise<World>
  /** Declares what the expressions below use. */
  readonly setup: string
  /** Every form of a write: an expression that resolves to what the caller gets. */
  readonly writes: Readonly<Record<string, string>>
  /** Expressions whose result must be the same dry and live. */
  readonly reads: Readonly<Record<string, string>>
  readonly teardown?: string
  /** Effects recorded per write form where one call is more than one; 1 when left out. */
  readonly effectsPerWrite?: Readonly<Record<string, number>>
  /** Formats the library can be loaded in; both when left out. */
  readonly formats?: readonly Format[]
  /**
   * Forms that a certain order of preloads hides from the hook. They must fail closed: an error for the
   * caller, refused and recorded by the fence.
   */
  readonly refusedByFence?: Readonly<Record<string, (order: Order) => boolean>>
}

export interface Order {
  readonly type: Format
  readonly otel: 'absent' | 'before' | 'after'
}

export type Format = 'commonjs' | 'module'

interface Outcome {
  readonly reads: Record<string, unknown>
  readonly writes: Record<string, { shape?: unknown; error?: string }>
}

interface SpanLine {
  readonly name: string
  readonly scope: string
  readonly kind: number
  readonly spanId: string
  readonly traceState?: string
  readonly attributes: Record<string, unknown>
}

const PRELOAD = path.join(ROOT, 'test/support/otel-preload.mjs')
const FAULT = path.join(ROOT, 'test/support/fault-preload.mjs')

export function describeContract(row: ContractRow): void {
  describe(`contract: ${row.name}`, () => {
    let world: World
    const formats = row.formats ?? ['commonjs', 'module']
    const forms = Object.keys(row.writes)

    beforeAll(async () => {
      world = await row.startWorld()
    })
    afterAll(() => world.stop())

    for (const type of formats) {
      for (const otel of ['absent', 'before', 'after'] as const) {
        it(`blocks every write and passes reads: ${type}, OpenTelemetry ${otel}`, async () => {
          const before = await world.state()
          const live = await run({ type, mode: 'read-live', register: false })
          const dry = await run({ type, mode: 'dry', register: true, otel })

          expect(await world.state()).toEqual(before)
          const fenced = forms.filter((form) => row.refusedByFence?.[form]?.({ type, otel }))
          const errors = errorsOf(dry.outcome)
          expect(Object.keys(errors)).toEqual(fenced)
          for (const form of fenced) expect(errors[form]).toContain('DRY_BLOCKED')
          expect(dry.outcome.reads).toEqual(live.outcome.reads)
          expect(Object.keys(dry.outcome.writes)).toEqual(forms)

          const effects = readEffects(dry.journal).filter(({ effect }) => effect !== 'read')
          const blocked = effects.filter(({ system }) => system === row.system)
          expect(effects.filter(({ rule }) => rule === 'fence')).toHaveLength(fenced.length)
          const expected = forms.reduce((sum, form) => sum + (row.effectsPerWrite?.[form] ?? 1), 0)
          expect(blocked.map(({ outcome }) => outcome)).toEqual(Array(expected).fill('blocked'))
          if (otel !== 'absent')
            assertSpans(
              dry.spans,
              effects.map(({ spanId }) => spanId),
            )
        })
      }

      it(`is invisible live, and its results have the shape of live ones: ${type}`, async () => {
        const bare = await run({ type, mode: 'live', register: false })
        const before = await world.state()
        const guarded = await run({ type, mode: 'live', register: true })
        expect(guarded.outcome).toEqual(bare.outcome)
        expect(errorsOf(guarded.outcome)).toEqual({})
        expect(await world.state()).not.toEqual(before)
        expect(existsSync(guarded.journal), 'a live process writes no journal').toBe(false)

        const dry = await run({ type, mode: 'dry', register: true })
        expect(dry.outcome.writes).toEqual(bare.outcome.writes)
      })
    }

    for (const fault of ['classify', 'record']) {
      it(`blocks when ${fault} throws`, async () => {
        const before = await world.state()
        const type = formats.at(-1) as Format
        const dry = await run({ type, mode: 'dry', register: true, fault })
        expect(await world.state()).toEqual(before)
        for (const form of forms) expect(dry.outcome.writes[form], form).toHaveProperty('error')
      })
    }

    it('blocks when the journal cannot be written', async () => {
      const before = await world.state()
      const type = formats.at(-1) as Format
      const dry = await run({ type, mode: 'dry', register: true, env: { DRYTRACE_JOURNAL: '/proc/self/nowhere' } })
      expect(await world.state()).toEqual(before)
      expect(dry.stdout + dry.stderr).toContain('DRY_JOURNAL')
    })

    async function run(options: {
      type: Format
      mode: 'dry' | 'live' | 'read-live'
      register: boolean
      otel?: 'absent' | 'before' | 'after'
      fault?: string
      env?: Record<string, string>
    }) {
      const directory = scratchDirectory()
      const journal = path.join(directory, 'journal')
      const spansFile = path.join(directory, 'spans.jsonl')
      const { otel = 'absent', fault } = options
      const finished = await runNode({
        type: options.type,
        source: programOf(row, options.type),
        register: options.register,
        before: otel === 'before' ? [PRELOAD] : [],
        after: [...(otel === 'after' ? [PRELOAD] : []), ...(fault === undefined ? [] : [FAULT])],
        env: {
          ...world.env,
          MODE: options.mode,
          FAULT: fault,
          SPANS_FILE: spansFile,
          DRYTRACE_JOURNAL: journal,
          ...options.env,
        },
      })
      const line = finished.stdout.split('\n').find((text) => text.startsWith('OUTCOME '))
      if (line === undefined && options.env === undefined) {
        throw new Error(
          `the program ended with ${finished.code ?? finished.signal}:\n${finished.stdout}${finished.stderr}`,
        )
      }
      const outcome = JSON.parse(line?.slice('OUTCOME '.length) ?? '{"reads":{},"writes":{}}') as Outcome
      return { ...finished, outcome, journal, spans: readSpans(spansFile) }
    }
  })
}

/** Own span exactly once per effect, with the effect's id; the library's own span never looks like a real write. */
function assertSpans(spans: readonly SpanLine[], spanIds: readonly string[]): void {
  const own = spans.filter(
    ({ attributes }) => 'dry_run.hook.name' in attributes && attributes['dry_run.effect'] !== 'read',
  )
  expect(own.map(({ spanId }) => spanId).sort()).toEqual([...spanIds].sort())
  for (const span of own) expect(span.attributes).not.toHaveProperty(['http.response.status_code'])
  const unmarked = spans.filter(
    ({ attributes, traceState }) =>
      attributes['dry_run.enabled'] === true && !traceState?.includes('drytrace=1:contract'),
  )
  expect(unmarked.map(({ name }) => name)).toEqual([])
}

function errorsOf({ writes }: Outcome): Record<string, string> {
  return Object.fromEntries(
    Object.entries(writes).flatMap(([form, { error }]) => (error === undefined ? [] : [[form, error]])),
  )
}

function readSpans(file: string): SpanLine[] {
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as SpanLine)
}

function programOf(row: ContractRow, type: Format): string {
  const entries = (expressions: Readonly<Record<string, string>>) =>
    Object.entries(expressions)
      .map(([name, source]) => `${JSON.stringify(name)}: async () => (${source})`)
      .join(',\n    ')
  return `
${type === 'commonjs' ? 'const load = async (name) => require(name)' : 'const load = (name) => import(name)'}
const env = process.env
// The shape of a result: types and keys, not values. Ids, times and headers differ by nature.
const shapeOf = (value, depth = 0) => {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0], depth + 1)]
  if (value instanceof Date) return 'Date'
  if (typeof value !== 'object') return typeof value
  if (depth > 3) return 'object'
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, shapeOf(value[key], depth + 1)]))
}
async function main() {
  ${row.setup}
  const reads = {
    ${entries(row.reads)}
  }
  const writes = {
    ${entries(row.writes)}
  }
  const outcome = { reads: {}, writes: {} }
  const body = async () => {
    for (const [name, read] of Object.entries(reads)) {
      try { outcome.reads[name] = await read() } catch (error) { outcome.reads[name] = 'error: ' + error.message }
    }
    if (env.MODE === 'read-live') return
    for (const [name, write] of Object.entries(writes)) {
      try { outcome.writes[name] = { shape: shapeOf(await write()) } }
      catch (error) { outcome.writes[name] = { error: (error.code ?? '') + ' ' + error.message + ' ' + (error.cause?.message ?? '') } }
    }
  }
  if (env.MODE === 'dry') {
    const { dryRun } = await import(${JSON.stringify(`file://${path.join(DIST, 'index.js')}`)})
    await dryRun({ id: 'contract' }, body)
  } else await body()
  ${row.teardown ?? ''}
  console.log('OUTCOME ' + JSON.stringify(outcome))
}
// What setup opened would keep the process alive.
main().catch((error) => { console.error(error.code, error.stack); process.exit(1) })
`
}
