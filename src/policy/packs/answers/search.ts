import type { SyntheticIds } from '../../http/respond.js'
import { type BlockedCall, json, type ResponsePack } from '../response-pack.js'

const SHARDS = { total: 1, successful: 1, failed: 0 }
const OPERATIONS: ReadonlySet<string> = new Set(['index', 'create', 'update', 'delete'])
const RESULTS: Readonly<Record<string, string>> = { create: 'created', update: 'updated', delete: 'deleted' }

/** The Elasticsearch client refuses a server that does not say it is one. */
function answer(value: unknown, call: BlockedCall) {
  const asked = call.headers['accept']?.split(',')[0]?.trim()
  const type = asked !== undefined && /json/i.test(asked) && !/ndjson/i.test(asked) ? asked : 'application/json'
  return json(value, 200, { 'content-type': type, 'x-elastic-product': 'Elasticsearch' })
}

/** Elasticsearch and OpenSearch run under any name: known by their client, their host or their own paths. */
export const searchAnswers: readonly ResponsePack[] = [
  {
    id: 'answer.elasticsearch',
    matches: ({ headers, host, path }) =>
      /^(es|elasticsearch|opensearch|esv)=|compatible-with=|elasticsearch|opensearch/i.test(
        `${headers['x-elastic-client-meta'] ?? ''} ${headers['accept'] ?? ''} ${headers['user-agent'] ?? ''}`.trim(),
      ) ||
      /(^|\.)es\.amazonaws\.com$|\.es\.[\w.-]+$|elastic-cloud\.com$|\.aoss\.amazonaws\.com$/.test(host) ||
      /^\/(?:[^/]+\/)?_bulk$|^\/[^/]+\/_(?:doc|create|update)(?:\/[^/]+)?$/.test(path),
    respond(call, ids) {
      const [index = '', kind, id] = call.path.slice(1).split('/').map(decodeURIComponent)
      if (index === '_bulk' || kind === '_bulk') return bulk(call, index === '_bulk' ? undefined : index, ids)
      if (kind === '_delete_by_query' || kind === '_update_by_query' || index === '_reindex') {
        const none = { took: 0, timed_out: false, total: 0, updated: 0, deleted: 0, batches: 0, version_conflicts: 0 }
        return answer({ ...none, noops: 0, failures: [] }, call)
      }
      if (kind === '_doc' || kind === '_create' || kind === '_update') {
        const result = kind === '_update' ? 'updated' : call.method === 'DELETE' ? 'deleted' : 'created'
        return answer({ ...written(index, id ?? ids.string(), result) }, call)
      }
      return answer({ acknowledged: true, shards_acknowledged: true, ...(kind === undefined ? { index } : {}) }, call)
    },
  },
]

function written(index: string, id: string, result: string) {
  return { _index: index, _id: id, _version: 1, result, _shards: SHARDS, _seq_no: 0, _primary_term: 1 }
}

/** One item per action line: clients match answers to documents by position. */
function bulk(call: BlockedCall, index: string | undefined, ids: SyntheticIds) {
  const items: unknown[] = []
  let source = false
  for (const line of call.body.text.split('\n')) {
    if (line.trim() === '') continue
    if (source) {
      source = false
      continue
    }
    const [operation, target] =
      Object.entries(JSON.parse(line) as Record<string, { _index?: string; _id?: string }>)[0] ?? []
    if (operation === undefined || !OPERATIONS.has(operation)) return undefined
    source = operation !== 'delete'
    const result = written(target?._index ?? index ?? '', target?._id ?? ids.string(), RESULTS[operation] ?? 'created')
    const status = operation === 'index' || operation === 'create' ? 201 : 200
    items.push({ [operation]: { ...result, status } })
  }
  return answer({ took: 0, errors: false, items }, call)
}
