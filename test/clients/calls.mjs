// One write call of each client, as its users write it: no option of ours, retries left on. Loaded by child.mjs.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const json = { name: 'x' }
const aws = { region: 'eu-west-1', credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'example' } }
const once = async (create, use) => use(await create())

/** @type {Record<string, () => Promise<unknown>>} */
export const calls = {
  'fetch (Node)': async () => {
    const answer = await fetch('https://crm.example/v1/contacts', { method: 'POST', body: JSON.stringify(json) })
    return [answer.status, await answer.json()]
  },
  'undici request': async () => {
    const { request } = await import('undici')
    const { statusCode, body } = await request('https://crm.example/v1/contacts', { method: 'POST', body: '{}' })
    return [statusCode, await body.json()]
  },
  axios: async () => {
    const { default: axios } = await import('axios')
    const { status, data } = await axios.post('https://crm.example/v1/contacts', json)
    return [status, data]
  },
  'axios (fetch adapter)': async () => {
    const { default: axios } = await import('axios')
    const { status, data } = await axios.post('https://crm.example/v1/contacts', json, { adapter: 'fetch' })
    return [status, data]
  },
  got: async () => {
    const { default: got } = await import('got')
    return await got.post('https://crm.example/v1/contacts', { json, retry: { limit: 3, methods: ['POST'] } }).json()
  },
  'got (stream)': async () => {
    const { default: got } = await import('got')
    let body = ''
    const stream = got.stream.post('https://crm.example/v1/contacts', { json })
    for await (const chunk of stream) body += chunk
    return JSON.parse(body)
  },
  ky: async () => {
    const { default: ky } = await import('ky')
    return await ky.post('https://crm.example/v1/contacts', { json, retry: { limit: 3, methods: ['post'] } }).json()
  },
  'node-fetch': async () => {
    const { default: fetch } = await import('node-fetch')
    const answer = await fetch('https://crm.example/v1/contacts', { method: 'POST', body: JSON.stringify(json) })
    return [answer.status, await answer.json()]
  },
  superagent: async () => {
    const { default: superagent } = await import('superagent')
    const { status, body } = await superagent.post('https://crm.example/v1/contacts').retry(3).send(json)
    return [status, body]
  },
  stripe: () =>
    once(
      async () => new (await import('stripe')).default('sk_test_example'),
      (stripe) => stripe.customers.create({ email: 'ada@example.com' }),
    ),
  'stripe (fetch client)': async () => {
    const { default: Stripe } = await import('stripe')
    const stripe = new Stripe('sk_test_example', { httpClient: Stripe.createFetchHttpClient() })
    return await stripe.refunds.create({ charge: 'ch_1' })
  },
  'openai files.create': async () => {
    const { default: OpenAI, toFile } = await import('openai')
    const file = await toFile(Buffer.from('{}\n'), 'batch.jsonl')
    return await new OpenAI({ apiKey: 'example' }).files.create({ file, purpose: 'batch' })
  },
  'openai batches.create': async () => {
    const { default: OpenAI } = await import('openai')
    return await new OpenAI({ apiKey: 'example' }).batches.create({
      input_file_id: 'file-1',
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    })
  },
  'anthropic batches.create': async () => {
    const { default: Anthropic } = await import('@anthropic-ai/sdk')
    const params = { model: 'claude', max_tokens: 1, messages: [{ role: 'user', content: 'x' }] }
    return await new Anthropic({ apiKey: 'example' }).messages.batches.create({
      requests: [{ custom_id: 'a', params }],
    })
  },
  'slack chat.postMessage': async () => {
    const { WebClient } = await import('@slack/web-api')
    return await new WebClient('xoxb-example').chat.postMessage({ channel: 'C1', text: 'hello' })
  },
  sendgrid: async () => {
    const { default: mail } = await import('@sendgrid/mail')
    mail.setApiKey('SG.example')
    const [answer] = await mail.send({ to: 'ada@example.com', from: 'shop@example.com', subject: 's', text: 't' })
    return answer.statusCode
  },
  'octokit issues.create': async () => {
    const { Octokit } = await import('@octokit/rest')
    const { status, data } = await new Octokit({ auth: 'example' }).rest.issues.create({
      owner: 'o',
      repo: 'r',
      title: 't',
    })
    return [status, data]
  },
  'elasticsearch index': async () => {
    const { Client } = await import('@elastic/elasticsearch')
    return await new Client({ node: 'https://search.example:9200' }).index({ index: 'i', document: json })
  },
  'elasticsearch bulk': async () => {
    const { Client } = await import('@elastic/elasticsearch')
    const operations = [{ index: { _index: 'i', _id: '1' } }, json, { delete: { _index: 'i', _id: '2' } }]
    const { errors, items } = await new Client({ node: 'https://search.example:9200' }).bulk({ operations })
    return { errors, results: items.map((item) => Object.values(item)[0].result) }
  },
  'graphql-request mutation': async () => {
    const { GraphQLClient } = await import('graphql-request')
    return await new GraphQLClient('https://api.example/graphql').request(
      'mutation Add($n: String!) { addContact(name: $n) { id } }',
      { n: 'x' },
    )
  },
  's3 PutObject': async () => {
    const { S3Client, PutObjectCommand } = await import('@aws-sdk/client-s3')
    return await new S3Client(aws).send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: 'x' }))
  },
  's3 DeleteObject': async () => {
    const { S3Client, DeleteObjectCommand } = await import('@aws-sdk/client-s3')
    return await new S3Client(aws).send(new DeleteObjectCommand({ Bucket: 'b', Key: 'k' }))
  },
  's3 DeleteObjects': async () => {
    const { S3Client, DeleteObjectsCommand } = await import('@aws-sdk/client-s3')
    return await new S3Client(aws).send(
      new DeleteObjectsCommand({ Bucket: 'b', Delete: { Objects: [{ Key: 'k1' }, { Key: 'k2' }] } }),
    )
  },
  's3 CopyObject': async () => {
    const { S3Client, CopyObjectCommand } = await import('@aws-sdk/client-s3')
    return await new S3Client(aws).send(new CopyObjectCommand({ Bucket: 'b', Key: 'k', CopySource: 'b/other' }))
  },
  's3 multipart (lib-storage)': async () => {
    const { S3Client } = await import('@aws-sdk/client-s3')
    const { Upload } = await import('@aws-sdk/lib-storage')
    const params = { Bucket: 'b', Key: 'k', Body: Buffer.alloc(11 * 1024 * 1024, 'x') }
    return await new Upload({ client: new S3Client(aws), params }).done()
  },
  's3 presigned PUT': async () => {
    const { S3Client, PutObjectCommand } = await import('@aws-sdk/client-s3')
    const { getSignedUrl } = await import('@aws-sdk/s3-request-presigner')
    const url = await getSignedUrl(new S3Client(aws), new PutObjectCommand({ Bucket: 'b', Key: 'k' }))
    const answer = await fetch(url, { method: 'PUT', body: 'x' })
    return [answer.status, answer.headers.get('etag')]
  },
  'sqs SendMessage': async () => {
    const { SQSClient, SendMessageCommand } = await import('@aws-sdk/client-sqs')
    const QueueUrl = 'https://sqs.eu-west-1.amazonaws.com/1/q'
    return await new SQSClient(aws).send(
      new SendMessageCommand({
        QueueUrl,
        MessageBody: 'hello',
        MessageAttributes: { kind: { DataType: 'String', StringValue: 'greeting' } },
      }),
    )
  },
  'sqs SendMessageBatch': async () => {
    const { SQSClient, SendMessageBatchCommand } = await import('@aws-sdk/client-sqs')
    const QueueUrl = 'https://sqs.eu-west-1.amazonaws.com/1/q'
    const Entries = ['a', 'b'].map((Id) => ({ Id, MessageBody: `body ${Id}` }))
    return await new SQSClient(aws).send(new SendMessageBatchCommand({ QueueUrl, Entries }))
  },
  'dynamodb PutItem': async () => {
    const { DynamoDBClient, PutItemCommand } = await import('@aws-sdk/client-dynamodb')
    return await new DynamoDBClient(aws).send(new PutItemCommand({ TableName: 't', Item: { id: { S: '1' } } }))
  },
  'twilio messages.create': async () => {
    const { default: twilio } = await import('twilio')
    const message = await twilio('ACexample', 'example').messages.create({
      to: '+15550001',
      from: '+15550002',
      body: 'x',
    })
    return { sid: message.sid, status: message.status, to: message.to }
  },
  'hubspot contacts.create': async () => {
    const { Client } = await import('@hubspot/api-client')
    return await new Client({ accessToken: 'example' }).crm.contacts.basicApi.create({
      properties: { email: 'ada@example.com' },
      associations: [],
    })
  },
  'mcp tools/call': async () => {
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js')
    const transport = new StreamableHTTPClientTransport(new URL('https://mcp.example/mcp'))
    const answer = new Promise((resolve, reject) => {
      transport.onmessage = resolve
      transport.onerror = reject
    })
    await transport.send({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'refund', arguments: {} } })
    const message = await answer
    return message.result ?? message
  },
  'googleapis drive files.create': async () => {
    const { drive } = require('googleapis/build/src/apis/drive')
    const { status, data } = await drive({ version: 'v3', auth: 'example' }).files.create({
      requestBody: { name: 'x.txt' },
      media: { mimeType: 'text/plain', body: 'x' },
    })
    return [status, data]
  },
}

/** Calls that cannot be simulated: they are refused, and their caller gets an error. */
export const refused = {
  'got (http2)': async () => {
    const { default: got } = await import('got')
    return await got.post('https://crm.example/v1/contacts', { json, http2: true }).json()
  },
}

/** `axios 1.21.1, got 16.1.0, …`, as installed. */
export function versions() {
  const { devDependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'))
  const installed = (name) => {
    const file = new URL(`node_modules/${name}/package.json`, import.meta.url)
    return JSON.parse(readFileSync(file, 'utf8')).version
  }
  return Object.keys(devDependencies)
    .map((name) => `${name} ${installed(name)}`)
    .join(', ')
}
