import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { ROOT, scratchDirectory } from '../../support/child.js'
import { type HttpWorld, startHttpWorld } from '../../support/http-world.js'
import { readEffects, readRecords } from '../../support/journal.js'
import { type Service, startService } from '../../support/service.js'
import { readSpans } from '../../support/spans.js'
import { type Connection, connectTo } from './connection.js'
import { FRAMEWORKS, type Framework, ROUTES } from './services.js'

const PRELOAD = path.join(ROOT, 'test/support/otel-preload.mjs')

/** What OpenTelemetry's own HTTP server instrumentation is, if it is there at all. */
const TELEMETRY = {
  absent: {},
  on: { after: [PRELOAD] },
  'on, loaded first': { before: [PRELOAD] },
  'switched off': { after: [PRELOAD], env: { OTEL_HTTP_INGRESS: 'off' } },
  'ignoring the route': { after: [PRELOAD], env: { OTEL_HTTP_INGRESS: 'ignore' } },
} as const

let peer: HttpWorld

beforeAll(async () => {
  peer = await startHttpWorld()
})
afterAll(() => peer.stop())
beforeEach(() => {
  peer.log.length = 0
})

interface Sent {
  readonly route: string
  readonly tag: string
  readonly dry: boolean
}

/** Dry and live requests of every route, neither strictly alternating nor in blocks. */
const REQUESTS: readonly Sent[] = Array.from({ length: 16 }, (_, index) => {
  const dry = [0, 1, 1, 0, 1, 0, 0, 1][index % 8] === 1
  const route = Object.keys(ROUTES)[(index + (index >> 3)) % 4] as string
  return { route, dry, tag: `${dry ? 'dry' : 'live'}-${index}` }
})

function placesOf(framework: Framework, { route }: Sent): string[] {
  return ['middleware', ...(framework.routes?.[route] ?? ROUTES[route] ?? [])]
}

describe.each(Object.entries(FRAMEWORKS))('%s', (_, framework) => {
  it.each(Object.keys(TELEMETRY) as (keyof typeof TELEMETRY)[])(
    'dry requests are dry to their last write, live ones beside them on one connection write as ever; OpenTelemetry %s',
    async (telemetry) => {
      const { service, spans } = await start(framework, telemetry)
      const connection = connectTo(service.url, framework.protocol)
      try {
        const replies = await Promise.all(REQUESTS.map((request) => send(connection, request)))
        expect(connection.sockets()).toBe(1)
        for (const [index, { route, dry, tag }] of REQUESTS.entries()) {
          const { status, flag, body } = replies[index] ?? {}
          expect({ tag, status, flag }).toEqual({
            tag,
            status: route === '/error' ? 500 : 200,
            flag: dry ? `1:run-${tag}` : undefined,
          })
          if (route === '/stream') expect(body).toHaveLength(560_000)
          else expect({ tag, ...JSON.parse(body ?? '') }).toMatchObject({ tag, dry })
        }
        await expectWrites(framework, service)
        if (telemetry === 'on' && framework.protocol === 'http1') expect(spans()).toContain(1)
      } finally {
        connection.close()
        await service.stop()
      }
    },
  )

  it('refuses a flag it cannot trust, and its handlers never run', async () => {
    const { service } = await start(framework, 'absent')
    const connection = connectTo(service.url, framework.protocol)
    try {
      const refused = await connection.post(
        '/places',
        { 'x-tag': 'refused', 'x-dry-run': '1:refused', 'x-forwarded-for': '203.0.113.9' },
        'x',
      )
      expect(refused).toMatchObject({ status: 403, flag: 'refused' })
      const live = { route: '/parsed', tag: 'live', dry: false }
      await send(connection, live)
      await vi.waitFor(() => expect(peer.log).toHaveLength(2))
      expect([...peer.log].sort()).toEqual(expected(framework, [live]))
      expect(readRecords(service.journal)).toEqual([])
    } finally {
      connection.close()
      await service.stop()
    }
  })
})

async function start(framework: Framework, telemetry: keyof typeof TELEMETRY) {
  const file = path.join(scratchDirectory(), 'spans.jsonl')
  const options: { before?: readonly string[]; after?: readonly string[]; env?: Record<string, string> } =
    TELEMETRY[telemetry]
  const service = await startService({
    source: framework.source,
    ...options,
    env: { PEER: peer.url, PROTOCOL: framework.protocol, SPANS_FILE: file, ...options.env },
  })
  return { service, spans: () => readSpans(file).map(({ kind }) => kind) }
}

function send(connection: Connection, { route, tag, dry }: Sent) {
  const parsed = route === '/parsed'
  const filler = 'x'.repeat(200_000)
  // A body that nobody reads would take the window of the whole session.
  const body = parsed ? JSON.stringify({ filler }) : route === '/places' ? filler : undefined
  return connection.post(
    route,
    {
      'content-type': parsed ? 'application/json' : 'application/octet-stream',
      'x-tag': tag,
      ...(dry ? { 'x-dry-run': `1:run-${tag}` } : {}),
    },
    body,
  )
}

function expected(framework: Framework, requests: readonly Sent[]): string[] {
  return requests
    .flatMap((request) => placesOf(framework, request).map((place) => `POST /${request.tag}/${place} {}`))
    .sort()
}

/** The upstream has seen every write of the live requests and no other; the journal has the others, blocked. */
async function expectWrites(framework: Framework, service: Service): Promise<void> {
  const of = (dry: boolean) =>
    expected(
      framework,
      REQUESTS.filter((request) => request.dry === dry),
    )
  const arrived = () => [...peer.log].sort()
  const recorded = () =>
    readEffects(service.journal)
      .map(({ target }) => `POST ${target.slice(target.indexOf('/'))} {}`)
      .sort()
  await vi.waitFor(
    () => {
      expect(arrived()).toEqual(of(false))
      expect(recorded()).toEqual(of(true))
    },
    { timeout: 10_000 },
  )
  for (const { runId, target, outcome } of readEffects(service.journal)) {
    expect(outcome).toBe('blocked')
    expect(target).toContain(`/${runId.slice('run-'.length)}/`)
  }
  // Whatever it still had under way.
  await service.stop()
  expect(arrived()).toEqual(of(false))
}
