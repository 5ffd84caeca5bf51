import { expect, it } from 'vitest'
import { classifyHttp } from '../../src/integrations/http/http-effect.js'
import { bodyOf } from '../../src/policy/http/request-facts.js'
import { builtinIds, builtinRules } from '../../src/policy/packs/index.js'
import { compilePolicy, type Policy } from '../../src/policy/policy.js'

const policy = compilePolicy({ version: 1 }, { hash: '' })

function ask(url: string, method = 'POST', headers: Record<string, string> = {}, body?: string, by: Policy = policy) {
  const { protocol, hostname: host, pathname, search } = new URL(url)
  const secure = protocol === 'https:'
  const call = {
    host,
    port: secure ? 443 : 80,
    method,
    path: pathname + search,
    upgrade: false,
    headers,
    headersFinal: true,
  }
  const effect = classifyHttp({ ...call, protocol: secure ? 'https:' : 'http:' })
  const { system, kind, action, match, request } = effect
  const whole =
    request === undefined || body === undefined ? request : { ...request, body: bodyOf(body, headers['content-type']) }
  const { verdict, rule, deferred } = by.decide({ system, kind, action, match, request: whole })
  return `${deferred ? 'deferred' : verdict} ${rule.replace('builtin.', '')}`
}

const target = (action: string) => ({ 'x-amz-target': action })
const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }

it.each([
  ['https://search.x/_search', 'allow search.elasticsearch'],
  ['https://search.x/books/_search?size=1', 'allow search.elasticsearch'],
  ['https://search.x/_msearch', 'allow search.elasticsearch'],
  ['https://search.x/books/_count', 'allow search.elasticsearch'],
  ['https://search.x/_mget', 'allow search.elasticsearch'],
  ['https://search.x/books/_doc', 'block default.write'],
  ['https://search.x/_bulk', 'block default.write'],
  ['https://search.x/books/_delete_by_query', 'block default.write'],
  ['https://search.x/_plugins/_sql', 'block default.write'],
  ['https://search.x/a/b/_search', 'block default.write'],
  ['https://api.hubapi.com/crm/v3/objects/contacts/search', 'allow search.hubspot'],
  ['https://api.hubapi.com/crm/v3/objects/contacts', 'block default.write'],
  ['https://evil.x/crm/v3/objects/contacts/search', 'block default.write'],
  ['https://slack.com/api/conversations.list', 'allow slack.read'],
  ['https://slack.com/api/conversations.open', 'block default.write'],
  ['https://slack.com/api/chat.postMessage', 'block send.slack'],
  ['https://slack.com.evil.x/api/conversations.list', 'block default.write'],
  ['https://api.anthropic.com/v1/messages', 'allow llm.anthropic.messages'],
  ['https://api.anthropic.com/v1/messages/batches', 'block default.write'],
  ['https://api.x/graphql', 'deferred graphql.query'],
  ['https://api.x/mcp', 'deferred jsonrpc.read'],
])('POST %s: %s', (url, expected) => {
  expect(ask(url)).toBe(expected)
})

it.each([
  ['DynamoDB_20120810.GetItem', 'allow aws.dynamodb-read'],
  ['DynamoDB_20120810.Query', 'allow aws.dynamodb-read'],
  ['DynamoDB_20120810.PutItem', 'block default.write'],
  ['DynamoDB_20120810.ExecuteStatement', 'block default.write'],
  ['secretsmanager.GetSecretValue', 'allow aws.json-read'],
  ['AmazonSQS.ListQueues', 'allow aws.json-read'],
  ['AmazonSQS.ReceiveMessage', 'block default.write'],
  ['AmazonSQS.SendMessageBatch', 'block aws.sqs-enqueue'],
  ['AmazonSQS.DeleteMessage', 'block aws.sqs-settle'],
  ['TrentService.Decrypt', 'allow aws.kms-read'],
  ['TrentService.ScheduleKeyDeletion', 'block default.write'],
  ['AWSStepFunctions.GetActivityTask', 'block aws.get-that-writes'],
])('X-Amz-Target %s: %s', (action, expected) => {
  expect(ask('http://localstack/', 'POST', target(action))).toBe(expected)
})

it.each([
  ['https://sns.eu-west-1.amazonaws.com/', 'Action=ListTopics', 'allow aws.query-read'],
  ['https://sns.eu-west-1.amazonaws.com/', 'Action=Publish&Message=x', 'block aws.sns-publish'],
  ['https://email.eu-west-1.amazonaws.com/', 'Action=SendEmail', 'block aws.ses-send'],
  ['https://email.eu-west-1.amazonaws.com/', 'Action=GetSendQuota', 'allow aws.query-read'],
  ['https://iam.amazonaws.com/', 'Action=DeleteUser', 'block default.write'],
  ['https://iam.amazonaws.com/', 'Action=GetUser&Action=DeleteUser', 'block default.write'],
  ['https://iam.amazonaws.com.evil.x/', 'Action=GetUser', 'block default.write'],
])('POST %s %s: %s', (url, body, expected) => {
  expect(ask(url, 'POST', FORM, body)).toBe(expected)
})

it.each([
  ['https://sqs.eu-west-1.amazonaws.com/1/q?Action=GetQueueAttributes', 'allow aws.query-get'],
  ['https://sqs.eu-west-1.amazonaws.com/1/q?Action=SendMessage', 'block aws.query-write'],
  ['https://sqs.eu-west-1.amazonaws.com/1/q?Action=GetX&Action=SendMessage', 'block aws.query-write'],
  ['https://s3.eu-west-1.amazonaws.com/b/k', 'allow default.read'],
  ['https://api.telegram.org/bot1:x/sendMessage?chat_id=1', 'block send.telegram'],
  ['https://api.telegram.org/bot1:x/getMe', 'allow telegram.read'],
  ['https://api.telegram.org/bot1:x/getUpdates?offset=5', 'block telegram.write'],
  ['https://api.x/graphql', 'allow default.read'],
])('GET %s: %s', (url, expected) => {
  expect(ask(url, 'GET')).toBe(expected)
})

it('a GraphQL mutation by GET is blocked', () => {
  // Unknown without the parser.
  expect(ask('https://api.x/graphql?query=mutation%20%7Bx%7D', 'GET')).toMatch(/^block graphql\.(mutation|unknown)$/)
})

it('every built-in id is there once, and switches off', () => {
  expect(new Set(builtinIds()).size).toBe(builtinIds().length)
  for (const { name } of builtinRules) expect(policy.enabled(name)).toBe(true)
  const without = compilePolicy({ version: 1, disable: ['search.elasticsearch'] }, { hash: '' })
  expect(ask('https://search.x/_search', 'POST', {}, undefined, without)).toBe('block default.write')
})
