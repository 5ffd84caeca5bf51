import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { DryTraceError } from '../../src/errors.js'
import type * as Drytrace from '../../src/index.js'
import { parsePolicy } from '../../src/policy/parse.js'
import { INDEX_URL, scratchTree } from '../support/scratch.js'

interface Row {
  readonly name: string
  readonly text: string
  /** Every problem, in order: line and a part of the words. */
  readonly problems: readonly (readonly [line: number, words: string])[]
}

const rule = (text: string) => `version: 1\nrules:\n  - ${text}\n`

const ROWS: readonly Row[] = [
  { name: 'not YAML', text: 'version: 1\nrules: [\n', problems: [[3, 'not valid YAML']] },
  { name: 'a key twice', text: 'version: 1\nversion: 1\n', problems: [[2, 'not valid YAML']] },
  { name: 'no version', text: 'onBlocked: throw\n', problems: [[1, 'version: ']] },
  { name: 'another version', text: 'version: 2\n', problems: [[1, 'version: ']] },
  { name: 'an empty file', text: '', problems: [[1, '']] },
  { name: 'a list', text: '- version: 1\n', problems: [[1, '']] },
  {
    name: 'an unknown field',
    text: 'version: 1\n\ntimeout: 5\n',
    problems: [[3, 'timeout: unknown field; remove it or check its spelling']],
  },
  {
    name: 'an unknown field of a rule',
    text: rule('{name: a, match: {system: pg}, verdict: block, until: 2030}'),
    problems: [[3, 'rule "a": rules.0.until: unknown field']],
  },
  {
    name: 'an unknown match field',
    text: 'version: 1\nrules:\n  - name: a\n    match:\n      system: http\n      hsot: x\n      host: y\n    verdict: block\n',
    problems: [[6, 'rule "a": rules.0.match.hsot: unknown field']],
  },
  {
    name: 'an http rule without a host',
    text: 'version: 1\nrules:\n  - name: wide\n    match: {system: http, method: POST}\n    effect: read\n',
    problems: [[4, 'rule "wide": rules.0.match.host: host is required for http rules']],
  },
  {
    name: 'loopback where there is no queue',
    text: rule('{name: loop, match: {system: http, host: crm.example}, verdict: loopback}'),
    problems: [[3, 'rule "loop": rules.0.verdict: loopback is for queues']],
  },
  {
    name: 'an http rule by alternatives, without a host',
    text: rule('{name: wide, match: {system: "http|smtp"}, effect: read}'),
    problems: [[3, 'host is required for http rules']],
  },
  {
    name: 'an http rule by glob, without a host',
    text: rule('{name: wide, match: {system: "ht*"}, effect: read}'),
    problems: [[3, 'host is required for http rules']],
  },
  {
    name: 'a rule for any client by method, without a host',
    text: rule('{name: wide, match: {method: POST}, verdict: block}'),
    problems: [[3, 'host is required for http rules']],
  },
  {
    name: 'a rule for any action, without a host',
    text: rule('{name: wide, match: {action: create}, effect: read}'),
    problems: [[3, 'host is required for http rules']],
  },
  {
    name: 'allow on a write with nobody behind it',
    text: rule('{name: free, match: {system: smtp}, verdict: allow}'),
    problems: [
      [3, 'rule "free": rules.0.owner: allow on a write needs owner, reason and expires: add owner'],
      [3, 'add reason'],
      [3, 'add expires'],
    ],
  },
  {
    name: 'a date that is none',
    text: rule('{name: a, match: {system: smtp}, verdict: allow, owner: o, reason: r, expires: soon}'),
    problems: [[3, 'rule "a": rules.0.expires: ']],
  },
  ...['2027-02-30', '2027-13-01', '2026-00-10'].map((date) => ({
    name: `a day no calendar has: ${date}`,
    text: rule(`{name: a, match: {system: smtp}, verdict: allow, owner: o, reason: r, expires: ${date}}`),
    problems: [[3, 'rule "a": rules.0.expires: ']] as const,
  })),
  {
    name: 'a rule that says nothing',
    text: rule('{name: a, match: {system: smtp}, owner: o}'),
    problems: [[3, 'a rule needs one of verdict, effect, respond, onBlocked']],
  },
  {
    name: 'a match that matches all',
    text: rule('{name: a, match: {}, verdict: block}'),
    problems: [[3, 'match needs at least one field']],
  },
  {
    name: 'a rule without a name',
    text: rule('{match: {system: pg}, verdict: block}'),
    problems: [[3, 'rule number 1: rules.0.name: ']],
  },
  {
    name: 'a name twice',
    text: 'version: 1\nrules:\n  - {name: a, match: {system: pg}, verdict: block}\n  - {name: a, match: {system: smtp}, verdict: block}\n',
    problems: [[4, 'rule "a": the name is taken by an earlier rule']],
  },
  {
    name: 'two answers',
    text: rule('{name: a, match: {system: http, host: x}, respond: {json: {}, text: x}}'),
    problems: [[3, 'json and text exclude each other']],
  },
  {
    name: 'an answer for what is let through',
    text: rule('{name: a, match: {system: http, host: x}, verdict: allow, effect: read, respond: {status: 200}}'),
    problems: [[3, 'allow and respond exclude each other']],
  },
  {
    name: 'a validation nobody knows',
    text: rule('{name: a, match: {system: http, host: x}, validate: mailgun, owner: o, reason: r}'),
    problems: [[3, 'rule "a": rules.0.validate: Invalid option: expected one of "sendgrid"|"aws-ec2"|"kubernetes"']],
  },
  {
    name: 'a validation with nobody behind it',
    text: rule('{name: a, match: {system: http, host: x}, validate: sendgrid}'),
    problems: [
      [3, 'rule "a": rules.0.owner: validate sends something, so it needs owner and reason: add owner'],
      [3, 'rule "a": rules.0.reason: validate sends something, so it needs owner and reason: add reason'],
    ],
  },
  {
    name: 'a validation of what passes anyway, and of a client that has no HTTP',
    text: rule(
      '{name: a, match: {system: smtp}, validate: sendgrid, effect: read, verdict: block, owner: o, reason: r}',
    ),
    problems: [
      [3, 'rule "a": rules.0.verdict: validate and verdict exclude each other'],
      [3, 'rule "a": rules.0.effect: validate and effect exclude each other'],
      [3, 'rule "a": rules.0.validate: validate is for HTTP requests: match {system: http}'],
    ],
  },
  {
    name: 'a validation without a host',
    text: rule('{name: a, match: {system: http}, validate: sendgrid, owner: o, reason: r}'),
    problems: [[3, 'rule "a": rules.0.match.host: host is required for http rules']],
  },
  {
    name: 'a validation by whoever answers as an API server',
    text: rule('{name: a, match: {system: http, host: "*.internal"}, validate: kubernetes, owner: o, reason: r}'),
    problems: [[3, 'rule "a": rules.0.match.host: name the API server: kubernetes is not validated by a host with *']],
  },
  {
    name: 'a built-in rule that does not exist',
    text: 'version: 1\ndisable: [llm.nobody]\n',
    problems: [[2, 'llm.nobody']],
  },
]

// As built: the parser is loaded when it is needed, by its place beside the module that asks for it.
const { loadPolicy } = (await import(/* @vite-ignore */ INDEX_URL)) as typeof Drytrace

describe('an invalid policy', () => {
  it.each(ROWS)('is refused with file, line and rule: $name', ({ text, problems }) => {
    const error = caught(() => parsePolicy(text, '/etc/policy.yaml'))
    expect(error.code).toBe('DRY_POLICY_INVALID')
    const found = error.details['problems'] as string[]
    expect(error.message).toBe(found.join('\n'))
    expect(found).toEqual(
      problems.map(([line, words]) =>
        expect.stringMatching(new RegExp(`^/etc/policy\\.yaml:${line}: .*${quote(words)}`)),
      ),
    )
  })

  it('is refused as JSON too, with its line', () => {
    const file = path.join(
      scratchTree({ 'policy.json': '{\n  "version": 1,\n  "budget": {\n    "writes": -1\n  }\n}' }),
      'policy.json',
    )
    expect(caught(() => loadPolicy(file)).message).toMatch(/policy\.json:4: budget\.writes: /)
  })

  it('that is not there is refused, not replaced by the default', () => {
    expect(caught(() => loadPolicy('/nowhere/policy.yaml')).message).toContain('/nowhere/policy.yaml: cannot be read')
  })
})

function caught(fn: () => unknown): DryTraceError {
  try {
    fn()
  } catch (error) {
    expect(error).toBeInstanceOf(DryTraceError)
    return error as DryTraceError
  }
  throw new Error('it was accepted')
}

function quote(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
