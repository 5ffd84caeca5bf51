import { AsyncLocalStorage } from 'node:async_hooks'
import type { Baggage } from '@opentelemetry/api'
import { activeContext } from '../otel-api.js'
import { BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN } from '../semconv.js'
import { type Flag, parseFlagValue } from './flag.js'
import { createRun, isRunId, type Run, type RunOptions } from './run.js'

/**
 * Everything process-wide lives behind one versioned global, so that a second
 * copy of the package (an application's own next to the preloaded one) shares
 * the runs instead of living beside them.
 */
interface Shared {
  readonly version: 1
  readonly runs: AsyncLocalStorage<Run | undefined>
  readonly permits: AsyncLocalStorage<{ reason: string; open: boolean } | undefined>
  /** The trace of the incoming request, for the records of a service without an OpenTelemetry SDK. */
  readonly entries: AsyncLocalStorage<Entry | undefined>
  /** Runs a function with no run, no span, nothing: the state at preload. */
  readonly root: <T>(fn: () => T) => T
  /** The run of `DRY_RUN=1`. */
  processRun: Run | undefined
  readonly known: Map<string, Run>
  /** What else must hold process-wide: the armed guard, the barrier. Typed by its owners. */
  readonly slots: Map<string, unknown>
  readonly endListeners: Set<(run: Run, error: unknown) => void>
  /** A run has been seen here for the first time. Not yet admitted: it may still be refused. Must not throw. */
  readonly startListeners: Set<(run: Run) => void>
  /** A run was admitted, or met its first effect. A listener that throws is asked again the next time. */
  readonly beginListeners: Set<(run: Run) => void>
}

/** One way into a run: what W3C trace context said of the caller. */
export interface Entry {
  readonly traceId: string
  readonly parentSpanId: string
}

const KEY = Symbol.for('drytrace.v1')
/** Where every copy of the API keeps the baggage in a context. */
export const BAGGAGE_KEY = Symbol.for('OpenTelemetry Baggage Key')

/** Runs kept by id, so that later hops of a run in this process share its budget and its synthetic ids. */
const MAX_KNOWN_RUNS = 1_000

function create(): Shared {
  return {
    version: 1,
    runs: new AsyncLocalStorage(),
    permits: new AsyncLocalStorage(),
    entries: new AsyncLocalStorage(),
    root: AsyncLocalStorage.snapshot() as <T>(fn: () => T) => T,
    processRun: undefined,
    known: new Map(),
    slots: new Map(),
    endListeners: new Set(),
    startListeners: new Set(),
    beginListeners: new Set(),
  }
}

const globals = globalThis as { [KEY]?: Shared }
globals[KEY] ??= create()
export const shared: Shared = globals[KEY]

const runOfBaggage = new WeakMap<Baggage, Run>()
const flagOfBaggage = new WeakMap<Baggage, Flag>()

/**
 * The dry run of the current context: our own storage, or the process-wide
 * run, or active OpenTelemetry baggage. OR, never AND: any one makes it dry.
 */
export function currentRun(): Run | undefined {
  const run = shared.runs.getStore() ?? shared.processRun
  if (run !== undefined) return run
  const baggage = activeContext()?.getValue(BAGGAGE_KEY) as Baggage | undefined
  return baggage === undefined ? undefined : runFromBaggage(baggage)
}

/** Remembers what brought the flag that a propagator has put into a baggage. */
export function rememberFlag(baggage: Baggage, flag: Flag): void {
  flagOfBaggage.set(baggage, flag)
}

/** The run a baggage stands for, or undefined when it does not ask for dry. */
export function runFromBaggage(baggage: Baggage): Run | undefined {
  const known = runOfBaggage.get(baggage)
  if (known !== undefined) return known
  const flag = baggage.getEntry(BAGGAGE_FLAG)
  if (flag === undefined) return undefined
  const meaning = parseFlagValue(flag.value)
  if (meaning === 'live') return undefined
  const id = baggage.getEntry(BAGGAGE_RUN_ID)?.value
  const brought = flagOfBaggage.get(baggage)
  const run = enterRun({
    ...(id !== undefined && isRunId(id) ? { id } : {}),
    entry: 'baggage',
    carriers: brought?.carriers ?? ['baggage'],
    conflict: brought?.conflict ?? (meaning === 'malformed' || (id !== undefined && !isRunId(id))),
    token: baggage.getEntry(BAGGAGE_TOKEN)?.value ?? null,
  })
  runOfBaggage.set(baggage, run)
  return run
}

/**
 * The run of this id in this process, made if it is new here. Neither begins
 * nor holds it: OpenTelemetry's instrumentation extracts the flag, and so
 * comes by here, before anybody has asked whether the peer may set it.
 */
export function enterRun(options: RunOptions): Run {
  const existing = options.id === undefined ? undefined : shared.known.get(options.id)
  if (existing !== undefined) {
    if (existing.begun || options.entry === 'baggage') return existing
    const { entry, carriers, conflict = false, caseId = null, token = null } = options
    return Object.assign(existing, { entry, carriers, conflict, caseId, token })
  }
  const run = createRun(options)
  if (shared.known.size >= MAX_KNOWN_RUNS) evictOne()
  shared.known.set(run.id, run)
  for (const listener of shared.startListeners) listener(run)
  return run
}

/**
 * The run is on record from here on.
 * @throws DryTraceError `DRY_JOURNAL` when it cannot be put on record: refuse it.
 */
export function beginRun(run: Run): void {
  if (run.begun) return
  for (const listener of shared.beginListeners) listener(run)
  run.begun = true
}

/** The oldest ended run, or one that was never admitted, goes first; an open one only when all are open. */
function evictOne(): void {
  for (const run of shared.known.values()) {
    if (run.holds === 0 && (run.endedAt !== undefined || !run.begun)) {
      shared.known.delete(run.id)
      return
    }
  }
  const oldest = shared.known.keys().next().value
  if (oldest !== undefined) shared.known.delete(oldest)
}

/**
 * Keeps the run open until the returned function is called (once; later calls
 * do nothing). The run has ended when nobody holds it any more.
 * @throws as {@link beginRun}
 */
export function holdRun(run: Run): (error?: unknown) => void {
  beginRun(run)
  run.holds += 1
  run.endedAt = undefined
  let held = true
  return (error) => {
    if (!held) return
    held = false
    run.holds -= 1
    if (run.holds > 0) return
    run.endedAt = Date.now()
    for (const listener of shared.endListeners) listener(run, error)
  }
}
