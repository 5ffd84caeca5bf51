import { createRequire } from 'node:module'
import { PassThrough } from 'node:stream'
import { type PgClient, queueOf } from './driver.js'

const METHODS = {
  connection: ['parse', 'bind', 'describe', 'execute', 'query', 'flush', 'sync', 'close', 'sendCopyFail'],
  copying: ['sendCopyFromChunk', 'endCopyFrom'],
  query: ['submit', 'prepare', 'requiresPreparation', 'handleRowDescription', 'handleDataRow', 'handlePortalSuspended'],
  answers: ['handleCommandComplete', 'handleError', 'handleReadyForQuery'],
} as const

interface Constructed {
  readonly prototype: Record<string, unknown>
}

/**
 * Checks that a copy of pg is built as we know it, before a dry run relies on
 * it. @throws TypeError that says what is different.
 */
export function verifyShape(Client: new (config: object) => PgClient, file: string): void {
  const require = createRequire(file)
  expectMethods('Client', Client, ['query', 'connect', '_pulseQueryQueue'])
  expectMethods('Connection', require('./connection') as Constructed, [...METHODS.connection, ...METHODS.copying])
  expectMethods('Query', require('./query') as Constructed, [...METHODS.query, ...METHODS.answers])
  // Nothing is connected: the stream is one of ours.
  const client = new Client({ host: 'localhost', ssl: false, stream: new PassThrough() })
  if (queueOf(client) === undefined) throw new TypeError("pg's Client keeps its queries elsewhere")
  // Before 8.12 the property comes with the first query.
  const names = String(client._pulseQueryQueue).includes('this.activeQuery')
  if (!('_activeQuery' in client) && !('activeQuery' in client) && !names) {
    throw new TypeError("pg's Client keeps the query that is executed elsewhere")
  }
  if (typeof client.connection?.parsedStatements !== 'object' || typeof client.connection.on !== 'function') {
    throw new TypeError("pg's Connection has changed")
  }
}

function expectMethods(name: string, { prototype }: { readonly prototype: unknown }, methods: readonly string[]): void {
  const missing = methods.filter((method) => typeof (prototype as Record<string, unknown>)[method] !== 'function')
  if (missing.length > 0) throw new TypeError(`pg's ${name} has no ${missing.join(', ')}`)
}
