import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { files } from '../../dashboards/src/all.js'
import type { Dashboard, Panel, Target } from '../../dashboards/src/schema.js'
import {
  COLLECTOR_ATTRIBUTES,
  dottedNames,
  filesIn,
  GUARD_ATTRIBUTES,
  metricNames,
  prometheusNames,
  ROOT,
  read,
  SELF_METRICS,
  yaml,
} from '../collector/files.js'
import { requireTool } from '../support/tools.js'

interface PlacedPanel extends Panel {
  readonly description?: string
  readonly datasource?: { readonly type: string; readonly uid: string }
  readonly targets?: readonly Target[]
  readonly panels?: readonly PlacedPanel[]
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } }
  readonly repeat?: string
}

const names = [...files().keys()]

function board(file: string): Dashboard {
  return JSON.parse(read(`dashboards/${file}`)) as Dashboard
}

function panels(file: string): PlacedPanel[] {
  return (board(file).panels as readonly PlacedPanel[]).flatMap((panel) => [panel, ...(panel.panels ?? [])])
}

function expressions(file: string): { title: string; expr: string }[] {
  return panels(file).flatMap((panel) =>
    (panel.targets ?? []).flatMap((target) => ('expr' in target ? [{ title: panel.title, expr: target.expr }] : [])),
  )
}

describe('the files of dashboards/', () => {
  it('are what the sources make: else run `node dashboards/build.mjs`', () => {
    expect(
      readdirSync(join(ROOT, 'dashboards'))
        .filter((file) => file.endsWith('.json'))
        .sort(),
    ).toEqual([...names].sort())
    for (const [file, json] of files()) expect(read(`dashboards/${file}`)).toBe(json)
  })

  it.each(filesIn('dashboards').filter((file) => file.endsWith('.yaml')))(
    '%s is YAML without repeated keys',
    (file) => {
      expect(yaml(file)).toBeTypeOf('object')
    },
  )

  it('have one uid each', () => {
    expect(names.map((file) => board(file).uid)).toEqual(['drytrace-runs', 'drytrace-run'])
  })
})

describe.each(names)('%s', (file) => {
  it('says of every panel what it is, what it means and in which unit', () => {
    const real = panels(file).filter((panel) => panel.type !== 'row')
    expect(real.length).toBeGreaterThan(5)
    for (const panel of real) {
      expect(panel.title, `panel ${panel.id}`).not.toBe('')
      expect(panel.description?.length, panel.title).toBeGreaterThan(20)
      expect(panel.fieldConfig?.defaults.unit, panel.title).toBeTruthy()
    }
  })

  it('places panels without overlap, and numbers them once', () => {
    const all = panels(file)
    expect(new Set(all.map((panel) => panel.id)).size).toBe(all.length)
    const taken = new Set<string>()
    for (const { gridPos, title } of board(file).panels as readonly PlacedPanel[]) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken.has(`${x},${y}`), `${title} at ${x},${y}`).toBe(false)
          expect(x).toBeLessThan(24)
          taken.add(`${x},${y}`)
        }
      }
    }
  })

  it('asks only data sources that are provisioned', () => {
    const { datasources } = yaml<{ datasources: { uid: string; type: string }[] }>(
      'dashboards/provisioning/datasources/drytrace.yaml',
    )
    for (const panel of panels(file).filter((each) => each.targets)) {
      for (const { datasource } of panel.targets!) {
        expect(datasources, panel.title).toContainEqual(expect.objectContaining(datasource))
        expect(panel.datasource, panel.title).toEqual(datasource)
      }
    }
  })

  it('names only attributes and metrics that somebody sets', () => {
    const text = JSON.stringify(board(file))
    expect(dottedNames(text).filter((name) => ![...GUARD_ATTRIBUTES, ...COLLECTOR_ATTRIBUTES].includes(name))).toEqual(
      [],
    )
    expect(metricNames(text).filter((name) => ![...prometheusNames(), ...SELF_METRICS].includes(name))).toEqual([])
  })

  it('refers only to variables it has, and links only to dashboards there are', () => {
    const text = JSON.stringify(board(file))
    const own = board(file).templating.list.map(({ name }) => name)
    const used = [...text.matchAll(/\$\{?([a-z][a-z_]*)\}?/g)]
      .map((match) => match[1]!)
      .filter((name) => !name.startsWith('__'))
    expect([...new Set(used)].filter((name) => !own.includes(name))).toEqual([])
    for (const panel of panels(file)) if (panel.repeat) expect(own).toContain(panel.repeat)
    const uids = names.map((name) => board(name).uid)
    for (const match of text.matchAll(/\/d\/([\w-]+)/g)) expect(uids).toContain(match[1])
  })
})

describe('links from other places', () => {
  it('Jaeger leads to dashboards and variables there are', () => {
    const links = [...read('collector/jaeger/ui.json').matchAll(/\/d\/([\w-]+)(?:\?var-([a-z]+)=)?/g)]
    expect(links.length).toBeGreaterThanOrEqual(3)
    for (const [, uid, variable] of links) {
      expect(names).toContain(`${uid}.json`)
      if (variable) expect(board(`${uid}.json`).templating.list.map(({ name }) => name)).toContain(variable)
    }
  })

  it('the Grafana alert leads to the panel with the same number', () => {
    const rule = yaml<{ groups: { rules: { dashboardUid: string; panelId: number }[] }[] }>(
      'dashboards/provisioning/alerting/drytrace.yaml',
    ).groups[0]!.rules[0]!
    const panel = panels(`${rule.dashboardUid}.json`).find(({ id }) => id === rule.panelId)
    expect(panel?.title).toBe('Un-blocked writes')
  })
})

const promtool = requireTool('promtool')

describe.skipIf(promtool === undefined)(`in PromQL${promtool ? '' : ' (skipped: promtool is not on PATH)'}`, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'drytrace-dashboards-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const expr = (title: string): string =>
    substituted(expressions('drytrace-runs.json').find((each) => each.title === title)!.expr)
  const substituted = (text: string) => text.replaceAll('$__range', '600s').replaceAll('$__rate_interval', '60s')
  const promql = (...args: string[]) => execFileSync(promtool!, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })

  it.each(names)('every expression of %s parses', (file) => {
    const rules = expressions(file).map(({ expr: text }, index) => ({
      record: `panel:${index}`,
      expr: substituted(text),
    }))
    writeFileSync(join(folder, 'rules.yml'), stringify({ groups: [{ name: 'panels', rules }] }))
    expect(promql('check', 'rules', 'rules.yml')).toContain(`${rules.length} rules found`)
  })

  /** What promtool computes for an expression 15 minutes after the start, over these series (one sample each 15 s). */
  function test(
    name: string,
    series: Record<string, string>,
    expected: Record<string, [labels: string, value: number][]>,
  ): void {
    const tests = [
      {
        name,
        interval: '15s',
        input_series: Object.entries(series).map(([key, values]) => ({ series: key, values })),
        promql_expr_test: Object.entries(expected).map(([title, samples]) => ({
          expr: expr(title),
          eval_time: '15m',
          exp_samples: samples.map(([labels, value]) => ({ labels, value })),
        })),
      },
    ]
    writeFileSync(join(folder, 'empty.yml'), stringify({ groups: [] }))
    writeFileSync(join(folder, 'test.yml'), stringify({ rule_files: ['empty.yml'], evaluation_interval: '15s', tests }))
    expect(promql('test', 'rules', 'test.yml')).toContain('SUCCESS')
  }

  const up = { 'up{job="drytrace-gateway",instance="gw"}': '1x80' }

  it('the very first un-blocked write is on the board, the canary’s are not', () => {
    test(
      'first write',
      {
        ...up,
        'dry_run_unblocked_writes_total{service="py",system="postgresql",instance="gw"}': '_x40 1x40',
        'dry_run_unblocked_writes_total{service="drytrace-canary",system="http",instance="gw"}': '1+1x80',
      },
      { 'Un-blocked writes': [['{}', 1]] },
    )
  })

  it('says 0 while a gateway counts, and nothing at all when none does', () => {
    test('counting', up, { 'Un-blocked writes': [['{}', 0]], 'Writes that lost the flag': [['{}', 0]] })
    test(
      'silent',
      { 'up{job="drytrace-gateway",instance="gw"}': '0x80' },
      { 'Un-blocked writes': [], 'Writes that lost the flag': [] },
    )
    test('absent', {}, { 'Un-blocked writes': [] })
  })

  it('adds up old and new series of writes', () => {
    test(
      'writes',
      {
        'dry_run_writes_total{service="a",system="postgresql",outcome="blocked",instance="gw"}': '5x40 7x40',
        'dry_run_writes_total{service="a",system="http",outcome="forwarded",instance="gw"}': '_x40 1x40',
        'dry_run_writes_total{service="drytrace-canary",system="http",outcome="unblocked",instance="gw"}': '1+1x80',
      },
      {
        'Writes by service': [['{service="a"}', 3]],
        'Writes by system and outcome': [
          ['{outcome="blocked", system="postgresql"}', 2],
          ['{outcome="forwarded", system="http"}', 1],
        ],
      },
    )
  })
})
