import type { TextMapPropagator } from '@opentelemetry/api'
import { DryRunPropagator } from '../carriers/propagator.js'
import { API_KEY } from '../otel-api.js'
import { DryRunSampler, type Sampler } from './sampler.js'
import { DryRunSpanProcessor } from './span-processor.js'

/** What has been attached to, for `doctor` and the start-up line. */
export interface Attachment {
  /** `addSpanProcessor`, `spanProcessors`, `sampler`, … for each provider met. */
  readonly providers: readonly string[]
  readonly propagator: boolean
  /** Providers whose internals have an unknown shape: their spans of a dry run are not marked. */
  readonly unknown: readonly string[]
}

interface ApiGlobal {
  trace?: unknown
  propagation?: unknown
  metrics?: unknown
}

/** Provider internals: SDK 1.x has a method; 2.x and 3.x keep the array that their multi processor iterates. */
interface ForeignProvider {
  addSpanProcessor?: (processor: DryRunSpanProcessor) => void
  _activeSpanProcessor?: { _spanProcessors?: unknown[] }
  _tracerOptions?: { sampler?: Sampler }
  _config?: { sampler?: Sampler }
  _tracers?: Map<string, { _sampler?: Sampler }>
}

interface ProxyProvider {
  getDelegate?: () => unknown
  setDelegate?: (provider: unknown) => void
}

const attached = new WeakSet<object>()

/**
 * Attaches to whatever provider and propagator the service registers, now or
 * later, through any copy and minor version of the API. The global object is
 * never created by us: the API refuses one of another version than its own.
 */
export function attachToForeignTelemetry(onMetrics: () => void): Attachment {
  const state = { providers: [] as string[], unknown: [] as string[], propagator: false }
  const globals = globalThis as { [API_KEY]?: ApiGlobal }
  const trap = (api: ApiGlobal): ApiGlobal => trapApi(api, state, onMetrics)
  const existing = globals[API_KEY]
  // Assigned anew at every registration, also of one that follows a `disable()`, which deletes what was registered.
  let current = existing === undefined ? undefined : trap(existing)
  Object.defineProperty(globals, API_KEY, {
    configurable: true,
    enumerable: false,
    get: () => current,
    set: (api: ApiGlobal | undefined) => {
      current = api === undefined ? undefined : trap(api)
    },
  })
  return state
}

type State = { providers: string[]; unknown: string[]; propagator: boolean }

function trapApi(api: ApiGlobal, state: State, onMetrics: () => void): ApiGlobal {
  watch(api, 'trace', (value) => {
    attachProxy(value as ProxyProvider, state)
    return value
  })
  watch(api, 'propagation', (value) => {
    if (value instanceof DryRunPropagator) return value
    state.propagator = true
    return new DryRunPropagator(value as TextMapPropagator)
  })
  watch(api, 'metrics', (value) => {
    // Not now: the provider is not yet reachable through the API while it is being set.
    queueMicrotask(onMetrics)
    return value
  })
  return api
}

const watching = new WeakSet<object>()

function watch(api: ApiGlobal, key: keyof ApiGlobal, wrap: (value: object) => unknown): void {
  const before = Object.getOwnPropertyDescriptor(api, key)?.set
  if (before !== undefined && watching.has(before)) return
  let current: unknown
  const had = api[key]
  const set = (value: unknown): void => {
    current = typeof value === 'object' && value !== null ? wrap(value) : value
  }
  watching.add(set)
  Object.defineProperty(api, key, {
    configurable: true,
    enumerable: true,
    get: () => current,
    set,
  })
  if (had !== undefined) api[key] = had
}

function attachProxy(proxy: ProxyProvider, state: State): void {
  const { setDelegate } = proxy
  if (typeof setDelegate !== 'function') {
    attachProvider(proxy, state)
    return
  }
  Object.defineProperty(proxy, 'setDelegate', {
    configurable: true,
    writable: true,
    value(this: ProxyProvider, provider: unknown) {
      attachProvider(provider, state)
      return Reflect.apply(setDelegate, this, [provider])
    },
  })
  const delegate = proxy.getDelegate?.()
  if (delegate?.constructor.name !== 'NoopTracerProvider') attachProvider(delegate, state)
}

function attachProvider(value: unknown, state: State): void {
  if (typeof value !== 'object' || value === null || attached.has(value)) return
  attached.add(value)
  const provider = value as ForeignProvider
  const how: string[] = []
  const processors = provider._activeSpanProcessor?._spanProcessors
  if (typeof provider.addSpanProcessor === 'function') {
    provider.addSpanProcessor(new DryRunSpanProcessor())
    how.push('addSpanProcessor')
  } else if (Array.isArray(processors)) {
    processors.unshift(new DryRunSpanProcessor())
    how.push('spanProcessors')
  }
  for (const holder of [provider._tracerOptions, provider._config]) {
    if (holder?.sampler !== undefined && !(holder.sampler instanceof DryRunSampler)) {
      holder.sampler = new DryRunSampler(holder.sampler)
      how.push('sampler')
    }
  }
  if (provider._tracers instanceof Map) {
    for (const tracer of provider._tracers.values()) {
      if (tracer._sampler !== undefined && !(tracer._sampler instanceof DryRunSampler)) {
        tracer._sampler = new DryRunSampler(tracer._sampler)
      }
    }
  }
  const name = value.constructor.name
  if (how.length === 0) state.unknown.push(name)
  else state.providers.push(`${name} via ${how.join(', ')}`)
}
