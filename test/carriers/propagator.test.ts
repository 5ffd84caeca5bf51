import {
  type Context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  propagation,
  ROOT_CONTEXT,
  type TextMapPropagator,
  TraceFlags,
  trace,
} from '@opentelemetry/api'
import {
  CompositePropagator,
  suppressTracing,
  W3CBaggagePropagator,
  W3CTraceContextPropagator,
} from '@opentelemetry/core'
import { beforeEach, describe, expect, it } from 'vitest'
import { withoutInjection } from '../../src/carriers/outgoing.js'
import { DryRunPropagator } from '../../src/carriers/propagator.js'
import { runFromBaggage, shared } from '../../src/run/store.js'

const w3c = () =>
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] })

const span = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  traceFlags: TraceFlags.NONE,
}

beforeEach(() => shared.known.clear())

function dryContext(base: Context = ROOT_CONTEXT, runId = 'r1', members: Record<string, string> = {}): Context {
  const entries = { ...members, dry_run: 'true', 'dry_run.run.id': runId }
  const baggage = propagation.createBaggage(
    Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, { value }])),
  )
  return propagation.setBaggage(trace.setSpanContext(base, span), baggage)
}

function inject(context: Context, inner?: TextMapPropagator): Record<string, string> {
  const headers: Record<string, string> = {}
  new DryRunPropagator(inner).inject(context, headers, defaultTextMapSetter)
  return headers
}

function extract(headers: Record<string, string>, inner: TextMapPropagator | undefined = w3c()): Context {
  return new DryRunPropagator(inner).extract(ROOT_CONTEXT, headers, defaultTextMapGetter)
}

function runIdOf(context: Context): string | undefined {
  const baggage = propagation.getBaggage(context)
  return baggage === undefined ? undefined : runFromBaggage(baggage)?.id
}

describe('DryRunPropagator', () => {
  it('writes all three carriers', () => {
    const headers = inject(dryContext(), w3c())
    expect(headers['baggage']).toBe('dry_run=true,dry_run.run.id=r1')
    expect(headers['tracestate']).toBe('drytrace=1:r1')
    expect(headers['x-dry-run']).toBe('1:r1')
  })

  for (const inner of ['w3c', 'tracecontext only', 'none'] as const) {
    const make = (): TextMapPropagator | undefined =>
      inner === 'w3c' ? w3c() : inner === 'none' ? undefined : new W3CTraceContextPropagator()
    const written = inner === 'none' ? ['baggage', 'x-dry-run'] : ['baggage', 'tracestate', 'x-dry-run']

    it.each(written)(`any one carrier restores the others, inner ${inner}: %s`, (survivor) => {
      const headers = inject(dryContext(), make())
      const context = extract({ [survivor]: headers[survivor] as string }, make())
      expect(runIdOf(context)).toBe('r1')
      const next = inject(trace.setSpanContext(context, span), make())
      expect(Object.keys(next).filter((name) => name !== 'traceparent')).toEqual(expect.arrayContaining(written))
      expect(next['baggage']).toContain('dry_run.run.id=r1')
    })
  }

  it('survives tracing being suppressed', () => {
    const headers = inject(suppressTracing(dryContext()), w3c())
    expect(headers['x-dry-run']).toBe('1:r1')
    expect(runIdOf(extract(headers))).toBe('r1')
  })

  it('comes first in a baggage of 200 members, and keeps theirs', () => {
    const members = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`key${index}`, 'x'.repeat(20)]))
    const headers = inject(dryContext(ROOT_CONTEXT, 'r1', members), w3c())
    expect(headers['baggage']?.startsWith('dry_run=true,dry_run.run.id=r1,')).toBe(true)
    expect(headers['baggage']).toContain('key0=')
    expect(headers['baggage']?.match(/dry_run=/g)).toHaveLength(1)
    const late = `${Array.from({ length: 200 }, (_, n) => `key${n}=${'x'.repeat(40)}`).join(',')},dry_run=true,dry_run.run.id=r1`
    expect(runIdOf(extract({ baggage: late }))).toBe('r1')
  })

  it('makes room in a full tracestate by dropping the oldest member', () => {
    const full = Array.from({ length: 32 }, (_, index) => `v${index}=1`).join(',')
    const context = w3c().extract(
      ROOT_CONTEXT,
      { traceparent: `00-${span.traceId}-${span.spanId}-01`, tracestate: full },
      defaultTextMapGetter,
    )
    const members = inject(dryContext(context, 'r1'), inner(full))['tracestate']?.split(',') ?? []
    expect(members).toHaveLength(32)
    expect(members[0]).toBe('drytrace=1:r1')
    expect(members).toContain('v0=1')
    expect(members).not.toContain('v31=1')
  })

  it('merges with the baggage an inner propagator of the service writes', () => {
    const custom: TextMapPropagator = {
      inject: (_, carrier, setter) => setter.set(carrier, 'Baggage', 'tenant=7,dry_run=false'),
      extract: (context) => context,
      fields: () => ['baggage'],
    }
    const headers = inject(dryContext(), custom)
    expect(headers['baggage']).toBe('dry_run=true,dry_run.run.id=r1,tenant=7')
  })

  it('asks samplers downstream to record the run', () => {
    expect(inject(dryContext(), w3c())['traceparent']).toMatch(/-01$/)
    const context = extract({ traceparent: `00-${span.traceId}-${span.spanId}-00`, 'x-dry-run': '1:r1' })
    expect(trace.getSpanContext(context)?.traceFlags).toBe(TraceFlags.SAMPLED)
  })

  it('says nothing live', () => {
    const live = trace.setSpanContext(ROOT_CONTEXT, span)
    expect(inject(live, w3c())).toEqual({ traceparent: `00-${span.traceId}-${span.spanId}-00` })
    const context = extract({ baggage: 'dry_run=false,tenant=7', tracestate: 'vendor=1' })
    expect(runIdOf(context)).toBeUndefined()
    expect(trace.getSpanContext(extract({ traceparent: `00-${span.traceId}-${span.spanId}-00` }))?.traceFlags).toBe(0)
  })

  it('tells nobody while it is muted', () => {
    const context = extract({ traceparent: `00-${span.traceId}-${span.spanId}-01`, tracestate: 'drytrace=1:r1,v=1' })
    const tagged = propagation.setBaggage(
      context,
      (propagation.getBaggage(context) ?? propagation.createBaggage()).setEntry('tenant', { value: '7' }),
    )
    expect(withoutInjection(() => inject(tagged, w3c()))).toEqual({
      traceparent: `00-${span.traceId}-${span.spanId}-01`,
      tracestate: 'v=1',
      baggage: 'tenant=7',
    })
  })

  it('names every field it may write', () => {
    expect(new DryRunPropagator(w3c()).fields()).toEqual(
      expect.arrayContaining(['traceparent', 'tracestate', 'baggage', 'x-dry-run']),
    )
  })
})

/** A propagator that writes this tracestate, as the W3C one does for a context that holds it. */
function inner(tracestate: string): TextMapPropagator {
  return {
    inject(_, carrier, setter) {
      setter.set(carrier, 'traceparent', `00-${span.traceId}-${span.spanId}-01`)
      setter.set(carrier, 'tracestate', tracestate)
    },
    extract: (context) => context,
    fields: () => ['traceparent', 'tracestate'],
  }
}
