import type { PgClient, PgQuery, QueryHandlers } from './driver.js'

/** What pg keeps of a client in pipeline mode, since 8.22. */
interface Pipelined extends Omit<PgClient, 'pipeline'> {
  readonly _sentQueryQueue: QueryHandlers[]
  readonly _queryQueue: PgQuery[]
  readonly _connected: boolean
  readonly _queryable: boolean
  readonly connection: NonNullable<PgClient['connection']>
  _activeQuery: QueryHandlers | null
  hasExecuted?: boolean
}

const dryQueries = new WeakSet<PgQuery>()
/** Clients that work their queue off one by one. */
const oneByOne = new WeakSet<object>()

/** True when the client's pipeline is built as we know it. */
export function pipelineKnown(client: PgClient): boolean {
  const { _sentQueryQueue, _queryQueue } = client as Partial<Pipelined>
  return Array.isArray(_sentQueryQueue) && Array.isArray(_queryQueue) && '_activeQuery' in client
}

/**
 * A dry query takes several round trips, between which no other query's
 * messages may come. So what is on the wire is waited for, the queue is worked
 * off one by one up to the last dry query, and then the client pipelines again.
 */
export function sendOneByOne(pipelined: PgClient, query: PgQuery): void {
  dryQueries.add(query)
  const client = pipelined as PgClient & Pipelined
  if (oneByOne.has(client)) return
  oneByOne.add(client)
  const own = client._pulseQueryQueue
  const put = (value: () => void) =>
    Object.defineProperty(client, '_pulseQueryQueue', { configurable: true, writable: true, value })
  const pulse = (): void => {
    if (!client._connected || !client._queryable || client._activeQuery || !client.readyForQuery) return
    const sent = client._sentQueryQueue.shift()
    if (sent !== undefined) {
      client._activeQuery = sent
      client.readyForQuery = false
      return
    }
    if (!client._queryQueue.some((waiting) => dryQueries.has(waiting))) {
      oneByOne.delete(client)
      put(own)
      client._pulseQueryQueue()
      return
    }
    sendNext(client)
  }
  put(pulse)
}

/** As pg does without a pipeline. */
function sendNext(client: Pipelined): void {
  const next = client._queryQueue.shift()
  if (next === undefined) return
  client._activeQuery = next
  client.readyForQuery = false
  client.hasExecuted = true
  const refused = next.submit(client.connection)
  if (!refused) return
  process.nextTick(() => {
    client._activeQuery = null
    next.handleError(refused, client.connection)
    client.readyForQuery = true
    client._pulseQueryQueue()
  })
}
