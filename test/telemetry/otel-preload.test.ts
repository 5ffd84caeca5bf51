import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { OTEL, runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'
import { request, startService } from '../support/service.js'

interface OtlpSpan {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly traceState?: string
  readonly attributes: { readonly key: string; readonly value: Record<string, unknown> }[]
}

let receiver: Server
let endpoint: string
let world: HttpWorld
const spans: OtlpSpan[] = []
const services: string[] = []

/** An OTLP/HTTP receiver that takes JSON. */
beforeAll(async () => {
  receiver = createServer((incoming, response) => {
    let body = ''
    incoming.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    incoming.on('end', () => {
      if (incoming.url === '/v1/traces') {
        for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
          services.push(
            resource.attributes.find(({ key }: { key: string }) => key === 'service.name')?.value.stringValue,
          )
          for (const scope of scopeSpans) spans.push(...scope.spans)
        }
      }
      response.setHeader('content-type', 'application/json').end('{}')
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  endpoint = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
  world = await startHttpWorld()
})
afterAll(async () => {
  receiver.closeAllConnections()
  await new Promise((resolve) => receiver.close(resolve))
  await world.stop()
})
beforeEach(() => {
  spans.length = 0
  services.length = 0
  world.log.length = 0
})

const attribute = (span: OtlpSpan | undefined, key: string) =>
  Object.values(span?.attributes.find((entry) => entry.key === key)?.value ?? {})[0]

describe('drytrace/otel alone, in a service with no OpenTelemetry', () => {
  it.each(['commonjs', 'module'] as const)('exports the whole trace of a dry run: %s', async (type) => {
    const finished = await runNode({
      register: 'otel',
      type,
      env: { URL: world.url, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SERVICE_NAME: 'shop' },
      source: `
        ${type === 'module' ? "import http from 'node:http'" : "const http = require('node:http')"}
        const url = process.env.URL
        const send = (method, path) => new Promise((resolve, reject) => http.request(url + path, { method }, (r) => r.resume().on('end', () => resolve(r.statusCode))).on('error', reject).end())
        async function main() {
          const { dryRun } = await import(${JSON.stringify(INDEX_URL)})
          const { trace } = await import('@opentelemetry/api')
          const out = await dryRun({ id: 'exported' }, () => trace.getTracer('app').startActiveSpan('order', async (span) => {
            const out = [await send('GET', '/read'), await send('POST', '/write'), (await fetch(url + '/fetch', { method: 'POST' })).status]
            span.end()
            return out
          }))
          console.log('OUT ' + JSON.stringify(out))
        }
        main()
      `,
    })
    expect(outputOf(finished), finished.stderr).toEqual([200, 200, 200])
    expect(world.log).toEqual([])
    expect(services[0]).toBe('shop')

    const root = spans.find(({ name }) => name === 'order')
    expect(attribute(root, 'dry_run.run.id')).toBe('exported')
    expect(attribute(root, 'dry_run.policy.hash')).toMatch(/^[0-9a-f]{64}$/)
    const own = spans.filter((span) => attribute(span, 'dry_run.hook.name') !== undefined)
    expect(own.map((span) => attribute(span, 'dry_run.outcome'))).toEqual(['blocked', 'blocked'])
    // One tree: every span's parent is there.
    expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1)
    const ids = new Set(spans.map(({ spanId }) => spanId))
    for (const span of spans) if (span !== root) expect(ids.has(span.parentSpanId ?? ''), span.name).toBe(true)
    for (const span of spans) expect(span.traceState).toBe('drytrace=1:exported')
    // order, GET, POST and its effect, fetch and its effect
    expect(spans).toHaveLength(6)
  })

  it('exports the trace of a request to a service, which still dies of SIGTERM', async () => {
    const service = await startService({
      register: OTEL,
      env: { URL: world.url, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint },
      source: `
        import http from 'node:http'
        const server = http.createServer(async (request, response) => {
          await fetch(process.env.URL + '/write', { method: 'POST' })
          response.end('done')
        })
        server.listen(0, '127.0.0.1', () => console.log('LISTENING ' + server.address().port))
      `,
    })
    try {
      const answer = await request(service.url, { headers: { 'x-dry-run': '1:served' } })
      expect(answer.body).toBe('done')
      expect(answer.headers['x-dry-run']).toBe('1:served')
      expect((await request(service.url)).body).toBe('done')
      expect(world.log).toEqual(['POST /write '])
      // The live trace comes with the dry one: the ratio is the service's business.
      await vi.waitFor(() => expect(spans.filter(({ name }) => name.startsWith('GET'))).toHaveLength(2), {
        timeout: 10_000,
      })
      const dry = spans.filter((span) => attribute(span, 'dry_run.enabled') === true)
      expect(new Set(dry.map((span) => attribute(span, 'dry_run.run.id')))).toEqual(new Set(['served']))
      const server = dry.find(({ name }) => name.startsWith('GET'))
      expect(attribute(server, 'dry_run.guard.gaps')).toBeDefined()
      expect(spans.filter((span) => attribute(span, 'dry_run.enabled') !== true)).toHaveLength(2)

      const ended = new Promise((resolve) => service.process.once('exit', (_, signal) => resolve(signal)))
      service.process.kill('SIGTERM')
      expect(await ended).toBe('SIGTERM')
    } finally {
      await service.stop()
    }
  })
})
