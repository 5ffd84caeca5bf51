import type { Span } from '@opentelemetry/api'
import type { Outcome } from '../journal/record.js'
import { ATTR_EFFECT, ATTR_ENABLED, ATTR_OUTCOME, ATTR_RULE, ATTR_RUN_ID } from '../semconv.js'
import type { Decision } from './guard.js'

/**
 * The client library's own instrumentation makes a span for a call we block.
 * It is not the active span inside most libraries (pg, amqplib and kafkajs do
 * not activate it), so it is caught where it starts: the span processor offers
 * every span of a dry run, and the decision made in the same synchronous call
 * takes the one that fits.
 */
interface Offer {
  readonly span: Span
  readonly scope: string
  readonly parentSpanId: string | undefined
}

let offered: Offer | undefined
let expecting: { scope: string; found: Span | undefined } | undefined

/** Called by the span processor for every client or producer span that starts in a dry run. */
export function offerLibrarySpan(span: Span, scope: string, parentSpanId: string | undefined): void {
  if (expecting !== undefined && scope.includes(expecting.scope)) expecting.found ??= span
  offered = { span, scope, parentSpanId }
}

/** The span that the library's instrumentation has just started for this call, if there is one. */
export function takeLibrarySpan(scope: string, active: Span | undefined): Span | undefined {
  const offer = offered
  offered = undefined
  if (offer === undefined || !offer.scope.includes(scope) || !offer.span.isRecording()) return undefined
  // Instrumentations that activate their span (http) make it the active one; the others leave its parent active.
  if (offer.span === active) return offer.span
  const activeId = active?.spanContext().spanId
  return offer.parentSpanId === activeId ? offer.span : undefined
}

/** Runs `fn` and returns the span that instrumentation of `scope` starts inside it, synchronously (undici does). */
export function expectLibrarySpan<T>(scope: string, fn: () => T): { result: T; span: Span | undefined } {
  const outer = expecting
  const mine = { scope, found: undefined as Span | undefined }
  expecting = mine
  try {
    return { result: fn(), span: mine.found }
  } finally {
    expecting = outer
  }
}

const simulated = new WeakSet<Span>()

/**
 * The library's own span says what became of the call, so that nobody who
 * looks at it takes it for real, and no collector for an undecided write. It
 * has no `dry_run.hook.name`: counting goes by our own span.
 */
export function annotateLibrarySpan(span: Span, decision: Decision, outcome: Outcome, unsent = false): void {
  span.setAttributes({
    [ATTR_ENABLED]: true,
    [ATTR_RUN_ID]: decision.run.id,
    [ATTR_EFFECT]: decision.effect.kind,
    [ATTR_OUTCOME]: outcome,
    [ATTR_RULE]: decision.rule,
  })
  // A simulated call got no answer from a peer; what the span claims of one is taken back when it ends.
  if (outcome !== 'allowed' || unsent) simulated.add(span)
}

export function isSimulated(span: Span): boolean {
  return simulated.has(span)
}
