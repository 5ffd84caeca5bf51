import { describe, expect, it } from 'vitest'
import { TRACESTATE_KEY } from '../../src/semconv.js'
import {
  COLLECTOR_ATTRIBUTES,
  dottedNames,
  filesIn,
  GUARD_ATTRIBUTES,
  GUARD_METRICS,
  read,
  spanMetrics,
  yaml,
} from './files.js'

interface Config {
  readonly service: {
    readonly extensions?: readonly string[]
    readonly pipelines: Readonly<Record<string, Partial<Record<Kind, readonly string[]>>>>
  }
  readonly [section: string]: unknown
}

type Kind = 'receivers' | 'processors' | 'exporters'

interface Manifest {
  readonly [section: string]: readonly { readonly gomod: string }[]
}

const COLLECTORS = ['collector/agent.yaml', 'collector/gateway.yaml']
const SECTIONS = ['extensions', 'receivers', 'processors', 'connectors', 'exporters'] as const

/** Folder names of the modules, where they are not the type without underscores plus the section. */
const MODULES: Readonly<Record<string, string>> = {
  'exporters/otlp_grpc': 'otlpexporter',
  'extensions/file_storage': 'filestorage',
}

function keys(config: Config, section: string): string[] {
  return Object.keys((config[section] ?? {}) as Record<string, unknown>)
}

function moduleOf(section: string, id: string): string {
  const type = id.split('/')[0]!
  return MODULES[`${section}/${type}`] ?? `${type.replaceAll('_', '')}${section.slice(0, -1)}`
}

describe('the files of collector/', () => {
  const files = filesIn('collector')

  it.each(files.filter((file) => /\.ya?ml$/.test(file)))('%s is YAML without repeated keys', (file) => {
    expect(yaml(file)).toBeTypeOf('object')
  })

  it.each(files.filter((file) => file.endsWith('.json')))('%s is JSON', (file) => {
    expect(JSON.parse(read(file))).toBeTypeOf('object')
  })

  it.each(files)('%s names no attribute and no metric that nobody sets', (file) => {
    const known = [
      ...GUARD_ATTRIBUTES,
      ...COLLECTOR_ATTRIBUTES,
      ...GUARD_METRICS,
      ...spanMetrics().map(({ name }) => name),
    ]
    expect(dottedNames(read(file)).filter((name) => !known.includes(name))).toEqual([])
  })

  it.each([...COLLECTORS, 'collector/overlay-kafka.yaml'])(
    '%s uses only components that our own build contains',
    (file) => {
      const config = yaml<Config>(file)
      const manifest = yaml<Manifest>('collector/otelcol-builder.yaml')
      for (const section of SECTIONS) {
        const built = (manifest[section] ?? []).map(({ gomod }) => gomod.split(' ')[0]!.split('/').at(-1))
        for (const id of keys(config, section))
          expect(built, `${section} of the manifest`).toContain(moduleOf(section, id))
      }
    },
  )
})

describe.each(COLLECTORS)('%s', (file) => {
  const config = yaml<Config>(file)

  it('uses everything it defines, and defines everything it uses', () => {
    const { extensions = [], pipelines } = config.service
    const used = (kind: Kind) => Object.values(pipelines).flatMap((pipeline) => pipeline[kind] ?? [])
    const unique = (ids: readonly string[]) => [...new Set(ids)].sort()
    expect(unique(extensions)).toEqual(unique(keys(config, 'extensions')))
    expect(unique(used('processors'))).toEqual(unique(keys(config, 'processors')))
    const connectors = keys(config, 'connectors')
    expect(unique(used('receivers'))).toEqual(unique([...keys(config, 'receivers'), ...connectors]))
    expect(unique(used('exporters'))).toEqual(unique([...keys(config, 'exporters'), ...connectors]))
  })

  it('listens on loopback unless told otherwise', () => {
    const addresses = read(file).match(/(?<=:-)\d+\.\d+\.\d+\.\d+/g) ?? []
    expect(addresses.length).toBeGreaterThanOrEqual(3)
    expect(new Set(addresses)).toEqual(new Set(['127.0.0.1']))
    expect(read(file)).not.toContain('0.0.0.0')
  })
})

describe('collector/gateway.yaml', () => {
  const text = read('collector/gateway.yaml')

  it('reads the tracestate entry that the guard writes', () => {
    expect(text.match(/trace_state\["[^"]+"\]/g)).toEqual(expect.arrayContaining([`trace_state["${TRACESTATE_KEY}"]`]))
    expect(new Set(text.match(/trace_state\["[^"]+"\]/g))).toHaveLength(1)
  })

  it('counts with monotonic sums, which the prometheus exporter does not drop', () => {
    expect(
      spanMetrics()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['dry_run.flag_lost_spans', 'dry_run.spans', 'dry_run.unblocked_writes', 'dry_run.writes'])
    for (const metric of spanMetrics()) expect(metric.sum?.monotonic, metric.name).toBe(true)
  })

  it('lets nothing audited wait in memory: the audit pipeline has no sampler and no batch', () => {
    const processors = yaml<Config>('collector/gateway.yaml').service.pipelines['traces/audit']?.processors ?? []
    expect(processors).toContain('transform/classify')
    expect(processors.filter((id) => /^(tail_sampling|batch|group)/.test(id))).toEqual([])
  })
})
