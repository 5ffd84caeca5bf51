import type { PolicyRule } from '../schema.js'

function search(name: string, paths: readonly string[], host?: string): PolicyRule {
  return {
    name,
    match: { system: 'http', ...(host === undefined ? {} : { host }), method: 'POST', path: paths.join('|') },
    effect: 'read',
    reason: 'a search that travels as POST',
  }
}

const ENDPOINTS = [
  '_search',
  '_msearch',
  '_count',
  '_mget',
  '_search/template',
  '_msearch/template',
  '_field_caps',
  '_validate/query',
  '_analyze',
  '_rank_eval',
  '_mtermvectors',
  '_terms_enum',
  '_search_shards',
  '_knn_search',
]

/** Reads whose question does not fit a URL. */
export const searchRules: readonly PolicyRule[] = [
  // No host: Elasticsearch and OpenSearch run anywhere, and nobody else names paths like this.
  search('search.elasticsearch', [
    ...ENDPOINTS.flatMap((endpoint) => [`/${endpoint}`, `/*/${endpoint}`]),
    '/_search/scroll',
    '/*/_explain/*',
    '/*/_termvectors/*',
    '/*/_termvectors',
    '/_render/template',
    '/_query',
    '/*/_pit',
    '/*/_search/point_in_time',
  ]),
  search('search.hubspot', ['/crm/*/objects/*/search', '/crm/*/objects/*/batch/read'], 'api.hubapi.com'),
  search('search.notion', ['/v1/search', '/v1/databases/*/query', '/v1/data_sources/*/query'], 'api.notion.com'),
  search('search.algolia', ['/1/indexes/*/query', '/1/indexes/*/queries'], '*.algolia.net|*.algolianet.com'),
  search('search.pinecone', ['/query', '/vectors/fetch', '/describe_index_stats'], '**.pinecone.io'),
]
