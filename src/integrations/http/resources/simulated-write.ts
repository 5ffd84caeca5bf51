import type { HttpCall } from '../http-effect.js'
import type { Exchange, SimulatedResponse } from '../wire-peer.js'

/** A blocked request that was answered as if it had been done, and the answer its caller got. */
export interface SimulatedWrite {
  readonly call: HttpCall
  readonly exchange: Exchange
  readonly answer: SimulatedResponse
  /** Ids made up for the answer. */
  readonly ids: readonly string[]
  readonly summary: string
}
