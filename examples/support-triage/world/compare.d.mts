import type { Snapshot } from './world.mjs'

export interface ProofLine {
  readonly line: string
  readonly before: string
  readonly after: string
  readonly unchanged: boolean
  readonly changes: readonly string[]
}

export function compare(before: Snapshot, after: Snapshot): ProofLine[]
