import { decoded, isNode, type Node, nodeOf, resolve } from './nodes.js'

/** An operation, as a request has met it. */
export interface MatchedOperation {
  readonly operation: Node
  /** As the document writes it. */
  readonly template: string
  /** Path parameters, in their order in the path. */
  readonly parameters: ReadonlyMap<string, string>
}

interface Route {
  readonly template: string
  readonly names: readonly string[]
  readonly pattern: RegExp
  readonly operations: ReadonlyMap<string, { readonly operation: Node; readonly bases: readonly RegExp[] }>
}

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'] as const
const PARAMETER = /\{([^{}]*)\}/

/** Finds the operation of a request: a path that is written out goes before one with parameters. */
export function createRouter(document: Node): (method: string, path: string) => MatchedOperation | undefined {
  const routes = Object.entries(nodeOf(document['paths']))
    .filter(([template]) => template.startsWith('/'))
    .map(([template, item]) => routeOf(document, template, resolve(document, item)))
    .sort((one, other) => one.names.length - other.names.length || other.template.length - one.template.length)
  return (method, path) => {
    for (const { template, names, pattern, operations } of routes) {
      const found = operations.get(method.toLowerCase())
      if (found === undefined) continue
      for (const base of found.bases) {
        const rest = base.exec(path)?.[1]
        const values = rest === undefined ? null : pattern.exec(rest === '' ? '/' : rest)
        if (values === null) continue
        const parameters = new Map(names.map((name, index) => [name, decoded(values[index + 1] ?? '')]))
        return { operation: found.operation, template, parameters }
      }
    }
    return undefined
  }
}

function routeOf(document: Node, template: string, item: Node): Route {
  const parts = template.split(PARAMETER)
  const source = parts.map((part, index) => (index % 2 === 0 ? quote(part) : '([^/]+)')).join('')
  const operations = METHODS.flatMap((method) => {
    const operation = item[method]
    if (!isNode(operation)) return []
    const servers = operation['servers'] ?? item['servers'] ?? document['servers']
    const bases = Array.isArray(servers) && servers.length > 0 ? servers.map((server) => baseOf(nodeOf(server))) : ['']
    return [[method, { operation, bases: bases.map((base) => new RegExp(`^${base}(/.*|)$`)) }] as const]
  })
  return {
    template,
    names: parts.filter((_, index) => index % 2 === 1),
    pattern: new RegExp(`^${source}$`),
    operations: new Map(operations),
  }
}

/** The path of a server's URL, as a pattern: its variables may take any value. */
function baseOf({ url }: Node): string {
  const path = String(url ?? '/')
    .replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*|^\/\/[^/]*/i, '')
    .replace(/^(?=[^/])/, '/')
    .replace(/\/+$/, '')
  return path
    .split(PARAMETER)
    .map((part, index) => (index % 2 === 0 ? quote(part) : '[^/]+'))
    .join('')
}

function quote(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
}
