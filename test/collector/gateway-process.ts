import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { ROOT } from './files.js'
import type { OtlpAttribute, OtlpSpan } from './otlp.js'

export interface StoredSpan {
  readonly name: string
  readonly service: string
  readonly attributes: Readonly<Record<string, string | number | boolean | undefined>>
}

/** A running collector with collector/gateway.yaml, on free loopback ports, storing into a folder of its own. */
export interface GatewayProcess {
  send(signal: 'traces' | 'metrics', body: unknown): Promise<void>
  /** Spans of dry runs: what the audit file holds. */
  audited(): StoredSpan[]
  /** Spans that were sampled as ordinary traces. */
  ordinary(): StoredSpan[]
  /** Prometheus text: counted from spans, sent by guards, said by the collector of itself. */
  metrics(of: 'detected' | 'guards' | 'self'): Promise<string>
  stop(): Promise<void>
}

/**
 * Starts the gateway. Only addresses and waits are changed, and ordinary
 * traces go to a file; there is no trace store behind it, so the audit queue
 * on disk is what takes the spans.
 */
export async function startGateway(binary: string): Promise<GatewayProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'drytrace-gateway-'))
  const [grpc, http, health, detected, guards, self, nowhere] = await freePorts(7)
  const local = (port: number | undefined) => `127.0.0.1:${port}`
  const overrides = {
    receivers: { otlp: { protocols: { grpc: { endpoint: local(grpc) }, http: { endpoint: local(http) } } } },
    processors: { 'tail_sampling/rest': { decision_wait: '1s', decision_wait_after_root_received: '1s' } },
    exporters: { 'file/ordinary': { path: join(folder, 'ordinary.jsonl'), flush_interval: '100ms' } },
    service: {
      telemetry: {
        metrics: { readers: [{ pull: { exporter: { prometheus: { host: '127.0.0.1', port: self } } } }] },
      },
      pipelines: { 'traces/rest': { exporters: ['file/ordinary'] } },
    },
  }
  writeFileSync(join(folder, 'overrides.yaml'), stringify(overrides))
  const child = spawn(
    binary,
    ['--config', join(ROOT, 'collector/gateway.yaml'), '--config', join(folder, 'overrides.yaml')],
    {
      env: {
        PATH: process.env['PATH'],
        DRYTRACE_HEALTH: local(health),
        DRYTRACE_PROM: local(detected),
        DRYTRACE_PROM_GUARDS: local(guards),
        DRYTRACE_JAEGER: local(nowhere),
        DRYTRACE_QUEUE_DIR: join(folder, 'queue'),
        DRYTRACE_AUDIT_FILE: join(folder, 'audit', 'dry-run.jsonl'),
        DRYTRACE_REDACTION_KEY: '0123456789abcdef0123456789abcdef',
        DRYTRACE_LOST_WAIT: '5s',
        DRYTRACE_LIVE_PERCENT: '100',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let log = ''
  child.stdout.on('data', (chunk) => (log += chunk))
  child.stderr.on('data', (chunk) => (log += chunk))
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`the collector ended with ${child.exitCode}:\n${log}`)
    return fetch(`http://${local(health)}`).then(
      (response) => response.ok,
      () => false,
    )
  })
  const ports = { detected, guards, self }
  return {
    async send(signal, body) {
      const response = await fetch(`http://${local(http)}/v1/${signal}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
    },
    audited: () => spansIn(join(folder, 'audit')),
    ordinary: () => spansIn(folder),
    metrics: async (of) => (await fetch(`http://${local(ports[of])}/metrics`)).text(),
    async stop() {
      await ended(child)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await exit
  clearTimeout(timer)
}

/** Polls until `condition` holds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('not within 30 seconds')
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

interface Line {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] }
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[]
  }[]
}

function spansIn(folder: string): StoredSpan[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.jsonl'))
    .flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .flatMap((line) => (JSON.parse(line) as Line).resourceSpans)
    .flatMap(({ resource, scopeSpans }) => {
      const service = String(plain(resource.attributes)['service.name'])
      return scopeSpans.flatMap(({ spans }) =>
        spans.map(({ name, attributes }) => ({ name, service, attributes: plain(attributes ?? []) })),
      )
    })
}

function plain(attributes: readonly OtlpAttribute[]): Record<string, string | number | boolean | undefined> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      value.stringValue ?? value.boolValue ?? (value.intValue === undefined ? undefined : Number(value.intValue)),
    ]),
  )
}
