import type { Attributes, Context, Span, SpanKind } from '@opentelemetry/api'
import { runOfContext } from '../carriers/propagator.js'
import { processBarrier } from '../guard/barrier.js'
import { isSimulated, offerLibrarySpan } from '../guard/library-span.js'
import { otel } from '../otel-api.js'
import type { Run } from '../run/run.js'
import { shared } from '../run/store.js'
import {
  ATTR_CASE_ID,
  ATTR_ENABLED,
  ATTR_FLAG_CARRIERS,
  ATTR_FLAG_CONFLICT,
  ATTR_GUARD_GAPS,
  ATTR_GUARD_HOOKS,
  ATTR_POLICY_HASH,
  ATTR_RUN_ID,
} from '../semconv.js'

/** The part of an SDK span we read, on SDK 1.x, 2.x and 3.x. */
interface SdkSpan extends Span {
  readonly kind?: SpanKind
  readonly parentSpanContext?: { readonly spanId: string; readonly isRemote?: boolean }
  readonly parentSpanId?: string
  readonly instrumentationScope?: { readonly name: string }
  readonly instrumentationLibrary?: { readonly name: string }
  readonly attributes?: Attributes
}

/** What a library's span says about a peer that never answered. */
const PEER_CLAIMS = /^(http\.response\.|network\.peer\.|http\.status_code$|net\.peer\.ip$|net\.sock\.)/

/**
 * Marks every span of a dry run, puts the attestation on its local root, and
 * takes back what a simulated call's library span claims of an answer.
 * `drytrace/register` adds it to the service's provider by itself.
 *
 * It never throws: a processor that does breaks the application.
 *
 * @since 0.1.0
 */
export class DryRunSpanProcessor {
  onStart(span: Span, context: Context): void {
    try {
      const run = runOfContext(context)
      if (run !== undefined) mark(span as SdkSpan, run, context)
    } catch {}
  }

  onEnd(span: unknown): void {
    try {
      const { attributes } = span as SdkSpan
      if (attributes === undefined || !isSimulated(span as Span)) return
      for (const name of Object.keys(attributes)) if (PEER_CLAIMS.test(name)) delete attributes[name]
    } catch {}
  }

  async forceFlush(): Promise<void> {}
  async shutdown(): Promise<void> {}
}

function mark(span: SdkSpan, run: Run, context: Context): void {
  span.setAttribute(ATTR_ENABLED, true)
  span.setAttribute(ATTR_RUN_ID, run.id)
  if (run.caseId !== null) span.setAttribute(ATTR_CASE_ID, run.caseId)
  const parent = otel().trace.getSpanContext(context)
  if (parent === undefined || parent.isRemote === true) span.setAttributes(attestation(run))
  if (span.kind === otel().SpanKind.CLIENT || span.kind === otel().SpanKind.PRODUCER) {
    const scope = span.instrumentationScope?.name ?? span.instrumentationLibrary?.name ?? ''
    offerLibrarySpan(span, scope, span.parentSpanContext?.spanId ?? span.parentSpanId)
  }
}

function attestation(run: Run): Attributes {
  const barrier = processBarrier()
  return {
    [ATTR_FLAG_CARRIERS]: [...run.carriers],
    [ATTR_FLAG_CONFLICT]: run.conflict,
    [ATTR_GUARD_HOOKS]: [...(barrier?.armedNames() ?? [])],
    [ATTR_GUARD_GAPS]: [...(barrier?.gaps() ?? [])],
    [ATTR_POLICY_HASH]: shared.slots.get('policyHash') as string | undefined,
  }
}
