import type { EffectRecord } from '../../src/journal/record.js'

export interface Measured {
  readonly name: string
  readonly result?: unknown
  readonly error?: string
  /** Connections started, counted at the handles of libuv. */
  readonly connects: number
  /** Names looked up. */
  readonly lookups: number
  /** Connections that reached the listener. */
  readonly noticed: number
  readonly effects: readonly EffectRecord[]
}
export type Mode = 'simulate' | 'throw' | 'live'
export const installed: boolean
export function measureClient(name: string, mode?: Mode, dist?: string): Promise<Measured>
export function measureAll(names: readonly string[], mode?: Mode): Promise<Measured[]>
export function requestsOf(name: string): number
export function renderTable(rows: readonly Measured[], versions: string): string
