export interface Measured {
  readonly name: string
  readonly mode: string
  readonly results: readonly (readonly [title: string, given: unknown])[]
  readonly steps: readonly { title: string; expected: unknown; given: unknown; same: boolean }[]
  readonly effects: readonly { outcome: string; effect: string }[]
  readonly problems: readonly { kind: string; message: string }[]
}

export interface Row {
  readonly name: string
  readonly live: Measured
  readonly modes: Readonly<Record<string, Measured>>
}

export const installed: boolean
export const libraries: readonly string[]
export const MODES: readonly string[]
export function measureAll(names?: readonly string[]): Promise<Row[]>
export function changedIn(measured: Measured): string[]
export function renderTable(rows: readonly Row[], versions: readonly string[]): string
export function versions(): string[]
