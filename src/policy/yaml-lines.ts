import { isMap, isSeq, type LineCounter, type parseDocument } from 'yaml'

export type Path = readonly PropertyKey[]

/** Line of the nearest node that exists: a missing field is reported where it should stand. */
export function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, at: Path): number {
  let node: unknown = document.contents
  let line = lineAt(node, lines) ?? 1
  for (const step of at) {
    if (!isMap(node) && !isSeq(node)) break
    // Keys are numbers where they look like it: statuses do.
    node = node.get(step, true) ?? node.get(Number(step), true)
    line = lineAt(node, lines) ?? line
  }
  return line
}

function lineAt(node: unknown, lines: LineCounter): number | undefined {
  const start = (node as { range?: readonly number[] } | null | undefined)?.range?.[0]
  return start === undefined ? undefined : lines.linePos(start).line
}
