import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { requireTool } from '../support/tools.js'
import { metricNames, prometheusNames, ROOT, read, SELF_METRICS, yaml } from './files.js'

const FOLDER = join(ROOT, 'collector/prometheus')

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert?: string
      readonly expr: string
      readonly labels?: Readonly<Record<string, string>>
      readonly annotations?: Readonly<Record<string, string>>
    }[]
  }[]
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly { readonly alertname: string; readonly exp_alerts: unknown[] }[]
  }[]
}

const rules = yaml<Rules>('collector/prometheus/rules.yml').groups.flatMap((group) => group.rules)

/** Labels that transform/labels of the gateway makes, and those of a scrape and of the collector's own metrics. */
const LABELS = ['service', 'outcome', 'system', 'hook', 'confidence', 'marker', 'write', 'instance', 'job', 'exporter']

describe('the alert rules', () => {
  it.each([
    'collector/prometheus/rules.yml',
    'collector/prometheus/rules_test.yml',
    'dashboards/provisioning/alerting/drytrace.yaml',
  ])('%s asks only for metrics that exist', (file) => {
    const names = metricNames(read(file))
    expect(names.length).toBeGreaterThan(0)
    expect(names.filter((name) => ![...prometheusNames(), ...SELF_METRICS].includes(name))).toEqual([])
  })

  it('group and select by labels that the gateway makes', () => {
    const used = rules.flatMap(({ expr }) => [
      ...[...expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap((match) => match[1]!.split(/,\s*/)),
      ...[...expr.matchAll(/([a-z_]+)(?:=~|!=|!~|=)"/g)].map((match) => match[1]!),
    ])
    expect(used.filter((label) => label !== '' && !LABELS.includes(label))).toEqual([])
    const made = read('collector/gateway.yaml').match(/datapoint\.attributes\["([a-z]+)"\]/g) ?? []
    for (const label of LABELS.slice(0, 7)) expect(made).toContain(`datapoint.attributes["${label}"]`)
  })

  it('fire in at least one test each, and every page says what happened', () => {
    const tested = yaml<RuleTests>('collector/prometheus/rules_test.yml')
      .tests.flatMap((test) => test.alert_rule_test ?? [])
      .filter((test) => test.exp_alerts.length > 0)
      .map((test) => test.alertname)
    const alerts = rules.filter((rule) => rule.alert !== undefined)
    expect(alerts.map((rule) => rule.alert).filter((name) => !tested.includes(name!))).toEqual([])
    for (const alert of alerts) {
      expect(alert.labels?.['severity'], alert.alert).toMatch(/^(page|ticket|info|none)$/)
      expect(alert.annotations?.['summary'], alert.alert).toBeTruthy()
    }
  })

  it('point to chapters of the README that are there', () => {
    const headings = (read('collector/README.md').match(/^#+ .*$/gm) ?? []).map((heading) =>
      heading
        .replace(/^#+ /, '')
        .toLowerCase()
        .replace(/[^a-z0-9 -]/g, '')
        .replaceAll(' ', '-'),
    )
    for (const { annotations } of rules) {
      const runbook = annotations?.['runbook']
      if (runbook !== undefined) expect(headings).toContain(runbook.split('#')[1])
    }
  })

  it('are the same in Grafana where they exist twice', () => {
    const inGrafana = read('dashboards/provisioning/alerting/drytrace.yaml')
    expect(inGrafana).toContain('title: DryRunUnblockedWrite')
    for (const half of ['[5m])) > 0', 'unless dry_run_unblocked_writes_total offset 5m) > 0']) {
      expect(inGrafana).toContain(half)
      expect(rules.find((rule) => rule.alert === 'DryRunUnblockedWrite')?.expr).toContain(half)
    }
  })
})

const promtool = requireTool('promtool')
const amtool = requireTool('amtool')

function run(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, { cwd: FOLDER, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

describe.skipIf(promtool === undefined)(`promtool${promtool ? '' : ' (skipped: promtool is not on PATH)'}`, () => {
  it('accepts the rules and the configuration of Prometheus', () => {
    expect(run(promtool!, 'check', 'rules', 'rules.yml')).toContain('SUCCESS')
    expect(run(promtool!, 'check', 'config', 'prometheus.yml')).toContain('is valid prometheus config file')
  })

  it('sees every alert fire when it must and only then', () => {
    expect(run(promtool!, 'test', 'rules', 'rules_test.yml')).toContain('SUCCESS')
  })
})

describe.skipIf(amtool === undefined)(`amtool${amtool ? '' : ' (skipped: amtool is not on PATH)'}`, () => {
  it('accepts the configuration of Alertmanager', () => {
    expect(run(amtool!, 'check-config', 'alertmanager.yml')).toContain('SUCCESS')
  })

  it.each([
    ['page', 'page'],
    ['ticket', 'ticket'],
    ['info', 'default'],
    ['none', 'deadman'],
  ])('routes severity %s to the receiver %s', (severity, receiver) => {
    const routed = run(amtool!, 'config', 'routes', 'test', '--config.file=alertmanager.yml', `severity=${severity}`)
    expect(routed.trim()).toBe(receiver)
  })
})
