import type { Decision } from '../../guard/guard.js'
import type { Exchange, SimulatedResponse } from './wire-peer.js'

/** Sends a held request after all, and streams its answer. The effect is already on record. */
export type SendHeld = (decision: Decision, exchange: Exchange, signal: AbortSignal) => Promise<SimulatedResponse>
