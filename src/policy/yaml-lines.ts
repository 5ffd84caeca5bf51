import type { LineCounter, parseDocument } from 'yaml'

export type Path = readonly PropertyKey[]

/** Line of the nearest node that exists: a missing field is reported where it should stand. */
export function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, at: Path): number {
  for (let length = at.length; length >= 0; length -= 1) {
    const node = length === 0 ? document.contents : document.getIn(at.slice(0, length), true)
    const range = (node as { range?: readonly number[] } | null | undefined)?.range
    if (range?.[0] !== undefined) return lines.linePos(range[0]).line
  }
  return 1
}
