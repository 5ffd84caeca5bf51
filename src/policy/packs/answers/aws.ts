import { createHash } from 'node:crypto'
import { type BlockedCall, escapeXml, json, list, type PackAnswer, type ResponsePack, xml } from '../response-pack.js'

const JSON_1_0 = { 'content-type': 'application/x-amz-json-1.0' }
const md5 = (bytes: string | Uint8Array) => createHash('md5').update(bytes).digest('hex')

interface SqsAttribute {
  readonly DataType?: string
  readonly StringValue?: string
  readonly BinaryValue?: string
}

/** The digest that clients check: sorted by name, each part with its length (SQS developer guide, "Calculating the MD5"). */
function md5OfAttributes(given: unknown): string | undefined {
  const attributes = Object.entries((given ?? {}) as Record<string, SqsAttribute>)
  if (attributes.length === 0) return undefined
  const hash = createHash('md5')
  const part = (bytes: Uint8Array) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.byteLength)
    hash.update(length).update(bytes)
  }
  for (const [name, { DataType = 'String', StringValue, BinaryValue }] of attributes.sort(([a], [b]) =>
    a < b ? -1 : 1,
  )) {
    part(Buffer.from(name))
    part(Buffer.from(DataType))
    const binary = DataType.startsWith('Binary')
    hash.update(Buffer.from([binary ? 2 : 1]))
    part(binary ? Buffer.from(BinaryValue ?? '', 'base64') : Buffer.from(StringValue ?? ''))
  }
  return hash.digest('hex')
}

interface SqsMessage {
  readonly Id?: string
  readonly MessageBody?: string
  readonly MessageAttributes?: unknown
  readonly MessageSystemAttributes?: unknown
}

function sent(message: SqsMessage, messageId: string): Record<string, string | undefined> {
  return {
    MessageId: messageId,
    MD5OfMessageBody: md5(message.MessageBody ?? ''),
    MD5OfMessageAttributes: md5OfAttributes(message.MessageAttributes),
    MD5OfMessageSystemAttributes: md5OfAttributes(message.MessageSystemAttributes),
  }
}

const sqs: ResponsePack = {
  id: 'answer.sqs',
  matches: ({ headers }) => headers['x-amz-target']?.startsWith('AmazonSQS.') === true,
  respond(call, ids) {
    const request = call.body.json() as (SqsMessage & { Entries?: SqsMessage[] }) | undefined
    switch (call.headers['x-amz-target']?.slice('AmazonSQS.'.length)) {
      case 'SendMessage':
        return json(sent(request ?? {}, ids.uuid()), 200, JSON_1_0)
      case 'SendMessageBatch':
        return json(
          {
            Successful: list(request?.Entries).map((entry) => ({
              Id: (entry as SqsMessage).Id,
              ...sent(entry as SqsMessage, ids.uuid()),
            })),
            Failed: [],
          },
          200,
          JSON_1_0,
        )
      case 'DeleteMessageBatch':
      case 'ChangeMessageVisibilityBatch':
        return json(
          { Successful: list(request?.Entries).map((entry) => ({ Id: (entry as SqsMessage).Id })), Failed: [] },
          200,
          JSON_1_0,
        )
      default:
        return json({}, 200, JSON_1_0)
    }
  },
}

const dynamodb: ResponsePack = {
  id: 'answer.dynamodb',
  matches: ({ headers }) => headers['x-amz-target']?.startsWith('DynamoDB_') === true,
  respond: ({ headers }) =>
    // Without it the client takes every item for not written and sends it again.
    json(headers['x-amz-target']?.endsWith('.BatchWriteItem') ? { UnprocessedItems: {} } : {}, 200, JSON_1_0),
}

/** Every other service that names its action in a header. */
const awsJson: ResponsePack = {
  id: 'answer.aws-json',
  matches: ({ headers }) => headers['x-amz-target'] !== undefined,
  respond: ({ headers }) => json({}, 200, { 'content-type': headers['content-type'] ?? 'application/x-amz-json-1.1' }),
}

/** Query API: SNS, SES version 1, SQS of older SDKs, IAM. */
const awsQuery: ResponsePack = {
  id: 'answer.aws-query',
  matches: ({ host, body, query }) =>
    /\.amazonaws\.com(\.cn)?$/.test(host) &&
    (query.has('Action') || /^application\/x-www-form-urlencoded/i.test(body.contentType)),
  respond(call, ids) {
    const form = call.body.form()
    const action = form?.get('Action') ?? call.query.get('Action')
    if (action === null || !/^\w+$/.test(action)) return undefined
    const message = form?.get('MessageBody')
    const digest =
      message === null || message === undefined ? '' : `<MD5OfMessageBody>${md5(message)}</MD5OfMessageBody>`
    const result = /^(Send|Publish)/.test(action) ? `<MessageId>${ids.uuid()}</MessageId>${digest}` : ''
    return xml(
      `<${action}Response><${action}Result>${result}</${action}Result>` +
        `<ResponseMetadata><RequestId>${ids.uuid()}</RequestId></ResponseMetadata></${action}Response>`,
    )
  },
  recipients: ({ body }) =>
    [...(body.form() ?? [])].flatMap(([name, value]) =>
      /^(Destination\.\w+|Destinations)\.member\.\d+$|^(PhoneNumber|TopicArn)$/.test(name) ? [value] : [],
    ),
}

const s3: ResponsePack = {
  id: 'answer.s3',
  matches: ({ host }) => /(^|\.)s3[.-](?:[\w-]+\.)*amazonaws\.com(\.cn)?$/.test(host),
  respond(call, ids) {
    const { method, headers, query } = call
    const tag = `"${call.md5()}"`
    const location = bucketAndKey(call)
    if (method === 'POST' && query.has('uploads')) {
      return xml(
        `<InitiateMultipartUploadResult>${location}<UploadId>${ids.string()}</UploadId></InitiateMultipartUploadResult>`,
      )
    }
    if (method === 'POST' && query.has('uploadId')) {
      return xml(
        `<CompleteMultipartUploadResult>${location}<ETag>${escapeXml(tag)}</ETag></CompleteMultipartUploadResult>`,
      )
    }
    if (method === 'POST' && query.has('delete')) return deleted(call)
    if (method === 'PUT' && headers['x-amz-copy-source'] !== undefined) {
      const root = query.has('partNumber') ? 'CopyPartResult' : 'CopyObjectResult'
      return xml(
        `<${root}><ETag>${escapeXml(tag)}</ETag><LastModified>${new Date().toISOString()}</LastModified></${root}>`,
      )
    }
    if (method === 'DELETE') return { status: 204 }
    // A POST with a body of form fields is a browser upload; S3 answers it with 204.
    if (method === 'POST') return { status: 204, headers: { etag: tag } }
    return { status: 200, headers: { etag: tag, 'x-amz-request-id': ids.string() } }
  },
}

function bucketAndKey({ host, path }: BlockedCall): string {
  const virtual = /^(.+)\.s3[.-]/.exec(host)?.[1]
  const [first = '', ...rest] = path.slice(1).split('/')
  const bucket = virtual ?? first
  const key = virtual === undefined ? rest.join('/') : path.slice(1)
  return `<Bucket>${escapeXml(bucket)}</Bucket><Key>${escapeXml(decode(key))}</Key>`
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function deleted({ body }: BlockedCall): PackAnswer {
  const keys = [...body.text.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => `<Deleted><Key>${key}</Key></Deleted>`)
  return xml(`<DeleteResult>${keys.join('')}</DeleteResult>`)
}

export const awsAnswers: readonly ResponsePack[] = [sqs, dynamodb, awsJson, s3, awsQuery]
