import type { Attributes } from '@opentelemetry/api'
import type { Action, Attempt, EffectKind, Fidelity, OverlaidBy, Payload, Preview } from '../journal/record.js'
import type { RequestFacts } from '../policy/http/request-facts.js'

/**
 * What one intercepted call would do, worked out from the call alone, before
 * anything is decided and with nothing sent anywhere.
 */
export interface Effect {
  /** `postgresql`, `http`, `smtp`, `pg-boss`, `net`, `process`, … */
  readonly system: string
  readonly kind: EffectKind
  /** Absent on reads. */
  readonly action?: Action
  /** What is touched: `public.customers`, `crm.example/v1/contacts`, a queue name, a mail host. Low in variety, never a payload. */
  readonly target: string
  /** One line for people: `UPDATE public.customers`, `POST crm.example/v1/contacts`, `mail to 2 recipients`. */
  readonly summary: string
  /** Hash of the shape of the call (normalised statement, URL template), equal for calls that differ only in values. */
  readonly fingerprint: string
  /** What policy rules are matched against, by the names the policy uses: `host`, `method`, `path`, `relation`, `destination`, … */
  readonly match: Readonly<Record<string, string | undefined>>
  /** HTTP only: what rules that look into the request may see. Never recorded. */
  readonly request?: RequestFacts
  /** OpenTelemetry attributes of the call itself (`db.*`, `http.*`, `messaging.*`). */
  readonly attributes?: Attributes
}

/** What became known of an effect after the decision. */
export interface EffectDetail {
  readonly preview?: Preview
  readonly payload?: Payload
  readonly fidelity?: Fidelity
  /** Ids that were made up for the simulated result. */
  readonly syntheticIds?: readonly string[]
  readonly attributes?: Attributes
  /** A short native outcome for people, for example `would fail: 23505 …`. */
  readonly note?: string
  /** The blocked writes of the run that a read is answered with, beside or instead of what is really there. */
  readonly overlaidBy?: readonly OverlaidBy[]
  /** A read that was let pass and then answered by us: nothing was sent. */
  readonly unsent?: boolean
  /** A read that drytrace makes by itself: no library has a span for it. */
  readonly ownRead?: boolean
  /** What tells a retry from a second call. */
  readonly attempt?: Attempt
}
