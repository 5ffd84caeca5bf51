import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { DryTraceError } from '../../src/errors.js'
import type * as Drytrace from '../../src/index.js'
import { runNode } from '../support/child.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

// As built: what reads OpenAPI documents and modules is loaded when it is needed, by its place.
const { loadPolicy } = (await import(/* @vite-ignore */ INDEX_URL)) as typeof Drytrace

const rule = (respond: string, match = '{system: http, host: x}') =>
  `version: 1\nrules:\n  - name: r\n    match: ${match}\n    respond:\n      ${respond}\n`

function problemsOf(files: Record<string, string>, name = 'policy.yaml'): string[] {
  const directory = scratchTree(files)
  try {
    loadPolicy(path.join(directory, name))
  } catch (error) {
    expect(error).toBeInstanceOf(DryTraceError)
    expect(error).toMatchObject({ code: 'DRY_POLICY_INVALID' })
    expect((error as Error).message).toBe(((error as DryTraceError).details['problems'] as string[]).join('\n'))
    return (error as Error).message.replaceAll(`${directory}/`, '').split('\n')
  }
  throw new Error('it was accepted')
}

describe('an answer that cannot be given is refused at load, with file, line and rule', () => {
  const TEMPLATES = 'there are syntheticId, syntheticId.uuid, syntheticId.integer, now and request.<field>'
  it.each([
    [
      'json: {id: "{{syntheticId}}", a: [1, {b: "x {{ sintheticId }}"}]}',
      [`policy.yaml:6: rule "r": rules.0.respond.json.a.1.b: unknown template {{sintheticId}}: ${TEMPLATES}`],
    ],
    ['text: "{{}}"', [`policy.yaml:6: rule "r": rules.0.respond.text: unknown template {{}}: ${TEMPLATES}`]],
    [
      'text: "{{request}}"',
      [`policy.yaml:6: rule "r": rules.0.respond.text: unknown template {{request}}: ${TEMPLATES}`],
    ],
    [
      'headers: {location: "/{{id}}"}',
      [`policy.yaml:6: rule "r": rules.0.respond.headers.location: unknown template {{id}}: ${TEMPLATES}`],
    ],
    [
      'headers: {content-length: "3"}',
      ['policy.yaml:6: rule "r": rules.0.respond.headers.content-length: worked out from the body; remove it'],
    ],
    ['headers: {"a b": "3"}', ['policy.yaml:6: rule "r": rules.0.respond.headers.a b: not a header name']],
    [
      'headers: {a: "b\\nc"}',
      [
        'policy.yaml:6: rule "r": rules.0.respond.headers.a: a header value has no line breaks and no characters past Latin-1',
      ],
    ],
    [
      'file: ../nowhere.json',
      [
        expect.stringMatching(
          /^policy\.yaml:6: rule "r": rules\.0\.respond\.file: .*\/nowhere\.json cannot be read \(ENOENT: no such file or directory/,
        ),
      ],
    ],
    [
      'file: .',
      [expect.stringMatching(/^policy\.yaml:6: rule "r": rules\.0\.respond\.file: .* cannot be read \(not a file\)$/)],
    ],
    ['{file: a, json: {}}', ['policy.yaml:6: rule "r": rules.0.respond.file: json and file exclude each other']],
    [
      'openapi: nowhere.yaml',
      [
        expect.stringMatching(
          /^policy\.yaml:6: rule "r": rules\.0\.respond\.openapi: nowhere\.yaml cannot be read \(ENOENT/,
        ),
      ],
    ],
    [
      '{openapi: a, status: 200}',
      ['policy.yaml:6: rule "r": rules.0.respond.status: openapi brings the status of its own; remove this one'],
    ],
    ['status: 101', [expect.stringMatching(/^policy\.yaml:6: rule "r": rules\.0\.respond\.status: /)]],
    ['fil: a', ['policy.yaml:6: rule "r": rules.0.respond.fil: unknown field; remove it or check its spelling']],
  ])('%s', (respond, expected) => {
    expect(problemsOf({ 'policy.yaml': rule(respond) })).toEqual(expected)
  })

  it('a file for a client that has no HTTP', () => {
    expect(problemsOf({ 'policy.yaml': rule('file: policy.yaml', '{system: smtp}') })).toEqual([
      'policy.yaml:6: rule "r": rules.0.respond.file: file answers HTTP requests: system must be http',
    ])
  })

  it('a file larger than what is kept in memory', () => {
    expect(problemsOf({ 'policy.yaml': rule('file: big'), big: 'x'.repeat(8 * 1024 * 1024 + 1) })[0]).toMatch(
      /^policy\.yaml:6: rule "r": rules\.0\.respond\.file: big cannot be read \(8388609 bytes; at most 8388608 are served\)$/,
    )
  })
})

it('another content of a file is another policy', () => {
  const hashOf = (content: string) =>
    loadPolicy(path.join(scratchTree({ 'policy.yaml': rule('file: a.txt'), 'a.txt': content }), 'policy.yaml')).hash
  expect(hashOf('a')).toBe(hashOf('a'))
  expect(hashOf('a')).not.toBe(hashOf('b'))
})

describe('a policy module', () => {
  const module = (body: string) => ({ 'drytrace.config.mjs': body })
  const problems = (body: string) => problemsOf(module(body), 'drytrace.config.mjs')

  it('is found and loaded like the others', async () => {
    const cwd = scratchTree(
      module(
        `import { host } from './host.mjs'\nexport default { version: 1, rules: [{ name: 'a', match: { system: 'http', host }, respond: () => ({}) }] }\n`,
      ),
    )
    const other = scratchTree({ 'host.mjs': `export const host = 'crm.example'\n` })
    const { code, stdout } = await runNode({
      cwd,
      source: `import { loadPolicy } from ${JSON.stringify(INDEX_URL)}
        import { copyFileSync } from 'node:fs'
        copyFileSync(${JSON.stringify(`${other}/host.mjs`)}, 'host.mjs')
        const { file, rules } = loadPolicy()
        console.log('OUT ' + JSON.stringify([file, rules]))`,
    })
    expect(code).toBe(0)
    expect(outputOf({ stdout, stderr: '' })).toEqual([path.join(cwd, 'drytrace.config.mjs'), 1])
  })

  it.each([
    [
      'a mistake in a rule, by the line of its name',
      `export default {\n  version: 1,\n  rules: [\n    { name: 'a', match: { system: 'pg' }, verdict: 'block' },\n    { name: "b",\n      match: { system: 'http' }, verdict: 'block' },\n  ],\n}\n`,
      'drytrace.config.mjs:5: rule "b": rules.1.match.host: host is required for http rules',
    ],
    [
      'an unknown field',
      `export default {\n  version: 1,\n  timeout: 3,\n}\n`,
      'drytrace.config.mjs:3: timeout: unknown field; remove it or check its spelling',
    ],
    [
      'an unknown template',
      `export default {\n  version: 1,\n  rules: [{ name: 'a', match: { system: 'http', host: 'x' }, respond: { text: '{{x}}' } }],\n}\n`,
      'drytrace.config.mjs:3: rule "a": rules.0.respond.text: unknown template {{x}}: there are syntheticId, syntheticId.uuid, syntheticId.integer, now and request.<field>',
    ],
    [
      'a function for a client that has no HTTP',
      `export default {\n  version: 1,\n  rules: [{ name: 'a', match: { system: 'smtp' }, respond: () => ({}) }],\n}\n`,
      'drytrace.config.mjs:3: rule "a": rules.0.respond: a function answers HTTP requests: system must be http',
    ],
    [
      'no default export',
      'export const policy = {}\n',
      'drytrace.config.mjs:1: export the policy as default: export default { version: 1, rules: [...] }',
    ],
    [
      'a top-level await',
      'await null\nexport default {}\n',
      'drytrace.config.mjs:1: cannot be loaded: a policy is loaded synchronously: remove the top-level await',
    ],
    [
      'an error of its own',
      `const a = 1\nthrow new Error('no secret')\nexport default a\n`,
      'drytrace.config.mjs:2: cannot be loaded: no secret',
    ],
    [
      'no JavaScript',
      'export default {\n  version 1\n}\n',
      'drytrace.config.mjs:1: cannot be loaded: Unexpected number (node --check drytrace.config.mjs shows where)',
    ],
  ])('%s is refused with file, line and rule', (_, body, expected) => {
    expect(problems(body)).toEqual([expected])
  })

  it('that is wrong refuses dry runs and leaves live traffic alone', async () => {
    const cwd = scratchTree(module('export default { version: 2 }\n'))
    const source = `import http from 'node:http'
      const server = http.createServer((_, response) => response.end('live')).listen(0, '127.0.0.1', async () => {
        const url = 'http://127.0.0.1:' + server.address().port
        const { dryRun } = await import(${JSON.stringify(INDEX_URL)})
        const refused = await dryRun({}, () => 'ran').catch((error) => error.code + ' ' + error.message)
        const live = await fetch(url, { method: 'POST', body: 'x' }).then((response) => response.text())
        console.log('OUT ' + JSON.stringify([refused, live]))
        server.close()
      })`
    const finished = await runNode({ register: true, cwd, source })
    expect(outputOf(finished)).toEqual([
      expect.stringMatching(/^DRY_GATE_CLOSED .*drytrace\.config\.mjs:1: version: /),
      'live',
    ])
  })
})
