import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { runNode, scratchDirectory } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf } from '../../support/scratch.js'

let server: http2.Http2SecureServer
let cert: string
const log: string[] = []

beforeAll(async () => {
  const directory = scratchDirectory()
  const key = path.join(directory, 'key.pem')
  cert = path.join(directory, 'cert.pem')
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync('openssl', [...kind, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  server = http2.createSecureServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
    request.resume().on('end', () => {
      log.push(`HTTP/${request.httpVersion} ${request.method} ${request.url}`)
      response.end(request.url)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterAll(() => {
  server.close()
})

it('undici decides its own calls, also where they share an HTTP/2 session', async () => {
  const journal = path.join(scratchDirectory(), 'journal')
  const finished = await runNode({
    register: true,
    type: 'module',
    source: `
      import { readFileSync } from 'node:fs'
      import { Agent, request } from 'undici'
      import { dryRun, isDryRun } from ${JSON.stringify(INDEX_URL)}
      const url = 'https://localhost:' + process.env.PORT
      const dispatcher = new Agent({ allowH2: true, connections: 1, connect: { ca: readFileSync(process.env.CERT) } })
      const send = async (method, path) => {
        const { body, headers } = await request(url + path, { method, dispatcher, ...(method === 'POST' ? { body: 'x' } : {}) })
        const text = await new Promise((resolve) => { let all = ''; let dry; body.on('data', (c) => { all += c; dry = isDryRun() }).on('end', () => resolve(all + ' ' + dry)) })
        return headers['x-dry-run'] ?? text
      }
      const isDry = (i) => [1, 0, 1, 1, 0][i % 5] === 1
      const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => {
        const go = () => send(i % 2 === 0 ? 'POST' : 'GET', (isDry(i) ? '/dry-' : '/live-') + i)
        return isDry(i) ? dryRun({ id: 'run-' + i }, go) : go()
      }))
      await dispatcher.close()
      console.log('OUT ' + JSON.stringify(answers))
    `,
    env: { PORT: String((server.address() as AddressInfo).port), CERT: cert, DRYTRACE_JOURNAL: journal },
  })
  const isDry = (index: number) => [1, 0, 1, 1, 0][index % 5] === 1
  const indexes = Array.from({ length: 40 }, (_, index) => index)
  expect(outputOf(finished)).toEqual(
    indexes.map((index) => {
      if (!isDry(index)) return `/live-${index} false`
      return index % 2 === 0 ? 'blocked' : `/dry-${index} true`
    }),
  )
  const reached = indexes.flatMap((index) => {
    const write = index % 2 === 0
    if (isDry(index)) return write ? [] : [`HTTP/2.0 GET /dry-${index}`]
    return [`HTTP/2.0 ${write ? 'POST' : 'GET'} /live-${index}`]
  })
  expect([...log].sort()).toEqual(reached.sort())
  // One record each: the session below decides nothing a second time.
  expect(readEffects(journal).map(({ hook }) => hook.name)).toEqual(indexes.filter(isDry).map(() => 'undici'))
})
