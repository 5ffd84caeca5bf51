import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT, read, yaml } from './files.js'

interface Service {
  readonly image: string
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly volumes?: readonly string[]
  readonly ports?: readonly string[]
  readonly depends_on?: readonly string[]
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const compose = yaml<Compose>('docker-compose.yml')
const services = Object.entries(compose.services)

/** Bind mounts of a service: what is where. */
function mounts(service: Service): { source: string; target: string; mode: string | undefined }[] {
  return (service.volumes ?? [])
    .map((volume) => volume.split(':'))
    .filter(([source]) => source?.startsWith('.'))
    .map(([source, target, mode]) => ({ source: source!, target: target!, mode }))
}

describe('docker-compose.yml', () => {
  it.each(services)('%s is pinned to a version', (_name, { image }) => {
    expect(image).toMatch(/:v?\d+\.\d+\.\d+$/)
  })

  it.each(services)('%s publishes its ports to this machine only', (_name, { ports = [] }) => {
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/)
  })

  it('publishes no port twice, and those that the instructions name', () => {
    const published = services.flatMap(([, { ports = [] }]) => ports.map((port) => port.split(':')[1]))
    expect(new Set(published).size).toBe(published.length)
    expect(published).toEqual(expect.arrayContaining(['4317', '4318', '16686', '3000', '9090', '9093']))
  })

  it.each(services)('%s mounts only files that are here, and read-only', (_name, service) => {
    for (const { source, mode } of mounts(service)) {
      expect(existsSync(join(ROOT, source)), source).toBe(true)
      expect(mode, source).toBe('ro')
    }
  })

  it.each(services)('%s uses only volumes and services that are defined', (_name, service) => {
    const named = (service.volumes ?? [])
      .map((volume) => volume.split(':')[0]!)
      .filter((source) => !source.startsWith('.'))
    for (const volume of named) expect(Object.keys(compose.volumes)).toContain(volume)
    for (const other of service.depends_on ?? []) expect(Object.keys(compose.services)).toContain(other)
  })

  it.each(services)('%s finds every file its command and its variables name where it is mounted', (_name, service) => {
    const targets = mounts(service).map(({ target }) => target)
    const named = [...(service.command ?? []), ...Object.values(service.environment ?? {})]
      .map((text) => /(?:^|=)(\/etc\/\S+)$/.exec(text)?.[1])
      .filter((path) => path !== undefined)
    for (const path of named) expect(targets).toContain(path)
  })

  it('gives each program what its mounted configuration asks for', () => {
    const targets = (name: string) => mounts(compose.services[name]!).map(({ target }) => target)
    for (const path of read('collector/jaeger/config.yaml').match(/\/etc\/\S+\.json/g) ?? []) {
      expect(targets('jaeger')).toContain(path)
    }
    for (const file of yaml<{ rule_files: string[] }>('collector/prometheus/prometheus.yml').rule_files) {
      expect(targets('prometheus')).toContain(`/etc/prometheus/${file}`)
    }
    for (const file of ['drytrace-runs.json', 'drytrace-run.json']) {
      expect(targets('grafana')).toContain(`/etc/drytrace/dashboards/${file}`)
      expect(statSync(join(ROOT, 'dashboards', file)).isFile()).toBe(true)
    }
    expect(read('dashboards/provisioning/dashboards/drytrace.yaml')).toContain('path: /etc/drytrace/dashboards')
  })

  it('calls the services by the names and ports that the configurations use', () => {
    const hosts = [
      ...(read('collector/prometheus/prometheus.yml').match(/(?<=targets: \[")[^"]+/g) ?? []),
      ...(read('dashboards/provisioning/datasources/drytrace.yaml').match(/(?<=url: http:\/\/)\S+/g) ?? []),
      compose.services['gateway']!.environment!['DRYTRACE_JAEGER']!,
    ]
    expect(hosts.length).toBeGreaterThanOrEqual(8)
    for (const host of hosts) expect(Object.keys(compose.services)).toContain(host.split(':')[0])
    const gateway = compose.services['gateway']!.environment!
    const scraped = hosts.filter((host) => host.startsWith('gateway:')).map((host) => host.split(':')[1])
    expect(scraped).toEqual(
      [gateway['DRYTRACE_PROM'], gateway['DRYTRACE_PROM_GUARDS']]
        .map((address) => address!.split(':')[1])
        .concat('8888'),
    )
  })

  it('sets only variables that the gateway reads, with a key long enough for the hashes', () => {
    const known = read('collector/gateway.yaml').match(/(?<=\$\{env:)[A-Z_]+/g)
    const { environment = {} } = compose.services['gateway']!
    for (const name of Object.keys(environment)) expect(known).toContain(name)
    expect(/:-(.*)\}$/.exec(environment['DRYTRACE_REDACTION_KEY']!)?.[1]?.length).toBeGreaterThanOrEqual(32)
  })

  it('runs the collector in the version that the builder manifest names', () => {
    const { dist } = yaml<{ dist: { version: string } }>('collector/otelcol-builder.yaml')
    expect(compose.services['gateway']!.image).toMatch(new RegExp(`:${dist.version.replaceAll('.', '\\.')}$`))
  })
})
