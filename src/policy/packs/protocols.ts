import type { PolicyRule } from '../schema.js'

const GRAPHQL = '/graphql|/**/graphql|/**/graphql.json|/graphql/*'
const MCP = '/mcp|/**/mcp|/mcp/**|/jsonrpc|/**/jsonrpc'
const READS = [
  'initialize',
  'ping',
  'notifications/*',
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'prompts/list',
  'prompts/get',
  'completion/complete',
].join('|')

/** Protocols that send everything as POST: what a call does stands in its body, so it is decided when that is whole. */
export const protocolRules: readonly PolicyRule[] = [
  {
    name: 'graphql.query',
    match: { system: 'http', method: 'POST', path: GRAPHQL, graphql: 'query|subscription' },
    effect: 'read',
    reason: 'a GraphQL query',
  },
  {
    name: 'graphql.mutation',
    match: { system: 'http', method: 'GET|POST', path: GRAPHQL, graphql: 'mutation' },
    effect: 'write',
    action: 'execute',
    reason: 'a GraphQL mutation',
  },
  {
    name: 'graphql.unknown',
    match: { system: 'http', method: 'GET|POST', path: GRAPHQL, graphql: 'unknown' },
    effect: 'unknown',
    action: 'execute',
    reason: 'a GraphQL request that is batched, persisted or does not parse',
  },
  {
    name: 'jsonrpc.read',
    match: { system: 'http', method: 'POST', path: MCP, jsonrpc: READS },
    effect: 'read',
    reason: 'an MCP call that changes nothing',
  },
  {
    name: 'jsonrpc.tool-call',
    match: { system: 'http', method: 'POST', path: MCP, jsonrpc: 'tools/call' },
    effect: 'write',
    action: 'execute',
    reason: 'what a tool does is not known from outside',
  },
]
