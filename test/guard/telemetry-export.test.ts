import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'

let collector: HttpWorld
let other: HttpWorld
beforeAll(async () => {
  collector = await startHttpWorld()
  other = await startHttpWorld()
})
afterAll(() => Promise.all([collector.stop(), other.stop()]))
beforeEach(() => {
  collector.log.length = 0
  other.log.length = 0
})

const SOURCE = `
  import http from 'node:http'
  import { context } from '@opentelemetry/api'
  import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
  import { suppressTracing } from '@opentelemetry/core'
  import { dryRun } from ${JSON.stringify(INDEX_URL)}
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const byHttp = (url) => new Promise((resolve, reject) =>
    http.request(url + '/v1/traces', { method: 'POST' }, (r) => resolve(r.resume().headers['x-dry-run'] ?? 'sent')).on('error', reject).end('http'))
  const byFetch = (url) => fetch(url + '/v1/traces', { method: 'POST', body: 'fetch' }).then((r) => r.headers.get('x-dry-run') ?? 'sent')
  const suppressed = (fn) => context.with(suppressTracing(context.active()), fn)
  const { COLLECTOR, OTHER } = process.env
  const out = await dryRun({}, async () => {
    const out = {}
    for (const [name, send] of Object.entries({ http: byHttp, fetch: byFetch })) {
      out[name] = {
        export: await suppressed(() => send(COLLECTOR)),
        notSuppressed: await send(COLLECTOR),
        elsewhere: await suppressed(() => send(OTHER)),
      }
    }
    return out
  })
  console.log('OUT ' + JSON.stringify(out))
`

describe('an export of telemetry inside a dry run', () => {
  it.each(['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'])(
    'passes when tracing is suppressed and the target is %s, and only then',
    async (variable) => {
      const finished = await runNode({
        register: true,
        source: SOURCE,
        env: { [variable]: collector.url, COLLECTOR: collector.url, OTHER: other.url },
      })
      const expected = { export: 'sent', notSuppressed: 'blocked', elsewhere: 'blocked' }
      expect(outputOf(finished)).toEqual({ http: expected, fetch: expected })
      expect(collector.log).toEqual(['POST /v1/traces http', 'POST /v1/traces fetch'])
      expect(other.log).toEqual([])
      // Nobody outside the house is told of the run.
      expect(collector.carriers.filter(({ flag, baggage }) => flag !== undefined || baggage !== undefined)).toEqual([])
    },
  )
})
