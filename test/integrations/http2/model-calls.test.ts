import http2, { type Http2Server, type Http2Session } from 'node:http2'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { readRecords } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

const MESSAGE = { role: 'assistant', content: 'refund' }
/** Bodies that reached the model. */
const asked: string[] = []
let server: Http2Server
const sessions = new Set<Http2Session>()

beforeAll(async () => {
  server = http2.createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      asked.push(body)
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ choices: [{ message: MESSAGE }] }))
    })
  })
  server.on('session', (session) => sessions.add(session))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterAll(async () => {
  for (const session of sessions) session.destroy()
  await new Promise((resolve) => server.close(resolve))
})

const POLICY = `version: 1
record: {decisions: true}
rules:
  - {name: model, match: {system: http, host: 127.0.0.1, method: POST, path: /v1/chat/completions}, effect: read}
  - {name: held, match: {system: http, host: 127.0.0.1, method: POST, path: /held/models/**, body: {stream: "false"}}, effect: read}
`

it('a model call over HTTP/2 is on record with what it asked and was answered, and reaches its caller whole', async () => {
  const directory = scratchTree({ 'policy.yaml': POLICY })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    env: {
      URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_POLICY: path.join(directory, 'policy.yaml'),
    },
    source: `
      import http2 from 'node:http2'
      import { Readable } from 'node:stream'
      import { dryRun } from ${JSON.stringify(INDEX_URL)}
      const session = http2.connect(process.env.URL)
      const request = (path) => session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' })
      const read = async (stream) => { let text = ''; for await (const chunk of stream) text += chunk; return JSON.parse(text) }
      const messages = (text) => JSON.stringify({ model: 'm-1', messages: [text], stream: false })
      const out = []
      const calls = async () => {
        const written = request('/v1/chat/completions')
        written.write(messages('written').slice(0, 10))
        written.end(messages('written').slice(10))
        out.push(await read(written))
        const piped = request('/v1/chat/completions')
        Readable.from([Buffer.from(messages('piped'))]).pipe(piped)
        out.push(await read(piped))
        const held = request('/held/models/m-2')
        held.end(JSON.stringify({ input: 'held', stream: false }))
        out.push(await read(held))
        const unread = request('/v1/chat/completions')
        unread.end(messages('unread'))
        unread.resume()
        await new Promise((resolve) => unread.on('close', resolve))
        const other = request('/v1/chat/completions')
        other.end('{"no":"model"}')
        out.push(await read(other))
      }
      await dryRun({ id: 'model' }, calls)
      await calls()
      session.close()
      console.log('OUT ' + JSON.stringify(out))`,
  })
  const answer = { choices: [{ message: MESSAGE }] }
  expect(outputOf(finished)).toEqual(Array(8).fill(answer))
  expect(asked).toHaveLength(10)
  expect(asked.slice(0, 5)).toEqual(asked.slice(5))
  const decisions = readRecords(journal).filter(({ type }) => type === 'decision')
  const name = '127.0.0.1/v1/chat/completions'
  const common = { runId: 'model', kind: 'llm', output: MESSAGE }
  expect(decisions).toMatchObject([
    { ...common, name, model: 'm-1', input: ['written'] },
    { ...common, name, model: 'm-1', input: ['piped'] },
    { ...common, name: '127.0.0.1/held/models/m-2', model: 'm-2', input: 'held' },
    { ...common, name, model: 'm-1', input: ['unread'] },
  ])
})
