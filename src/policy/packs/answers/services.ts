import { fieldsOf, json, list, type ResponsePack } from '../response-pack.js'

const now = () => Math.floor(Date.now() / 1000)

/** `/v1/customers` is a customer, `/v1/subscription_items` a subscription_item; an odd part is an id. */
function stripeObject(path: string): { object: string; id: string | undefined } {
  const [, , collection = '', id] = path.split('/')
  return { object: collection.replace(/ies$/, 'y').replace(/s$/, ''), id }
}

const stripe: ResponsePack = {
  id: 'answer.stripe',
  matches: ({ host }) => host === 'api.stripe.com' || host === 'files.stripe.com',
  respond(call, ids) {
    const { object, id } = stripeObject(call.path)
    if (call.method === 'DELETE') return json({ id, object, deleted: true })
    const { metadata: _, ...scalars } = Object.fromEntries(
      Object.entries(fieldsOf(call)).filter(([name]) => !name.includes('[')),
    ) as Record<string, unknown>
    return json({
      ...scalars,
      id: id ?? ids.string(),
      object,
      created: now(),
      livemode: false,
      metadata: {},
      status: object === 'refund' || object === 'payment_intent' || object === 'charge' ? 'succeeded' : undefined,
    })
  },
}

const openai: ResponsePack = {
  id: 'answer.openai',
  matches: ({ host, path }) => host === 'api.openai.com' && /^\/v1\/(files|batches|uploads|fine_tuning)\b/.test(path),
  respond(call, ids) {
    const [, , collection, id, verb] = call.path.split('/')
    const fields = fieldsOf(call)
    if (call.method === 'DELETE') return json({ id, object: 'file', deleted: true })
    const object = collection === 'batches' ? 'batch' : collection === 'files' ? 'file' : String(collection)
    const status = verb === 'cancel' ? 'cancelling' : object === 'batch' ? 'validating' : 'processed'
    return json({ ...fields, id: id ?? ids.string(), object, created_at: now(), status })
  },
}

const anthropic: ResponsePack = {
  id: 'answer.anthropic',
  matches: ({ host, path }) => host === 'api.anthropic.com' && /^\/v1\/(files|messages\/batches)\b/.test(path),
  respond(call, ids) {
    const files = call.path.startsWith('/v1/files')
    const id = call.path.split('/')[files ? 3 : 4]
    if (call.method === 'DELETE') return json({ id, type: files ? 'file_deleted' : 'message_batch_deleted' })
    const at = new Date()
    if (files) return json({ id: ids.string(), type: 'file', created_at: at.toISOString(), downloadable: false })
    return json({
      id: id ?? ids.string(),
      type: 'message_batch',
      processing_status: call.path.endsWith('/cancel') ? 'canceling' : 'in_progress',
      request_counts: {
        processing: list(fieldsOf(call)['requests']).length,
        succeeded: 0,
        errored: 0,
        canceled: 0,
        expired: 0,
      },
      created_at: at.toISOString(),
      expires_at: new Date(at.getTime() + 86_400_000).toISOString(),
      ended_at: null,
      cancel_initiated_at: null,
      archived_at: null,
      results_url: null,
    })
  },
}

const hubspot: ResponsePack = {
  id: 'answer.hubspot',
  matches: ({ host, path }) => host === 'api.hubapi.com' && path.startsWith('/crm/'),
  respond(call, ids) {
    const created = call.method === 'POST'
    const at = new Date().toISOString()
    const one = ({ id, properties }: { id?: unknown; properties?: unknown }) => ({
      id: id ?? ids.integer(),
      properties: properties ?? {},
      createdAt: at,
      updatedAt: at,
      archived: false,
    })
    if (call.method === 'DELETE' || call.path.endsWith('/batch/archive')) return { status: 204 }
    const batch = /\/batch\/(create|update|upsert)$/.exec(call.path)?.[1]
    if (batch !== undefined) {
      const inputs = list(fieldsOf(call)['inputs']) as { id?: unknown; properties?: unknown }[]
      const results = inputs.map(one)
      return json({ status: 'COMPLETE', results, startedAt: at, completedAt: at }, batch === 'create' ? 201 : 200)
    }
    const id = created ? undefined : call.path.split('/').at(-1)
    return json(one({ id, properties: fieldsOf(call)['properties'] }), created ? 201 : 200)
  },
}

/** JSON-RPC and MCP: a result for every request, nothing for a notification. A blocked tool call returns no content. */
const jsonrpc: ResponsePack = {
  id: 'answer.jsonrpc',
  matches: ({ method, body }) => method === 'POST' && /json/i.test(body.contentType) && body.text.includes('"jsonrpc"'),
  respond({ body }) {
    const messages = list(body.json()) as { jsonrpc?: unknown; id?: unknown; method?: unknown }[]
    if (!messages.every((message) => message?.jsonrpc === '2.0')) return undefined
    const answers = messages
      .filter(({ id, method }) => id !== undefined && method !== undefined)
      .map(({ id, method }) => ({ jsonrpc: '2.0', id, result: method === 'tools/call' ? { content: [] } : {} }))
    if (answers.length === 0) return { status: 202 }
    return json(Array.isArray(body.json()) ? answers : answers[0])
  },
}

/** A mutation that returns nothing is legal GraphQL; `data: null` alone would be an error in most clients. */
const graphql: ResponsePack = {
  id: 'answer.graphql',
  matches: ({ method, path }) => method === 'POST' && /(^|\/)graphql(\.json)?$/.test(path),
  respond({ body }) {
    const request = body.json()
    return json(Array.isArray(request) ? request.map(() => ({ data: {} })) : { data: {} })
  },
}

export const serviceAnswers: readonly ResponsePack[] = [stripe, openai, anthropic, hubspot, jsonrpc, graphql]
