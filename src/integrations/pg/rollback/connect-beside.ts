import type { PgClient } from '../driver.js'

const CONNECT_MILLISECONDS = 10_000

interface Connected {
  readonly connectionParameters: { readonly options?: string }
  readonly password?: unknown
  readonly ssl?: unknown
}

type ClientConstructor = new (config: Record<string, unknown>) => PgClient

/** A new connection to where `beside` leads to, as the same user. @throws the driver's error. */
export function connectBeside(beside: PgClient): Promise<PgClient> {
  const { connectionParameters, password, ssl } = beside as unknown as Connected
  const { host, port, database, user } = beside
  const client = new (clientClass(beside))({
    host,
    port,
    database,
    user,
    password,
    ssl,
    options: connectionParameters.options,
    application_name: 'drytrace',
    connectionTimeoutMillis: CONNECT_MILLISECONDS,
  })
  return new Promise((resolve, reject) => {
    client.connect((error?: Error | null) => {
      if (error) reject(error)
      else resolve(client)
    })
  })
}

/** pg's own class: the constructor of an application's subclass may do anything. */
function clientClass(client: PgClient): ClientConstructor {
  let prototype: object | null = client
  while (prototype !== null && !Object.hasOwn(prototype, '_pulseQueryQueue')) {
    prototype = Object.getPrototypeOf(prototype) as object | null
  }
  const found = (prototype as { constructor?: unknown } | null)?.constructor
  if (typeof found !== 'function') throw new TypeError('this version of pg is built differently')
  return found as ClientConstructor
}
