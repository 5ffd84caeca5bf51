import type { Path } from './yaml-lines.js'

/** A policy as it was written, and where in its file things stand. */
export interface PolicySource {
  readonly file: string
  readonly text: string
  readonly value: unknown
  /** Line of the place, or of the nearest there is. */
  line(at: Path): number
}
