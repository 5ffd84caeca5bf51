import type { PolicyRule } from '../schema.js'

const HOST = '**.amazonaws.com|**.amazonaws.com.cn'
const FORM = { 'content-type': 'application/x-www-form-urlencoded**' }

function target(name: string, actions: readonly string[], effect: 'read' | 'write', reason: string): PolicyRule {
  // No host: the header belongs to AWS alone, and its stand-ins (LocalStack, ElasticMQ) run anywhere.
  const header = { 'x-amz-target': actions.join('|') }
  return { name, match: { system: 'http', method: 'POST', header }, effect, reason }
}

/** Every AWS call is a POST to `/`: what it does stands in a header or in the form. */
export const awsRules: readonly PolicyRule[] = [
  target(
    'aws.get-that-writes',
    ['AWSStepFunctions.GetActivityTask', 'AWSCognitoIdentityService.GetId'],
    'write',
    'takes a task, or makes an identity',
  ),
  target(
    'aws.dynamodb-read',
    ['GetItem', 'BatchGetItem', 'TransactGetItems', 'Query', 'Scan', 'Describe*', 'List*'].map(
      (action) => `DynamoDB_*.${action}`,
    ),
    'read',
    'reads items',
  ),
  target('aws.json-read', ['*.Get*', '*.List*', '*.Describe*', '*.BatchGet*'], 'read', 'reads by its name'),
  target(
    'aws.kms-read',
    ['Decrypt', 'Encrypt', 'ReEncrypt', 'Verify*', 'GenerateDataKey*', 'GenerateRandom', 'GenerateMac'].map(
      (action) => `TrentService.${action}`,
    ),
    'read',
    'key operations change no record',
  ),
  {
    name: 'aws.ses-send',
    match: { system: 'http', host: 'email.*.amazonaws.com', method: 'POST', path: '/', header: FORM, aws: 'Send*' },
    effect: 'write',
    action: 'send',
    reason: 'sends mail',
  },
  {
    name: 'aws.sns-publish',
    match: { system: 'http', host: 'sns.*.amazonaws.com', method: 'POST', path: '/', header: FORM, aws: 'Publish*' },
    effect: 'write',
    action: 'publish',
    reason: 'publishes a message',
  },
  {
    name: 'aws.query-read',
    match: { system: 'http', host: HOST, method: 'POST', header: FORM, aws: 'Get*|List*|Describe*|BatchGet*' },
    effect: 'read',
    reason: 'reads by its name',
  },
  {
    name: 'aws.query-get',
    match: { system: 'http', host: HOST, method: 'GET', aws: 'Get*|List*|Describe*|BatchGet*' },
    effect: 'read',
    reason: 'reads by its name',
  },
  {
    name: 'aws.query-write',
    match: { system: 'http', host: HOST, method: 'GET', query: { Action: '**' } },
    effect: 'write',
    action: 'execute',
    reason: 'the query API writes by GET too',
  },
  sqs('enqueue', 'SendMessage*', 'enqueue'),
  sqs('settle', 'DeleteMessage*|ChangeMessageVisibility*', 'settle'),
]

function sqs(name: string, action: string, does: 'enqueue' | 'settle'): PolicyRule {
  const header = {
    'x-amz-target': action
      .split('|')
      .map((each) => `AmazonSQS.${each}`)
      .join('|'),
  }
  return { name: `aws.sqs-${name}`, match: { system: 'http', method: 'POST', header }, effect: 'write', action: does }
}
