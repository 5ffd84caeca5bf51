/** The nodes of an OpenAPI document, which has been checked but is not typed. */
export type Node = Readonly<Record<string, unknown>>

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function nodeOf(value: unknown): Node {
  return isNode(value) ? value : {}
}

/** What a JSON pointer (`#/components/schemas/Contact`) leads to; undefined when nothing is there. */
export function atPointer(document: unknown, pointer: string): unknown {
  if (pointer !== '#' && !pointer.startsWith('#/')) return undefined
  let value: unknown = document
  for (const step of stepsOf(pointer.slice(1))) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}

/** The steps of a JSON pointer without its `#`. */
export function stepsOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => decoded(step).replaceAll('~1', '/').replaceAll('~0', '~'))
}

export function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Longest chain of references that is followed; a longer one is a circle. */
const MAX_CHAIN = 32

/** Follows references until there is none. */
export function resolve(document: unknown, value: unknown): Node {
  let node = nodeOf(value)
  for (let hops = 0; typeof node['$ref'] === 'string' && hops < MAX_CHAIN; hops += 1) {
    node = nodeOf(atPointer(document, node['$ref']))
  }
  return node
}

/** Examples that stand beside the schema, not in it. */
export function explicitExamples(document: Node, content: Node): unknown[] {
  const several = Object.values(nodeOf(content['examples'])).map((each) => resolve(document, each)['value'])
  return [content['example'], ...several].filter((value) => value !== undefined)
}
